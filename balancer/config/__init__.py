"""The configuration room: YAML text becomes a frozen `Config`, or every problem with its line.

`load` is the door; `shape` is the format; `settings` are the values that leave this room.
"""

from balancer.config.load import load_config, parse_config
from balancer.config.problems import ConfigError, ConfigProblem
from balancer.config.schema import json_schema
from balancer.config.secret import Sealed, Secret
from balancer.config.settings import (
    Budget,
    Config,
    Listen,
    LogSettings,
    ProbeKind,
    ProbeSettings,
    Scope,
    Token,
)

__all__ = [
    "Budget",
    "Config",
    "ConfigError",
    "ConfigProblem",
    "Listen",
    "LogSettings",
    "ProbeKind",
    "ProbeSettings",
    "Scope",
    "Sealed",
    "Secret",
    "Token",
    "json_schema",
    "load_config",
    "parse_config",
]
