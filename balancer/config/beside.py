"""The sections about what is probed besides endpoints: status pages of providers, and our own reach.

Both default to nothing: which hosts the daemon calls is for the operator to say.

What this module does not know: how either becomes a probe (`lookouts`), and what an answer means.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import UNSET, Meta

from balancer.config.settings import SelfCheck, StatusPage
from balancer.config.units import Duration, duration_text
from balancer.config.vocabulary import DAY, Given, Name, PageUrl, Shape, Target, lasts, told

_PAGE: Final = StatusPage()
_SELF: Final = SelfCheck()

COMPONENTS_MAX: Final = 100  # the largest pages have some dozens
TARGETS_MAX: Final = 16  # two or three tell as much


class StatusPageShape(Shape, frozen=True, kw_only=True):
    """Where the provider tells of its own trouble: Statuspage's and incident.io's formats are read."""

    url: Annotated[PageUrl, told("The page, e.g. https://status.example.com, or the address of its JSON.")]
    components: Given[
        Annotated[
            list[Name],
            Meta(max_length=COMPONENTS_MAX),
            told("Names of the page's components that matter; none: the whole page.", list(_PAGE.components)),
        ]
    ] = UNSET
    interval: Given[
        Annotated[Duration, lasts(1.0, DAY), told("Time between two readings.", duration_text(_PAGE.interval))]
    ] = UNSET
    timeout: Given[
        Annotated[
            Duration,
            lasts(0.05, 300.0),
            told("Longest reading; never above the interval.", duration_text(_PAGE.timeout)),
        ]
    ] = UNSET


class SelfCheckShape(Shape, frozen=True, kw_only=True):
    """What answers while this machine is online; if none of it does, no provider is blamed."""

    targets: Given[
        Annotated[
            list[Target],
            Meta(max_length=TARGETS_MAX),
            told("What to ask, at hosts that have nothing in common but the way to them.", list(_SELF.targets)),
        ]
    ] = UNSET
    interval: Given[
        Annotated[Duration, lasts(1.0, DAY), told("Time between two checks.", duration_text(_SELF.interval))]
    ] = UNSET
    timeout: Given[
        Annotated[
            Duration,
            lasts(0.05, 300.0),
            told("Longest check; never above the interval.", duration_text(_SELF.timeout)),
        ]
    ] = UNSET
