"""Which files make a configuration: real directories, links and rights."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from balancer.config import ConfigError, load_config
from balancer.config.files import FILES_MAX, SIZE_MAX, folder, sources
from balancer.config.problems import Problems

MAIN = "providers: {openai: {base_url: https://api.openai.com/v1, credential: {file: keys/openai}}}\n"
MODEL = "models: {team/NAME: {endpoints: [{provider: openai, model: NAME}]}}\n"

Put = Callable[..., Path]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Write a file below the test's folder, with rights that do not depend on who runs the tests."""

    def write(name: str, text: str = "", *, mode: int = 0o644) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.parent.chmod(0o755)
        path.write_text(text)
        path.chmod(mode)
        return path

    return write


def model(name: str) -> str:
    return MODEL.replace("NAME", name)


def told(path: Path) -> list[str]:
    """What is wrong with a configuration, below its folder."""
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return [line.replace(f"{path.parent}/", "") for line in str(caught.value).splitlines()]


def read(path: Path) -> list[str]:
    """The names of the files that are read, below their folder."""
    problems = Problems(str(path))
    found = sources(path, problems)
    assert not problems, str(problems.error())
    return [os.path.relpath(each.name, path.parent) for each in found]


def test_everything_beside_the_file_is_read_in_the_order_of_names(put: Put) -> None:
    main = put("balancer.yaml", MAIN)
    for name in ("20-b.yml", "10-a.yaml", "30-c.json"):
        put(f"balancer.d/{name}", model(name[3]))
    assert read(main) == [
        "balancer.yaml",
        *(f"balancer.d/{each}" for each in ("10-a.yaml", "20-b.yml", "30-c.json")),
    ]
    config = load_config(main)
    assert list(config.models) == ["team/a", "team/b", "team/c"]
    assert config.files == tuple(str(main.parent / each) for each in read(main))


@pytest.mark.parametrize(
    "name",
    [
        ".x.yaml",
        "x.yaml~",
        "x.yaml.swp",
        ".#x.yaml",
        "#x.yaml#",
        "x.yaml.dpkg-old",
        "x.bak",
        "balancer.schema.json",
    ],
)
def test_hidden_files_backups_and_schemas_are_left_out(put: Put, name: str) -> None:
    main = put("balancer.yaml", MAIN + model("a"))
    put(f"balancer.d/{name}", "nonsense: {")
    assert read(main) == ["balancer.yaml"]
    assert load_config(main).files == (str(main),)


@pytest.mark.parametrize(("main", "directory"), [("b.prod.yaml", "b.prod.d"), ("b", "b.d"), ("b.json", "b.d")])
def test_the_directory_bears_the_name_of_the_file(put: Put, main: str, directory: str) -> None:
    put(f"{directory}/a.yaml", "log: {level: debug}")
    assert read(put(main, MAIN + model("a"))) == [main, f"{directory}/a.yaml"]


def test_a_file_that_is_named_like_a_directory_of_files_is_one_file(put: Put) -> None:
    assert read(put("conf.d", MAIN + model("a"))) == ["conf.d"]


def test_a_directory_may_be_named_itself_and_has_no_directories_of_its_own(put: Put) -> None:
    put("conf/a.yaml", MAIN)
    place = put("conf/b.yaml", model("a")).parent
    (place / "a.d").mkdir()
    (place / "a.d" / "c.yaml").write_text("nonsense: {")
    assert read(place) == ["conf/a.yaml", "conf/b.yaml"]
    assert load_config(place).models.keys() == {"team/a"}


def test_what_is_missing_in_a_directory_is_missing_in_no_file_of_it(put: Put) -> None:
    place = put("conf/a.yaml", MAIN).parent
    put("conf/b.yaml", "log: {level: info}")
    assert told(place) == ["conf: models: missing; give what can be asked for, by id"]


@pytest.mark.parametrize("name", [None, "balancer.schema.json", ".balancer.yaml"])
def test_a_directory_without_files_says_so(put: Put, tmp_path: Path, name: str | None) -> None:
    (tmp_path / "conf").mkdir(mode=0o755)
    if name is not None:
        put(f"conf/{name}")
    expected = "conf: holds no file that ends in .yaml, .yml, .json; put one there, or name a file"
    assert told(tmp_path / "conf") == [expected]


def kubernetes(place: Path, version: str, files: dict[str, str]) -> None:
    """Mount a ConfigMap, or swap it: real files in a hidden directory, one link to that, and links through it."""
    held = place / f"..{version}"
    held.mkdir()
    held.chmod(0o755)
    for name, text in files.items():
        (held / name).write_text(text)
        (held / name).chmod(0o644)
        if not (place / name).is_symlink():
            (place / name).symlink_to(f"..data/{name}")
    (place / "..data_tmp").symlink_to(held.name)
    (place / "..data_tmp").rename(place / "..data")


def test_a_directory_of_kubernetes_is_read_through_its_links_and_once(put: Put, tmp_path: Path) -> None:
    place = tmp_path / "conf"
    place.mkdir(mode=0o755)
    kubernetes(place, "2026_1", {"main.yaml": MAIN, "a.yaml": model("a")})
    assert read(place) == ["conf/a.yaml", "conf/main.yaml"]
    kubernetes(place, "2026_2", {"main.yaml": MAIN, "a.yaml": model("b")})
    assert load_config(place).models.keys() == {"team/b"}


def test_a_directory_that_is_swapped_while_it_is_read_is_of_one_time(tmp_path: Path) -> None:
    place = tmp_path / "conf"
    place.mkdir(mode=0o755)
    versions = [{f"{each}.yaml": f"log: {{level: {word}}}\n" for each in "abcdef"} for word in ("info", "debug")]
    kubernetes(place, "0", versions[0])
    stop = threading.Event()

    def swap() -> None:
        for number in range(1, 400):
            kubernetes(place, str(number), versions[number % 2])
            if stop.wait(0.002):
                return

    swapping = threading.Thread(target=swap)
    swapping.start()
    whole = 0
    try:
        while swapping.is_alive() and whole < 100:
            problems = Problems("conf")
            texts = {each.text for each in sources(place, problems)}
            assert len(texts) <= 1
            whole += len(texts)
    finally:
        stop.set()
        swapping.join()
    assert whole > 0


def test_what_changes_all_the_time_is_told_and_not_guessed(put: Put) -> None:
    changing = put("conf/0000.yaml", MAIN)
    place = changing.parent
    for number in range(1, FILES_MAX):  # so many that each reading meets a change
        os.link(changing, place / f"{number:04}.yaml")
    stop = threading.Event()

    def change() -> None:
        times = count(1)
        while not stop.is_set():
            os.utime(changing, ns=(0, next(times)))

    changes = threading.Thread(target=change)
    changes.start()
    try:
        problems = Problems("conf")
        assert sources(place, problems) == ()
    finally:
        stop.set()
        changes.join()
    assert str(problems.error()) == f"{place}: changes again and again while it is read; try again when it rests"


def test_a_link_that_leads_nowhere_a_pipe_a_socket_and_a_directory_are_told(put: Put, tmp_path: Path) -> None:
    main = put("balancer.yaml", MAIN + model("a"))
    place = put("balancer.d/good.yaml", "log: {level: info}").parent
    (place / "a.yaml").symlink_to("nowhere")
    os.mkfifo(place / "b.yaml")
    (place / "c.yaml").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place / "d.yaml"))
        assert told(main) == [
            "balancer.d/a.yaml: No such file or directory; make it readable, or remove it",
            "balancer.d/b.yaml: not a regular file; use a file, or another name",
            "balancer.d/c.yaml: not a regular file; use a file, or another name",
            "balancer.d/d.yaml: No such device or address; make it readable, or remove it",
        ]


def test_a_name_that_does_not_print_is_refused_and_cannot_forge_a_line(put: Put) -> None:
    main = put("balancer.yaml", MAIN + model("a"))
    put("balancer.d/a.yaml", "log: {level: info}")
    for name in ("b\nbalancer.yaml: good.yaml", "c\udcff.yaml"):
        put(f"balancer.d/{name}", "log: {level: info}")
    lines = told(main)
    assert len(lines) == 2
    assert all(
        line.endswith("a name that does not print; rename it, with letters, digits, - and _") for line in lines
    )


def test_what_stands_in_the_place_of_the_directory_is_told(put: Put) -> None:
    main = put("balancer.yaml", MAIN + model("a"))
    beside = put("balancer.d", "log: {level: info}")
    assert told(main) == ["balancer.d: not a directory; rename it, or make it one"]
    beside.unlink()
    beside.symlink_to("nowhere")
    assert told(main) == ["balancer.d: not a directory; rename it, or make it one"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_we_may_not_read_is_told(put: Put) -> None:
    main = put("balancer.yaml", MAIN + model("a"))
    place = put("balancer.d/a.yaml", "log: {level: info}", mode=0).parent
    assert told(main) == ["balancer.d/a.yaml: Permission denied; make it readable, or remove it"]
    place.chmod(0)
    try:
        assert told(main) == ["balancer.d: Permission denied; use a directory that can be read"]
    finally:
        place.chmod(0o755)


def test_where_everybody_may_write_nothing_is_read(put: Put) -> None:
    main = put("balancer.yaml", MAIN + model("a"))
    place = put("balancer.d/a.yaml", "log: {level: info}").parent
    place.chmod(0o777)
    why = "everybody may write there, and have any key sent anywhere; take that right away: chmod o-w"
    assert told(main) == [f"balancer.d: {why}"]
    assert told(place) == [f"balancer.d: {why}"]
    place.chmod(0o775)  # a group's own is the group's affair
    assert len(load_config(main).files) == 2
    put("balancer.d/b.yaml", mode=0o666)
    assert told(main) == [f"balancer.d/b.yaml: {why.replace('there', 'it')}"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a directory away")
def test_a_directory_of_a_stranger_beside_our_file_is_not_read(put: Put) -> None:
    main = put("balancer.yaml", MAIN + model("a"))
    place = put("balancer.d/a.yaml", "log: {level: info}").parent
    os.chown(place / "a.yaml", 12345, 12345)  # a team's own file, in a directory of ours
    assert len(load_config(main).files) == 2
    os.chown(place, 12345, 12345)
    found = f"belongs neither to root, nor to us, nor to the owner of {main}".replace(f"{main.parent}/", "")
    assert told(main) == [f"balancer.d: {found}; give it to one of them, or remove it"]
    os.chown(main, 12345, 12345)
    assert len(load_config(main).files) == 2


def test_there_may_be_a_thousand_files_and_no_more(put: Put) -> None:
    main = put("balancer.yaml", MAIN + model("a"))
    place = put("balancer.d/0000.yaml").parent
    for number in range(1, FILES_MAX):
        os.link(place / "0000.yaml", place / f"{number:04}.yaml")
    assert len(read(main)) == FILES_MAX + 1
    put("balancer.d/one-more.yaml")
    assert told(main) == [f"balancer.d: more than {FILES_MAX} files; use fewer"]


def test_all_files_together_are_as_long_as_one_may_be(put: Put) -> None:
    main = put("balancer.yaml", MAIN + model("a"))
    for name in "abc":
        put(f"balancer.d/{name}.yaml", ("#" * 1023 + "\n") * (SIZE_MAX // 2048))
    assert told(main) == [
        "balancer.d/b.yaml: longer than 16 MiB together with the files before it; use shorter files"
    ]


def test_a_file_that_is_not_utf_8_is_told_at_its_line(put: Put) -> None:
    main = put("balancer.yaml", MAIN + model("a"))
    put("balancer.d/a.yaml").write_bytes(b"log:\n  level: \xff\n")
    put("balancer.d/b.yaml").write_bytes(b"\xef\xbb\xbflog: {level: info}\n")
    assert told(main) == ["balancer.d/a.yaml:2: not UTF-8; save the file as UTF-8"]


def test_a_pipe_nobody_writes_into_keeps_nobody_waiting_and_a_device_is_no_file_either(tmp_path: Path) -> None:
    pipe = tmp_path / "balancer.yaml"
    os.mkfifo(pipe)
    assert told(pipe) == ["balancer.yaml: not a regular file; use a file that can be read"]
    with os.fdopen(os.open(pipe, os.O_RDWR), "wb") as writing:
        writing.write((MAIN + model("a")).encode())
        writing.flush()
        assert told(pipe) == ["balancer.yaml: not a regular file; use a file that can be read"]
    assert told(Path("/dev/zero")) == ["zero: not a regular file; use a file that can be read"]


def test_relative_paths_begin_beside_the_main_file_wherever_they_are_written(put: Put, tmp_path: Path) -> None:
    put("keys/openai", "sk-1\n")
    main = put("balancer.yaml", model("a"))
    place = put("balancer.d/a.yaml", MAIN + "probe: {ca_file: keys/ca.pem}\n").parent
    config = load_config(main, environ={})
    (secret,) = config.credentials.values()
    assert secret is not None
    assert secret.reveal() == "sk-1"
    assert config.probes["team/a@openai"].ca_file == str(tmp_path / "keys" / "ca.pem")
    put("balancer.d/b.yaml", model("b"))
    named = load_config(place, environ={})
    assert (
        named.endpoints["team/b@openai"].misconfigured == "credential file keys/openai: No such file or directory"
    )
    assert named.probes["team/b@openai"].ca_file == str(place / "keys" / "ca.pem")
    assert (folder(main), folder(place)) == (tmp_path, place)
