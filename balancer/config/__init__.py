"""The configuration room: YAML text becomes a frozen `Config`, or every problem with its line.

`load` is the door; `shape` is the format; `settings` are the values that leave this room.
"""

from balancer.config.compare import Change, Difference, difference
from balancer.config.load import load_config, parse_config
from balancer.config.problems import ConfigError, ConfigProblem
from balancer.config.schema import json_schema
from balancer.config.secret import Secret
from balancer.config.settings import (
    Budget,
    Config,
    Listen,
    LogSettings,
    ProbeKind,
    ProbeSettings,
    RetentionSettings,
    Scope,
    StoreSettings,
    TlsSettings,
    Token,
)

__all__ = [
    "Budget",
    "Change",
    "Config",
    "ConfigError",
    "ConfigProblem",
    "Difference",
    "Listen",
    "LogSettings",
    "ProbeKind",
    "ProbeSettings",
    "RetentionSettings",
    "Scope",
    "Secret",
    "StoreSettings",
    "TlsSettings",
    "Token",
    "difference",
    "json_schema",
    "load_config",
    "parse_config",
]
