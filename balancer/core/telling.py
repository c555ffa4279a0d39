"""Who tells the journal: what became of an endpoint, a model's panic, doubt in a witness.

Theory of operation: whoever changes a row hands the changes in; each is told with the row's state and with what
happens next and when. `degraded` and `healthy` are no changes of health but what a reader sees, so they are told
when the state that was shown last is no longer the one that is. A panic is told when it begins and when it ends.
What health finds where it only watches is told like all else, as not enforced; what the operator does is enforced.

What this module does not know: why anything changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from balancer.core.history import OUT
from balancer.core.journal import Journal
from balancer.core.model import HealthPolicy, Transition
from balancer.core.phases import Change
from balancer.core.row import Row
from balancer.core.standing import standing
from balancer.core.witness import Cleared, Suspicion


class Teller:
    """The journal, and which models are in panic by what was told last."""

    __slots__ = ("_journal", "_panics")

    def __init__(self) -> None:
        self._journal = Journal()
        self._panics: set[str] = set()

    def make_room(self, endpoints: int) -> None:
        """Remember enough for a configuration with so many endpoints."""
        self._journal.make_room(endpoints)

    def after(self, number: int) -> list[Transition]:
        """What was told after that number, oldest first."""
        return self._journal.after(number)

    def endpoint(
        self,
        now: float,
        event: str,
        key: str,
        reason: str,
        row: Row | None,
        *,
        next_at: float | None = None,
        enforced: bool = True,
    ) -> None:
        """Tell one thing of an endpoint; without its row, of one that is gone."""
        self._journal.tell(
            now,
            event,
            reason,
            endpoint=key,
            model=None if row is None else row.endpoint.model,
            state=None if row is None else row.state(now),
            next_at=next_at,
            enforced=enforced,
        )

    def changes(self, row: Row, changes: Sequence[Change], now: float, policy: HealthPolicy) -> None:
        """Tell what a call did to a row."""
        key, enforced = row.endpoint.id, row.enforced
        for change in changes:
            following = standing(row, now, policy).next_at
            self.endpoint(now, change.event, key, change.reason, row, next_at=following, enforced=enforced)
        state = row.state(now)
        if state != row.shown and not changes and state in ("degraded", "healthy"):
            reason = standing(row, now, policy).reason
            self.endpoint(now, f"endpoint.{state}", key, reason, row, enforced=enforced)
        row.shown = state

    def lapse(self, row: Row, now: float, policy: HealthPolicy) -> None:
        """End a trial whose lease has expired, and tell it."""
        lapsed = row.health.lapse(now)
        if lapsed is not None:
            row.touch()
            self.changes(row, [lapsed], now, policy)

    def resumed(self, row: Row, now: float) -> None:
        """Tell the operator's word, with what the row is after it: by health it may be out, or seem so."""
        enforced = row.state(now) not in OUT or _chooses(row, now)
        self.endpoint(now, "endpoint.resumed", row.endpoint.id, "resumed by the operator", row, enforced=enforced)

    def restored(self, row: Row, now: float, policy: HealthPolicy) -> None:
        """Tell how a row stands by what was saved, where that came when its state was known already."""
        found = standing(row, now, policy)
        reason = f"as it was saved: {found.reason}" if found.reason else "as it was saved"
        enforced = _chooses(row, now)
        self.endpoint(
            now, "endpoint.restored", row.endpoint.id, reason, row, next_at=found.next_at, enforced=enforced
        )
        row.shown = found.state

    def panic(self, model: str, panic: bool, now: float) -> None:
        """Tell that a model's panic began or ended, unless that was told already."""
        if panic is (model in self._panics):
            return
        if panic:
            self._panics.add(model)
            self._journal.tell(now, "model.panic_entered", "health leaves no endpoint", model=model)
        else:
            self._panics.remove(model)
            self._journal.tell(now, "model.panic_left", "health no longer leaves it without one", model=model)

    def doubt(self, news: Suspicion | Cleared, now: float) -> None:
        """Tell that a witness is suspect, or is no longer."""
        event = "suspected" if isinstance(news, Suspicion) else "cleared"
        whose = "self" if news.witness is None else "reporter"
        self._journal.tell(now, f"{whose}.{event}", news.reason, reporter=news.witness)

    def announced(self, provider: str, said: str, now: float) -> None:
        """Tell that a provider's status page says something else now."""
        self._journal.tell(now, "provider.announced", said, provider=provider)

    def forget_models(self, configured: Iterable[str]) -> None:
        """Take no panic of a model for granted that is no longer configured."""
        self._panics.intersection_update(configured)


def _chooses(row: Row, now: float) -> bool:
    """Whether the row's state does: a drain or a missing key keeps out, also where health is only watched."""
    return row.enforced or row.endpoint.misconfigured is not None or row.drained(now) is not None
