"""Where the state is kept, and how often."""

from __future__ import annotations

from pathlib import Path

import pytest

from balancer.config import ConfigError, load_config, parse_config
from balancer.config.settings import RetentionSettings, StoreSettings

BASE = """
providers: {a: {base_url: "https://a.example"}}
models: {x/y: {endpoints: [{provider: a, model: m}]}}
"""


def kept_in(
    text: str, environ: dict[str, str] | None, *, source: str = "/etc/balancer/balancer.yaml"
) -> str | None:
    return parse_config(BASE + text, source=source, environ=environ).state_dir


@pytest.mark.parametrize(
    ("text", "environ", "directory"),
    [
        ("", {}, str(Path.cwd() / "state")),
        ("", {"STATE_DIRECTORY": ""}, str(Path.cwd() / "state")),
        ("", {"STATE_DIRECTORY": "/var/lib/balancer"}, "/var/lib/balancer"),
        ("", {"STATE_DIRECTORY": "/var/lib/one:/var/lib/two"}, "/var/lib/one"),
        ("", None, None),
        ("state_dir: null", {"STATE_DIRECTORY": "/var/lib/balancer"}, "/var/lib/balancer"),
        ("state_dir: none", {"STATE_DIRECTORY": "/var/lib/balancer"}, None),
        ("state_dir: none", None, None),
        ("state_dir: ./none", {}, "/etc/balancer/none"),
        ("state_dir: kept/here", {"STATE_DIRECTORY": "/var/lib/balancer"}, "/etc/balancer/kept/here"),
        ("state_dir: /srv/state", {}, "/srv/state"),
        ("state_dir: '${WHERE:-/srv/state}'", {"WHERE": "/mnt/state"}, "/mnt/state"),
    ],
)
def test_the_state_directory(text: str, environ: dict[str, str] | None, directory: str | None) -> None:
    assert kept_in(text, environ) == directory


def test_a_written_path_is_relative_to_the_configuration_that_was_read(tmp_path: Path) -> None:
    (tmp_path / "balancer.yaml").write_text(BASE + "state_dir: state")
    assert load_config(tmp_path / "balancer.yaml", environ={}).state_dir == str(tmp_path / "state")


def test_how_often_it_is_saved() -> None:
    assert parse_config(BASE, source="t.yaml").store == StoreSettings(save_interval=10.0)
    assert parse_config(BASE + "store: {save_interval: 1m}", source="t.yaml").store.save_interval == 60.0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("state_dir: ''", 'state_dir: "" is empty; use a directory\'s path, or none'),
        ("state_dir: false", "state_dir: false is a boolean; use a directory's path, or none"),
        ("state_dir: off", "state_dir: off is no path; use a directory's path, or none"),
        ("state_dir: [a]", "state_dir: a list; use a directory's path, or none"),
        ("store: {save_interval: 10ms}", "store.save_interval: 10ms is out of range; use 1s to 1h (default 10s)"),
        ("store: {save_intervall: 10s}", "store.save_intervall: unknown key; did you mean save_interval?"),
    ],
)
def test_what_is_wrong_is_told_with_what_is_allowed(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config(BASE + text, source="t.yaml")
    assert [str(each) for each in refused.value.problems] == [f"t.yaml:4: {problem}"]


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
