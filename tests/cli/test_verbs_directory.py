"""The verbs with a configuration of several files."""

import json
import sys


def spread(folder, files):
    """Write some files, open to nobody else however the tests are run."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.parent.chmod(0o755)
        path.write_text(text)
        path.chmod(0o644)


PROVIDERS = 'providers: {down: {base_url: "http://127.0.0.1:9/v1"}}\n'
MODEL = "models: {acme/NAME: {endpoints: [{provider: down, model: NAME, probe: {kind: none}}]}}\n"


async def test_check_counts_the_files_and_names_the_one_with_the_mistake(command, tmp_path):
    files = {
        "balancer.yaml": PROVIDERS,
        "balancer.d/a.yaml": MODEL.replace("NAME", "a"),
        "balancer.d/b.yaml": MODEL.replace("NAME", "b"),
    }
    spread(tmp_path, files)
    ran = await command("check")
    assert ran.out == "balancer.yaml: good; 2 models, 2 endpoints at 1 provider in 3 files\n"
    assert (ran.status, ran.err) == (0, "")
    assert json.loads((await command("check", "--json")).out)["files"] == list(files)
    spread(tmp_path, {"balancer.d/b.yaml": "\n" + MODEL.replace("NAME", "a")})
    ran = await command("check")
    assert ran.status == 1
    assert ran.out.startswith(
        "balancer.d/b.yaml:2: models.acme/a.endpoints: given in balancer.d/a.yaml:1 too; keep one"
    )


async def test_every_verb_takes_a_directory_and_a_reload_takes_a_new_file(command, program, free_port, tmp_path):
    port = free_port()
    files = {
        "conf/main.yaml": f"listen: 127.0.0.1:{port}\n{PROVIDERS}",
        "conf/a.yaml": MODEL.replace("NAME", "a"),
    }
    spread(tmp_path, files)
    conf = tmp_path / "conf"
    argv = (sys.executable, "-m", "balancer", "run", "-c", str(conf))
    await program("balancer", f"http://127.0.0.1:{port}", *argv)
    spread(tmp_path, {"conf/b.yaml": MODEL.replace("NAME", "b")})
    assert (await command("reload", "-c", "conf")).status == 0
    assert "acme/b" in (await command("status", "-c", "conf")).out
    spread(tmp_path, {"conf/c.yaml": "listen: 127.0.0.1:1\n"})
    ran = await command("reload", "--url", f"http://127.0.0.1:{port}")
    assert ran.status == 1
    assert f"{conf}/main.yaml:1: listen: given in {conf}/c.yaml:1 too; keep one of them" in ran.out
