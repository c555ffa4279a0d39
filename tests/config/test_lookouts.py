"""Status pages and the targets of the self check, dressed as endpoints."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from balancer.config import Config, parse_config
from balancer.config.proxies import Proxies, Proxy
from balancer.config.settings import Lookout, PageSettings, ProbeSettings

TEXT = """
providers:
  a:
    name: Acme
    base_url: https://a.example
    credential: {env: KEY}
    status_page: PAGE
  b: {base_url: "https://b.example"}
models: {x/y: {endpoints: [{provider: a, model: m}, {provider: b, model: m}]}}
probe: {timeout: 7s, ca_file: own.pem, send_headers: {x-who: we}, ip_version: 4, interval: 20s, PROBE}
self_check: CHECK
"""


def config(page: str = "", check: str = "", probe: str = "", **environ: str) -> Config:
    text = TEXT.replace("PAGE", page).replace("CHECK", check).replace("PROBE", probe)
    return parse_config(text, source="t.yaml", environ={"KEY": "sk-secret", **environ})


def page(keys: str) -> Lookout:
    (found,) = config(f"{{url: 'https://status.a.example'{keys}}}").lookouts.values()
    return found


def check(keys: str) -> Lookout:
    (found,) = config(check=f"{{targets: ['https://one.example']{keys}}}").lookouts.values()
    return found


def test_a_status_page_is_one_lookout_of_its_provider() -> None:
    lookouts = config("{url: 'https://status.a.example/?x=1', components: [API, ' Chat ']}").lookouts
    assert list(lookouts) == ["status_page:a"]
    look = lookouts["status_page:a"]
    assert look.endpoint.id == "status_page:a"
    assert (look.endpoint.provider, look.endpoint.tag, look.endpoint.model) == ("a", "a", "")
    assert look.endpoint.base_url == "https://status.a.example/?x=1"
    # Nothing of the top level's probe, which is about endpoints.
    assert look.settings == PageSettings(
        kind="status_page", interval=60.0, suspect_interval=60.0, timeout=10.0, components=("API", " Chat ")
    )


def test_each_target_is_one_lookout_named_by_where_it_is() -> None:
    targets = ["https://one.example/ok", "tcp://192.0.2.1:53", "dns://two.example", "https://one.example/other"]
    lookouts = config(check=f"{{targets: {targets}}}").lookouts
    names = ["self:https://one.example", "self:tcp://192.0.2.1:53", "self:dns://two.example"]
    assert list(lookouts) == [*names, "self:https://one.example#2"]
    assert [look.endpoint.id for look in lookouts.values()] == list(lookouts)
    assert [look.endpoint.base_url for look in lookouts.values()] == targets


def test_what_the_environment_puts_behind_a_host_is_a_secret_and_no_name() -> None:
    held = {"HOST": "status.example", "TOKEN": "tok-123456789", "PART": "part-987654321", "FLAG": "eu"}
    url = "https://${HOST}/${PART}/${FLAG}?key=${TOKEN}"
    lookouts = config(f"{{url: '{url}'}}", f"{{targets: ['{url}']}}", **held).lookouts
    assert list(lookouts) == ["status_page:a", "self:https://status.example"]
    for look in lookouts.values():
        assert {secret.reveal() for secret in look.settings.variables} == {held["TOKEN"], held["PART"]}


def test_of_a_variable_that_holds_the_host_too_what_stands_behind_it_is_a_secret() -> None:
    url = "https://status.example/hook/tok-123456789?key=sec-987654321"
    (look,) = config("{url: '${U}'}", U=url).lookouts.values()
    told = {secret.reveal() for secret in look.settings.variables}
    assert {"tok-123456789", "sec-987654321", "/hook/tok-123456789"} <= told
    assert "status.example" not in told


def test_the_lookouts_of_targets_are_alike_but_for_their_proxies() -> None:
    targets = ["https://one.example/ok", "tcp://192.0.2.1:53", "dns://two.example"]
    lookouts = config(check=f"{{targets: {targets}}}").lookouts
    for target, look in zip(targets, lookouts.values(), strict=False):
        assert look.endpoint.base_url == target
        assert look.endpoint.provider == "self"
        assert look.settings.kind == "self"
        assert (look.settings.interval, look.settings.suspect_interval, look.settings.timeout) == (10.0, 10.0, 3.0)
        assert look.settings.reuse is False
    # All of them at once: one that hangs must not keep the others from saying that we are online.
    assert all(look.settings.concurrency >= len(lookouts) for look in lookouts.values())


def test_they_are_no_endpoints_and_hold_no_credential() -> None:
    whole = config("{url: 'https://status.a.example'}", "{targets: ['dns://one.example']}")
    assert set(whole.lookouts) == {"status_page:a", "self:dns://one.example"}
    assert not set(whole.lookouts) & {*whole.endpoints, *whole.probes, *whole.credentials}
    assert "self" not in whole.providers
    assert "sk-secret" not in repr(whole.lookouts)


@pytest.mark.parametrize("look", [page, check], ids=["page", "check"])
@pytest.mark.parametrize(
    ("keys", "interval", "timeout"),
    [
        (", interval: 2s", 2.0, 2.0),
        (", interval: 1d, timeout: 5m", 86_400.0, 300.0),
        (", interval: 4s, timeout: 4s", 4.0, 4.0),
        (", timeout: 50ms", None, 0.05),
    ],
)
def test_a_timeout_that_nobody_gave_shrinks_with_the_interval(
    look: Callable[[str], Lookout], keys: str, interval: float | None, timeout: float
) -> None:
    settings = look(keys).settings
    assert settings.timeout == timeout
    assert settings.interval == settings.suspect_interval
    assert settings.interval == interval or interval is None


def test_the_environments_proxies_lead_to_addresses_and_not_to_bare_ports_and_names() -> None:
    targets = ["https://one.example", "http://one.example", "tcp://one.example:443", "dns://one.example"]
    pages, checks = "{url: 'https://status.a.example'}", f"{{targets: {targets}}}"
    lookouts = config(pages, checks, HTTPS_PROXY="http://near:3128").lookouts
    near = Proxies(https=Proxy(host="near", port=3128))
    proxies = {key: look.settings.proxy for key, look in lookouts.items()}
    assert proxies == {
        "status_page:a": near,
        "self:https://one.example": near,
        "self:http://one.example": near,
        "self:tcp://one.example:443": Proxies(),
        "self:dns://one.example": Proxies(),
    }
    direct = config(pages, checks, "proxy: false", HTTPS_PROXY="http://near:3128").lookouts
    assert {look.settings.proxy for look in direct.values()} == {Proxies()}


def test_they_are_asked_as_without_any_settings_otherwise() -> None:
    settings = check("").settings
    assert settings == ProbeSettings(
        kind="self", interval=10.0, suspect_interval=10.0, timeout=3.0, concurrency=1, reuse=False
    )
