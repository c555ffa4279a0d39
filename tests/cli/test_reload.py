"""What somebody reads who reloads: what changed, what that broke, and every problem of what is refused."""


async def test_reload_takes_a_good_file_and_refuses_a_bad_one_whole(command, daemon, config, tmp_path):
    running = await daemon(config)
    path = next(tmp_path.glob("balancer-*.yaml"))
    good = path.read_text()
    path.write_text(good.replace("[large]", "[large, big]"))
    ran = await command("reload", "--url", running.url)
    assert (ran.status, ran.out) == (0, "reloaded; generation 2\nchanged  models.acme/large: aliases\n")
    assert (await command("best", "big", "--url", running.url)).status == 0
    path.write_text(good.replace("model: large", "modle: large", 1).replace("prompt: 1", "prompt: -1"))
    ran = await command("reload", "--url", running.url)
    assert ran.status == 1
    assert "did you mean model?" in ran.out
    assert len(ran.out.splitlines()) >= 3
    assert (await command("best", "big", "--url", running.url)).status == 0


async def test_an_endpoint_that_a_reload_takes_the_key_from_is_told_with_the_reason(
    command, daemon, config, tmp_path
):
    key = tmp_path / "keys" / "keyed"
    key.parent.mkdir()
    key.write_text("a-key-of-a-test\n")
    running = await daemon(config.replace("{env: SOME_API_KEY}", "{file: keys/keyed}"))
    ended = "reloaded; generation {}\nchanged  endpoints.acme/large@keyed: credential\n"
    key.write_text("\n")
    ran = await command("reload", "--url", running.url)
    lost = "misconfigured endpoints.acme/large@keyed: credential file keys/keyed is empty\n"
    assert (ran.status, ran.out) == (0, ended.format(2) + lost)
    loaded = await running.told("config.loaded")
    assert loaded[-1]["misconfigured"] == ["endpoints.acme/large@keyed: credential file keys/keyed is empty"]
    key.write_text("another-key-of-a-test\n")
    ran = await command("reload", "--url", running.url)
    assert (ran.status, ran.out) == (0, ended.format(3))
