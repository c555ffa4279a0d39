"""Opening a connection, and nothing else."""

from balancer.core.outcome import Outcome


async def test_a_port_that_accepts_is_a_shallow_success_and_is_sent_nothing(lab):
    heard = []

    async def listen(reader, writer):
        heard.append(await reader.read())

    server = await lab.serve_raw(listen)
    result = await lab.probe(f"https://127.0.0.1:{server.port}/v1", "tcp", secret="key")
    await lab.until(lambda: len(heard) == 1)
    assert heard == [b""]
    assert result.outcome == Outcome(kind="success", shallow=True)
    assert set(result.phases) == {"connect"}
    assert result.address == "127.0.0.1"
    assert lab.connections.idle == 0


async def test_a_port_that_refuses_is_connect(lab):
    result = await lab.probe("http://127.0.0.1:1", "tcp")
    assert (result.outcome.kind, result.outcome.shallow) == ("connect", True)
