"""`balancer simulate` as a stranger runs it: one answer for any number of processes, and every wrong use told."""

import asyncio
import contextlib
import json
import os
import pty
import signal
import sys
from pathlib import Path

import pytest

from balancer.cli import main
from balancer.simulation.measures import MEASURES
from balancer.simulation.policies import POLICIES

ROOT = Path(__file__).parents[2]


WORLD = """
duration: 1h
models:
  a/x:
    endpoints:
      - {tag: dear, price: 2, success: 0.99}
      - {tag: cheap, price: 1, success: 0.98, episodes: [{at: 30m, success: 0.2}]}
  b/y:
    endpoints:
      - {tag: dear, price: 2, success: 0.99}
      - {tag: cheap, price: 1, success: 0.98}
"""
"""Two models with a cheap endpoint each; that of `a/x` is down for the second half."""

HISTORY = "ts,model,tag,up5m,p_in,p_out\n" + "".join(
    f"2026-08-07T{poll // 4:02}:{poll % 4 * 15:02}:00Z,{model},{tag},99,{price},{price}\n"
    for poll in range(9)
    for model in ("a/x", "b/y", "c/z")
    for tag, price in (("dear", 2), ("cheap", 1))
)
"""Two hours of three models in which nothing happens."""

CROWD = HISTORY.splitlines()[0] + "".join(
    f"\n2026-08-07T{hour:02}:00:00Z,a/x,p{number},99,1,1" for hour in (0, 1) for number in range(4097)
)

INVENTED = ("--trace", "world.yaml")
RECORDED = ("--trace", "week.csv")
THREE = ("--policy", "balancer", "--policy", "two_memory", "--policy", "cheapest")


@pytest.fixture(autouse=True)
def traces(tmp_path):
    (tmp_path / "world.yaml").write_text(WORLD)
    (tmp_path / "week.csv").write_text(HISTORY)


@pytest.fixture
def simulate(tmp_path, capsys):
    """Run the verb in this process, in the folder of the traces: most of what is asked here needs no other one."""

    def run(*words):
        with contextlib.chdir(tmp_path):
            try:
                status = main(["simulate", *words, "--jobs", "1"])
            except SystemExit as end:
                status = end.code
        return (status, *capsys.readouterr())

    return run


# ---- the answer ------------------------------------------------------------------------------------------


async def test_the_json_is_the_same_in_any_process_with_any_number_of_them(command):
    words = ("simulate", *INVENTED, *THREE, "--seeds", "2", "--limits", "--json")
    one, other = await asyncio.gather(
        command(*words, "--jobs", "1", environ={"PYTHONHASHSEED": "1"}),
        command(*words, "--jobs", "2", environ={"PYTHONHASHSEED": "2"}),
    )
    assert (one.status, one.err) == (0, "")
    assert (other.status, other.err) == (0, "")
    assert one.out == other.out
    told = json.loads(one.out)
    assert [policy["name"] for policy in told["policies"]] == ["balancer", "two_memory", "cheapest"]
    assert told["world"]["models"] == ["a/x", "b/y"]
    assert told["options"]["seeds"] == [1, 2]
    assert set(told["policies"][0]) == {"name", "knows", "models", *MEASURES}
    cheapest = told["policies"][2]
    assert cheapest["models"]["a/x"]["lost_at_1"] > 2 * cheapest["models"]["b/y"]["lost_at_1"]


def test_the_table_has_a_line_a_policy_and_the_differences_under_it(simulate):
    status, out, err = simulate(*INVENTED, *THREE, "--front", "2,15")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("world.yaml: 2 models, 4 endpoints, 0.04 days, ")
    assert lines[0].endswith(" requests a policy, 6 a minute and model, probes every 1m, 3 tries, seed 1")
    assert lines[2].split()[:3] == ["POLICY", "LOST@1", "LOST@2"]
    names = {"balancer", "balancer:failure_price=2", "two_memory", "cheapest"}  # 15 is what `balancer` has anyway
    assert {line.split()[0] for line in lines[3:7]} == names
    assert lines[8].startswith(
        "Lost more (+) or fewer (−) per 10,000 requests than two_memory with the same dice, "
    )
    assert {line.split()[0] for line in lines[10:13]} == names - {"two_memory"}
    assert "elow the front of " in lines[14]


@pytest.mark.parametrize(
    ("policies", "front", "run"),
    [
        (["balancer:failure_price=15"], "15,5", ["balancer:failure_price=15", "balancer:failure_price=5"]),
        (["balancer:failure_price=5.0", "cheapest"], "5", ["balancer:failure_price=5.0", "cheapest"]),
        (["balancer", "balancer:failure_price=15"], "15.0", ["balancer"]),
        (
            ["balancer:failure_price=15,health.hold=5s"],
            "15",
            ["balancer:failure_price=15,health.hold=5s", "balancer"],
        ),
    ],
)
def test_no_policy_runs_twice_under_two_names(simulate, policies, front, run):
    words = [word for name in policies for word in ("--policy", name)]
    status, out, _ = simulate(*INVENTED, *words, "--front", front, "--rate", "1/m", "--json")
    assert status == 0
    told = json.loads(out)
    assert [each["name"] for each in told["policies"]] == run
    assert {each["policy"] for each in told["front"]["points"]} <= {name for name in run if "hold" not in name}


def test_all_policies_are_compared_unless_some_are_named(simulate):
    _, out, _ = simulate(*INVENTED, "--rate", "1/m", "--probe-every", "off", "--json")
    told = json.loads(out)
    assert [policy["name"] for policy in told["policies"]] == list(POLICIES)
    assert told["options"] == {
        "rate": pytest.approx(1 / 60, abs=1e-6), "probe_every": None, "tries": 3, "seeds": [1], "limits": False,
        "arrivals": None, "reference": "two_memory",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "models", "days"),
    [
        ((), ["a/x", "b/y", "c/z"], 1 / 12),
        (("--models", "all", "--days", "0.05"), ["a/x", "b/y", "c/z"], 0.05),
        (("--models", "c/z,a/x"), ["c/z", "a/x"], 1 / 12),
        (("--models", "1"), ["a/x"], 1 / 12),
    ],
)
def test_of_a_recorded_world_all_or_a_part_is_taken(simulate, words, models, days):
    _, out, _ = simulate(*RECORDED, "--policy", "cheapest", *words, "--json")
    told = json.loads(out)
    assert (told["world"]["name"], told["world"]["models"]) == ("week.csv", models)
    assert told["world"]["days"] == pytest.approx(days, abs=1e-6)
    assert told["policies"][0]["lost_at_1"]["mean"] < 500


def test_the_first_policy_is_the_reference_where_the_usual_one_is_not_there(simulate):
    _, out, _ = simulate(*INVENTED, "--policy", "uniform", "--policy", "cheapest", "--json")
    assert [pair["reference"] for pair in json.loads(out)["paired"]] == ["uniform"]


def test_arrivals_are_those_of_a_recording_as_many_as_a_models_weight_says(simulate, tmp_path):
    (tmp_path / "asked.csv").write_text("t_s\n0\n1\n2\n60\n")
    (tmp_path / "world.yaml").write_text(WORLD.replace("b/y:", "b/y:\n    weight: 3"))
    words = ("--policy", "cheapest", "--arrivals", "asked.csv", "--rate", "1/m", "--tries", "1", "--json")
    _, out, _ = simulate(*INVENTED, *words)
    told = json.loads(out)
    assert told["options"]["arrivals"] == "asked.csv"
    assert told["world"]["requests"] == pytest.approx(60 + 180, abs=4)
    assert told["policies"][0]["lost_at_2"] is None


def test_a_picture_is_written(simulate, tmp_path):
    status, _, err = simulate(*INVENTED, "--policy", "cheapest", "--policy", "oracle", "--plot", "loss.png")
    assert (status, err) == (0, "")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_written_is_a_problem_after_the_answer(simulate, tmp_path):
    (tmp_path / "loss.png").mkdir()
    status, out, err = simulate(*INVENTED, "--policy", "cheapest", "--plot", "loss.png")
    assert (status, err) == (1, "balancer simulate: loss.png: Is a directory\n")
    assert "cheapest" in out


async def test_without_matplotlib_nothing_runs_and_the_extra_is_named(command, tmp_path):
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "matplotlib.py").write_text("raise ImportError('not here')")
    paths = os.pathsep.join([str(tmp_path / "hidden"), str(ROOT)])
    ran = await command("simulate", *INVENTED, "--plot", "loss.png", environ={"PYTHONPATH": paths})
    assert (ran.status, ran.out) == (1, "")
    assert ran.err == "balancer simulate: --plot needs matplotlib (not here); pip install 'balancer[plot]'\n"


# ---- wrong use -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "the following arguments are required: --trace"),
        (("--trace", "week.txt"), "'week.txt' is no world; use a recorded one (.csv, .csv.gz)"),
        (("--policy", "balanser"), "'balanser' is no policy; did you mean balancer?"),
        (("--policy", "balancer:failure_prize=2"), "failure_prize: unknown option; did you mean failure_price?"),
        (("--policy", "two_memory:failure_price=dear"), "failure_price: 'dear' is no number"),
        (("--models", "0"), "'0' is out of range; use a whole number"),
        (("--models", "a/x,,b/y"), "'a/x,,b/y' has an empty name; use a number, all, or names with commas"),
        (("--days", "-1"), "'-1' is no number of days; use one above 0"),
        (("--days", "nan"), "'nan' is no number of days"),
        (("--rate", "6"), "'6' is no rate; use requests a second, minute, hour or day: 0.1/s, 6/m"),
        (("--rate", "0/s"), "'0/s' is no rate"),
        (("--probe-every", "60"), "'60' is no time between probes; use 1s or more, such as 60s, or off"),
        (("--probe-every", "10ms"), "'10ms' is no time between probes"),
        (("--tries", "11"), "'11' is out of range; use a whole number, 1 to 10"),
        (("--seed", "lucky"), "invalid int value: 'lucky'"),
        (("--seeds", "0"), "'0' is out of range; use a whole number, 1 to 1000"),
        (("--front", "2,cheap"), "'2,cheap' is no list of prices; use numbers from 0 up, such as 2,5,15,40"),
        (("--front", "-2"), "'-2' is no list of prices"),
        (("--front", "2,1e7"), "failure_price: 1e+07 is out of range; use a number, 0 to 1000000"),
        (("--policy", "balancer:health.hold=10"), "health.hold: 10 is a number without a unit; use 50ms to 1h"),
        (("--jobs", "two"), "'two' is out of range; use a whole number"),
        (("--plot", "loss.jpg"), "'loss.jpg' is no picture's name; use one that ends in .png"),
        (("--plot", "nowhere/loss.png"), "'nowhere/loss.png': there is no folder 'nowhere'"),
        (
            ("--reference", "oracle", *THREE),
            "--reference oracle is not among the policies; use balancer, two_memory",
        ),
        (("--trace", "world.yaml", "--days", "1"), "--days is for recorded worlds; world.yaml is an invented one"),
    ],
)
def test_wrong_options_are_told_at_once(simulate, words, told):
    begin = () if not words or "--trace" in words else RECORDED
    # "=" keeps a value that begins with a dash apart from an option.
    words = (f"{words[0]}={words[1]}", *words[2:]) if len(words) == 2 else words
    status, out, err = simulate(*begin, *words)
    assert (status, out) == (2, "")
    assert told in err


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("none.csv", None, "none.csv: No such file or directory"),
        ("none.yaml", None, "none.yaml: No such file or directory; use a file that can be read"),
        ("bad.csv", "ts,model\n", "bad.csv:1: "),
        ("bad.yaml", "models: {}", "bad.yaml:1: "),
        ("week.csv", HISTORY, "there is no model d/x; did you mean"),
        ("crowd.csv", CROWD, "crowd.csv: 4097 endpoints; use 4096 or fewer"),
    ],
)
def test_a_world_that_cannot_be_read_is_a_problem_and_not_wrong_use(simulate, tmp_path, name, text, told):
    if text is not None:
        (tmp_path / name).write_text(text)
    status, out, err = simulate("--trace", name, *(("--models", "d/x") if name == "week.csv" else ()))
    assert (status, out) == (1, "")
    assert all(line.startswith("balancer simulate: ") for line in err.splitlines())
    assert told in err


def test_the_help_names_every_policy(simulate):
    status, out, _ = simulate("--help")
    assert status == 0
    assert all(f"\n{name} " in out for name in POLICIES)


# ---- a terminal ------------------------------------------------------------------------------------------


def workers(parent):
    """The processes that a process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if fields[1] == str(parent) and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


async def until(condition):
    async with asyncio.timeout(20):
        while not (found := condition()):
            await asyncio.sleep(0.02)
    return found


@pytest.mark.parametrize("moment", [b" 0 %", b" left"], ids=["as workers begin", "as they work"])
async def test_an_interrupt_ends_every_process_and_clears_the_bar(tmp_path, moment):
    (tmp_path / "world.yaml").write_text(WORLD.replace("1h", "40h"))
    front, back = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "balancer", "simulate", *INVENTED, *THREE, "--rate", "1/s", "--jobs", "2"),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=back,
        start_new_session=True,
    )
    os.close(back)
    os.set_blocking(front, False)
    shown = b""

    def drawn():
        nonlocal shown
        with contextlib.suppress(OSError):  # nothing yet, or nobody there any more
            shown += os.read(front, 65_536)
        return moment in shown

    try:
        await until(drawn)
        begun = workers(process.pid)
        assert len(begun) >= 2
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        out, _ = await asyncio.wait_for(process.communicate(), 20)
        assert (process.returncode, out) == (130, b"")
        await until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in begun))
        drawn()
        assert shown.endswith(b"\r\x1b[K")
        assert b"Traceback" not in shown
    finally:
        os.close(front)
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_workers_end_with_a_process_that_was_killed(tmp_path):
    (tmp_path / "world.yaml").write_text(WORLD.replace("1h", "40h"))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "balancer", "simulate", *INVENTED, *THREE, "--rate", "1/s", "--jobs", "2"),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        begun = await until(lambda: len(found := workers(process.pid)) >= 3 and found)  # and multiprocessing's own
    finally:
        process.kill()
        await process.wait()
    await until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in begun))
