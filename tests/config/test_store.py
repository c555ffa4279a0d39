"""What is kept on disk: the defaults, and what of them a file changes."""

from __future__ import annotations

from balancer.config import RetentionSettings, StoreSettings, parse_config

BASE = """
providers: {a: {base_url: "https://a.example"}}
models: {x/y: {endpoints: [{provider: a, model: m}]}}
"""


def store(text: str) -> StoreSettings:
    return parse_config(BASE + text, source="t.yaml").store


def test_by_default_a_history_is_kept_in_a_gigabyte() -> None:
    assert store("") == StoreSettings(
        history=True, retention=RetentionSettings(minutes=7 * 86_400.0, hours=90 * 86_400.0), max_size=10**9
    )


def test_only_what_is_given_changes() -> None:
    assert store("store: {retention: {minutes: 1d}, max_size: 64MiB}") == StoreSettings(
        retention=RetentionSettings(minutes=86_400.0), max_size=64 * 1024**2
    )
    assert store("store: {history: false, retention: }") == StoreSettings(history=False)
