"""How probe settings are merged."""

from __future__ import annotations

from balancer.config import Budget, ProbeSettings, parse_config

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


def test_an_endpoint_may_leave_the_top_levels_http_probe() -> None:
    text = TEXT.replace("TOP", "kind: http, url: /health").replace(
        "{provider: a, model: m, probe: {OWN}}",
        "{provider: a, model: m}\n      - {provider: a/b, model: m, probe: {kind: tcp}}",
    )
    kinds = [one.kind for one in parse_config(text, source="t.yaml").probes.values()]
    assert kinds == ["http", "tcp"]
