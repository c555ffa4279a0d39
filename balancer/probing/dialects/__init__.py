"""How providers are spoken to: one file per dialect, chosen by an endpoint's `api`.

To add one: a file with an object that has the shape of `DialectRules`, its name in `core.model.Dialect`, and a
line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from balancer.core.model import Dialect
from balancer.probing.dialects.anthropic import ANTHROPIC
from balancer.probing.dialects.interface import Delta, DialectRules
from balancer.probing.dialects.openai import OPENAI

DIALECTS: Final[Mapping[Dialect, DialectRules]] = {"openai": OPENAI, "anthropic": ANTHROPIC}

__all__ = ["DIALECTS", "Delta", "DialectRules"]
