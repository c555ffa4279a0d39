"""How probe settings are merged."""

from __future__ import annotations

from balancer.config import Budget, ProbeSettings, parse_config
from balancer.config.check import check_tree
from balancer.config.document import read
from balancer.config.probes import Probes
from balancer.config.problems import Path, Problems
from balancer.config.proxies import Proxies, Proxy
from balancer.config.rules import Sheet
from balancer.config.secret import Absent, Secret
from balancer.config.settings import ClientCert
from balancer.config.shape import FileShape

TEXT = """
providers: {a: {base_url: "https://a.example"}}
models:
  x/y:
    endpoints:
      - {provider: a, model: m, probe: {OWN}}
probe: {TOP}
"""


def probe(top: str = "", own: str = "") -> ProbeSettings:
    config = parse_config(TEXT.replace("TOP", top).replace("OWN", own), source="t.yaml")
    return config.probes["x/y@a"]


def test_without_a_word_the_defaults_hold() -> None:
    assert probe() == ProbeSettings()


def test_an_endpoints_keys_win_one_by_one() -> None:
    merged = probe("interval: 1m, kind: tcp, concurrency: 9", "kind: completion, size_max: 2KB")
    assert (merged.interval, merged.kind, merged.concurrency, merged.size_max) == (60.0, "completion", 9, 2000)


def test_a_budget_is_merged_key_by_key_too() -> None:
    assert probe("budget: {usd: 5}", "budget: {requests: 3}").budget == Budget(requests=3, usd=5.0)


def test_a_timeout_that_nobody_gave_shrinks_with_the_interval() -> None:
    assert probe("interval: 4s").timeout == 4.0
    assert probe("", "interval: 4s").timeout == 4.0
    assert probe("interval: 1h").timeout == 10.0


def test_an_http_probe_is_read_whole() -> None:
    merged = probe("url: /health, body: ^ok$", "kind: http, status: 204, headers: {server: nginx}")
    assert (merged.url, merged.status, merged.body) == ("/health", (204,), "^ok$")
    assert merged.headers == {"server": "nginx"}
    assert probe("", "kind: http, url: 'http://127.0.0.1:9/x?y=1', status: [200, 204]").status == (200, 204)


def test_a_paid_probe_may_expect_another_model_than_ours() -> None:
    assert probe("answer_model: any", "kind: completion").answer_model == "any"
    assert probe("kind: tools, answer_model: any", "answer_model: gpt-4.1").answer_model == "gpt-4.1"


def test_where_a_paid_kind_is_not_bought_a_free_one_is_probed_with_keys_of_its_own() -> None:
    assert probe("", "kind: completion").free_kind == "models"
    assert probe("kind: tools", "free_kind: none").free_kind == "none"
    assert probe("", "kind: tools, listed: true").listed
    merged = probe("kind: completion", "free_kind: http, url: /health, status: 204")
    assert (merged.kind, merged.free_kind, merged.url, merged.status) == ("completion", "http", "/health", (204,))


def test_an_endpoint_may_leave_the_top_levels_http_probe() -> None:
    text = TEXT.replace("TOP", "kind: http, url: /health").replace(
        "{provider: a, model: m, probe: {OWN}}",
        "{provider: a, model: m}\n      - {provider: a/b, model: m, probe: {kind: tcp}}",
    )
    kinds = [one.kind for one in parse_config(text, source="t.yaml").probes.values()]
    assert kinds == ["http", "tcp"]


def test_headers_to_send_are_text_or_secrets_and_an_endpoints_replace_the_top_levels() -> None:
    own = "send_headers: {OpenAI-Organization: org-1, X-Key: {env: KEY}, X-Var: 'a ${KEY}', X-Flag: '${FLAG}'}"
    text = TEXT.replace("TOP", "send_headers: {X-Top: a}").replace("OWN", own)
    environ = {"KEY": "sk-secret", "FLAG": "eu"}
    sent = parse_config(text, source="t.yaml", environ=environ).probes["x/y@a"].send_headers
    assert sent == {
        "OpenAI-Organization": "org-1",
        "X-Key": Secret("sk-secret"),
        "X-Var": Secret("a sk-secret"),
        "X-Flag": "eu",
    }
    assert probe("send_headers: {X-Top: a}").send_headers == {"X-Top": "a"}


def test_a_header_whose_secret_is_not_there_stops_no_endpoint() -> None:
    text = TEXT.replace("OWN", "send_headers: {X-Key: {env: KEY}}").replace("TOP", "")
    config = parse_config(text, source="t.yaml", environ={})
    assert config.probes["x/y@a"].send_headers == {"X-Key": Absent("KEY is not set")}
    assert config.endpoints["x/y@a"].misconfigured is None
    assert parse_config(text, source="t.yaml").probes["x/y@a"].send_headers == {}


def test_paths_stand_with_their_values_or_none() -> None:
    merged = probe("", 'kind: http, url: /health, method: POST, send_body: "{}", json: {$.a: "3", $.b: }')
    assert (merged.method, merged.send_body, merged.json) == ("POST", "{}", {"$.a": "3", "$.b": None})


def test_a_body_with_a_variable_in_it_is_a_secret_like_such_a_header() -> None:
    for top, own in (("send_body: 'key=${KEY}'", ""), ("", ", send_body: 'key=${KEY}'")):
        text = TEXT.replace("TOP", top).replace("OWN", f"kind: http, url: /health, method: POST{own}")
        merged = parse_config(text, source="t.yaml", environ={"KEY": "sk-secret"}).probes["x/y@a"]
        assert merged.send_body == Secret("key=sk-secret")


def test_what_variables_put_into_an_address_is_known_to_be_secret() -> None:
    environ = {"TOKEN": "sk-secret", "FLAG": "eu", "HOST": "door.example"}
    own = "kind: http, url: '/${FLAG}?token=${TOKEN}', send_headers: {X-Key: '${HOST}, or ${NONE:-by default}'}"
    text = TEXT.replace("TOP", "send_body: 'key ${TOKEN}', method: POST").replace("OWN", own)
    merged = parse_config(text, source="t.yaml", environ=environ).probes["x/y@a"]
    assert merged.url == "/eu?token=sk-secret"
    assert merged.variables == (Secret("sk-secret"), Secret("door.example"))
    top = TEXT.replace("TOP", "kind: http, url: '/x?token=${TOKEN}'").replace("OWN", "timeout: 1s")
    assert parse_config(top, source="t.yaml", environ=environ).probes["x/y@a"].variables == (Secret("sk-secret"),)


def test_what_variables_put_into_the_query_of_a_doors_address_is_too() -> None:
    environ = {"TOKEN": "sk-secret", "HOST": "door.example"}
    text = "providers: {a: {base_url: 'https://${HOST}/v1?key=${TOKEN}'}}"
    problems = Problems("t.yaml")
    root = read(text, problems, environ)
    assert root is not None
    checked = check_tree(root, problems)
    probes = Probes(Sheet(FileShape(providers={}, models={}), root, checked, problems), None, Proxies())
    places: list[Path] = [("models", "x"), ("providers", "a", "base_url")]
    assert probes.with_address(places, ProbeSettings()).variables == (Secret("sk-secret"),)


def test_files_are_looked_for_beside_the_configuration() -> None:
    text = TEXT.replace("TOP", "ca_file: ca.pem, client_cert: {cert_file: /etc/own.pem, key_file: own.key}")
    merged = parse_config(text.replace("OWN", "ip_version: 6"), source="/etc/balancer/b.yaml").probes["x/y@a"]
    assert (merged.ca_file, merged.ip_version) == ("/etc/balancer/ca.pem", "6")
    assert merged.client_cert == ClientCert(cert_file="/etc/own.pem", key_file="/etc/balancer/own.key")


def test_the_environments_proxies_are_used_unless_told_otherwise() -> None:
    environ = {"HTTPS_PROXY": "http://near:3128"}
    for top, own, used in (("", "", True), ("proxy: false", "", False), ("proxy: false", "proxy: true", True)):
        text = TEXT.replace("TOP", top).replace("OWN", own)
        merged = parse_config(text, source="t.yaml", environ=environ).probes["x/y@a"]
        assert merged.proxy == (Proxies(https=Proxy(host="near", port=3128)) if used else Proxies())
    assert probe("proxy: true").proxy == Proxies()
