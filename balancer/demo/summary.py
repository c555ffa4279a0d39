"""From the record of a run to its numbers.

Theory of operation: pure functions over the events of the ledger, so that every number of the summary can be
recomputed from what was written down. The definitions:

`detected_after` of a fault: seconds from its start to the last decision inside it that still chose the provider
first, trials apart: a half-open trial is how the daemon asks, not where it sends traffic. 0 if no decision inside
the fault chose it. `None` if the last of all decisions inside the fault chose it: not detected.

`returned_after` of a fault: seconds from its end until the endpoint was seen eligible again (not ejected, half
open, throttled, misconfigured or drained). What was in flight when the fault ended may still eject the endpoint,
so an eligible sight counts only if no ineligible one follows within `SETTLE` of the end. 0 if it never was
ineligible after the end. `None` if it had not returned when the run, or the next fault of this provider, came.

A provider's numbers are the worst of its faults; `None` is worse than any number.

What this module does not know: clocks, sockets and colours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from balancer.demo.ledger import Choice, Ledger, Sight, Spell

SETTLE: Final = 2.5  # s: a try (1 s) or a probe (1 s) that was in flight, and the way it takes to be seen


def detected_after(spell: Spell, choices: Iterable[Choice], *, until: float) -> float | None:
    """When the fault was noticed; see the definition above. `until` is the end of the run."""
    end = until if spell.end is None else spell.end
    last: float | None = None
    elsewhere = False
    for choice in choices:
        if not spell.start <= choice.at <= end:
            continue
        if choice.provider == spell.provider and not choice.trial:
            last, elsewhere = choice.at, False
        else:
            elsewhere = True
    if last is None:
        return 0.0
    return last - spell.start if elsewhere else None


def returned_after(spell: Spell, sights: Iterable[Sight], *, until: float) -> float | None:
    """When the provider was eligible again; see the definition above. `until` is the next fault or the end."""
    if spell.end is None:
        return None
    own = [sight for sight in sights if sight.provider == spell.provider and sight.at <= until]
    back: float | None = None
    eligible = True
    for sight in own:
        if sight.at > spell.end + SETTLE and back is not None:
            break
        eligible = sight.eligible
        back = max(sight.at, spell.end) if eligible else None
    if not own:
        return 0.0  # never looked at: nothing says that it was away
    return None if back is None else back - spell.end


def provider_numbers(key: str, ledger: Ledger, *, until: float) -> dict[str, Any]:
    """One entry of `providers` in the summary."""
    spells = [spell for spell in ledger.spells if spell.provider == key]
    faults: list[dict[str, Any]] = []
    for index, spell in enumerate(spells):
        limit = spells[index + 1].start if index + 1 < len(spells) else until
        faults.append(
            {
                "kind": spell.kind,
                "start": _rounded(spell.start),
                "end": _rounded(spell.end),
                "detected_after": _rounded(detected_after(spell, ledger.choices, until=until)),
                "returned_after": _rounded(returned_after(spell, ledger.sights, until=limit)),
            }
        )
    tries = ledger.scores["balanced"].first_tries
    total = tries.total()
    return {
        "id": key,
        "faults": faults,
        "share": round(tries[key] / total, 4) if total > 0 else 0.0,
        "detected_after": worst([fault["detected_after"] for fault in faults]),
        "returned_after": worst([fault["returned_after"] for fault in faults]),
    }


def summarise(ledger: Ledger, *, duration: float, seed: int) -> dict[str, Any]:
    """The object of `balancer demo --json`. `duration` is how long the run really was."""
    balanced, blind = ledger.scores["balanced"], ledger.scores["round_robin"]
    return {
        "requests": balanced.requests,
        "client_errors": balanced.lost,
        "round_robin_client_errors": blind.lost,
        "first_try_errors": balanced.first_errors,
        "round_robin_first_try_errors": blind.first_errors,
        "duration": _rounded(duration),
        "seed": seed,
        "providers": [provider_numbers(key, ledger, until=duration) for key in ledger.providers],
    }


def worst(numbers: Sequence[float | None]) -> float | None:
    """The largest; `None` if there is none or one of them is `None`."""
    known = [number for number in numbers if number is not None]
    return max(known) if known and len(known) == len(numbers) else None


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
