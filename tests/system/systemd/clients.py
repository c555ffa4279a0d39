"""Clients for the machine under test, which has nothing but Python: each a short program.

`ask METHOD PATH [BODY]` prints the status and the answer; `seen` the keys that were shown to the provider.
`load SECONDS RATE` asks for the best provider, half of it on new connections and half on two kept ones; it prints
`begun`, and at the end what became of every request. A kept connection that the other side closed while we wrote is
replaced and its request tried once more, as every pool of connections does; a new connection never is.
`reload TIMES` changes the configuration, lets systemd reload, asks at once, and prints what was in force each time.
`hold` opens connections, one of them within a request, prints `held`, and waits until its standard input ends.
"""

import http.client
import json
import pathlib
import socket
import subprocess
import sys
import threading
import time

ADDRESS = ("127.0.0.1", 8790)
PROVIDER = ("127.0.0.1", 9000)
PATIENCE = 20.0  # s
QUESTION = "/v1/best-provider?model=acme/large"


def ask(method: str, path: str, body: str | None = None, *, at: tuple[str, int] = ADDRESS) -> tuple[int, str]:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection(*at, timeout=PATIENCE)
    try:
        connection.request(
            method, path, body=body, headers={} if body is None else {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def load(seconds: float, rate: float) -> dict[str, object]:
    """Ask at an even pace, whatever the answers take."""
    results: list[tuple[str, float]] = []
    begin = time.monotonic()

    def told(result: str, began: float) -> None:
        results.append((result, time.monotonic() - began))

    def fresh(at: float) -> None:
        time.sleep(max(0.0, at - time.monotonic()))
        began = time.monotonic()
        try:
            told(str(ask("GET", QUESTION)[0]), began)
        except OSError as error:
            told(f"new connection: {error!r}", began)

    def kept(every: float) -> None:
        connection, used = http.client.HTTPConnection(*ADDRESS, timeout=PATIENCE), False
        while time.monotonic() < begin + seconds:
            began = time.monotonic()
            try:
                connection.request("GET", QUESTION)
                answer = connection.getresponse()
                answer.read()
                told(str(answer.status), began)
                used = connection.sock is not None
            except (OSError, http.client.HTTPException) as error:
                told("closed" if used else f"new kept connection: {error!r}", began)
                connection.close()
                if used:
                    used = False
                    continue
            time.sleep(max(0.0, began + every - time.monotonic()))
        connection.close()

    number = int(seconds * rate / 2)
    threads = [threading.Thread(target=fresh, args=(begin + index * 2 / rate,)) for index in range(number)]
    threads += [threading.Thread(target=kept, args=(4 / rate,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    print("begun", flush=True)
    for thread in threads:
        thread.join()
    counts: dict[str, int] = {}
    for result, _ in results:
        counts[result] = counts.get(result, 0) + 1
    return {"counts": counts, "slowest": max(took for _, took in results)}


def reload(times: int) -> list[tuple[int, float]]:
    """Ask on a connection that is open already: a moment later, and who returned too early would not be seen."""
    path = pathlib.Path("/etc/balancer/balancer.yaml")
    config, found = path.read_text(), []
    connection = http.client.HTTPConnection(*ADDRESS, timeout=PATIENCE)
    for turn in range(1, times + 1):
        path.write_text(f"{config}routing: {{valid_for: {turn}s}}\n")
        subprocess.run(["systemctl", "reload", "balancer.service"], check=True)
        connection.request("GET", QUESTION)
        answer = json.load(connection.getresponse())
        found.append((answer["config_generation"], answer["valid_for"]))
    connection.close()
    return found


def hold() -> None:
    """Keep connections open: one that says nothing, one within its request, one after an answer."""
    held = [socket.create_connection(ADDRESS) for _ in range(3)]
    held[1].sendall(b"POST /v1/reports HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n")
    held[1].sendall(b"Content-Length: 1000\r\n\r\n{")
    held[2].sendall(b"GET /-/healthy HTTP/1.1\r\nHost: here\r\n\r\n")
    assert held[2].recv(12) == b"HTTP/1.1 200"
    print("held", flush=True)
    sys.stdin.read()


if sys.argv[1] == "ask":
    print(*ask(*sys.argv[2:]), sep="\n")
elif sys.argv[1] == "seen":
    print(ask("GET", "/seen", at=PROVIDER)[1])
elif sys.argv[1] == "reload":
    print(json.dumps(reload(int(sys.argv[2]))))
elif sys.argv[1] == "load":
    print(json.dumps(load(float(sys.argv[2]), float(sys.argv[3]))))
else:
    hold()
