from __future__ import annotations

from collections.abc import Callable

import pytest

from balancer.core.balancer import Balancer
from balancer.core.model import Catalog, Endpoint
from balancer.core.outcome import Kind, Outcome
from balancer.core.request import Preferences, Request

MakeEndpoint = Callable[..., Endpoint]
MakeCatalog = Callable[..., Catalog]

MODELS = [f"author/{letter}" for letter in "abcdef"]
SHARED = [f"{model}@shared" for model in MODELS]


@pytest.fixture
def shared(endpoint: MakeEndpoint, catalog: MakeCatalog) -> Balancer:
    """Six models on one provider, each with one other endpoint elsewhere."""
    endpoints = [
        endpoint(tag, model=model) for place, model in enumerate(MODELS) for tag in ("shared", f"other{place}")
    ]
    return Balancer(catalog(*endpoints), seed=1)


def tell(table: Balancer, key: str, kind: Kind, now: float, latency: float = 0.5) -> None:
    table.record(key, Outcome(kind=kind, latency=latency), now=now, duration=latency)


def healthy(table: Balancer, until: float) -> None:
    for step in range(int(until / 10)):
        for key in table.catalog.endpoints:
            tell(table, key, "success", step * 10.0)


def out(table: Balancer, now: float) -> set[str]:
    return {each.id for each in table.view(now=now).endpoints if each.state == "ejected"}


def test_an_outage_of_a_provider_takes_out_all_its_endpoints_those_unseen_among_them(shared: Balancer) -> None:
    healthy(shared, 600.0)
    now = 600.0
    for _ in range(3):
        for key in SHARED[:5]:
            now += 1.0
            tell(shared, key, "server_error", now)
        if out(shared, now):
            break
    assert out(shared, now) == set(SHARED), "it took no call to the sixth"
    causes = {cause for each in shared.view(now=now).endpoints for cause, _ in each.ejections}
    assert "provider_failure" in causes


def test_one_endpoint_that_fails_takes_nobody_with_it(shared: Balancer) -> None:
    healthy(shared, 600.0)
    for number in range(40):
        tell(shared, SHARED[0], "server_error", 600.0 + number)
        tell(shared, SHARED[1 + number % 5], "success", 600.5 + number)
    assert out(shared, 641.0) == {SHARED[0]}


def test_a_refused_key_is_no_outage_of_its_provider(shared: Balancer) -> None:
    healthy(shared, 600.0)
    for number in range(10):
        tell(shared, SHARED[number % 5], "refused", 600.0 + number)
    assert out(shared, 611.0) == set()


def answered(table: Balancer, since: float) -> float:
    """A minute of requests to the first model, each answered; tell when it is over."""
    now = since
    for _ in range(60):
        now += 1.0
        decision = table.best(Request(model=MODELS[0]), now=now)
        table.record(
            decision.selected.id, Outcome(kind="success", latency=0.5), now=now + 0.5, decision=decision.id
        )
    return now


def test_requests_that_do_not_come_back_eject_before_their_timeouts(shared: Balancer) -> None:
    healthy(shared, 300.0)
    model, now = MODELS[0], answered(shared, 300.0)
    hanging: str | None = None
    for _ in range(60):
        now += 1.0
        tell(shared, f"{MODELS[1]}@other1", "success", now)  # the proxies do report
        chosen = shared.best(Request(model=model), now=now).selected.id
        hanging = chosen if hanging is None else hanging
        if hanging in out(shared, now):
            break
    assert hanging in out(shared, now)
    view = shared.endpoint(hanging, now=now)
    assert "overdue" in {cause for cause, _ in view.ejections}
    assert now < 360.0 + 30.0, "sooner than a timeout of half a minute would tell"


@pytest.mark.parametrize("suspect", [None, "us", "proxy", "contradicted"])
def test_while_anybodys_network_is_in_doubt_what_hangs_ejects_nobody(
    endpoint: MakeEndpoint, catalog: MakeCatalog, suspect: str | None
) -> None:
    model, now = MODELS[0], 300.0
    good = Outcome(kind="success", latency=0.5)
    table = Balancer(catalog(*[endpoint(tag, model=model) for tag in "abcde"]), seed=1)
    ask = Request(model=model, provider=Preferences(only=("d",)))
    for step in range(60):
        began = 240.0 + step
        decision = table.best(ask, now=began)
        table.record(f"{model}@d", good, now=began + 0.5, reporter="other", decision=decision.id)
    if suspect == "contradicted":  # its calls do end, and say nothing of a network
        for number in range(12):
            began = 290.0 + number * 0.5
            table.record(f"{model}@a", good, now=began + 0.5, reporter="other")
            table.record(f"{model}@a", Outcome(kind="server_error"), now=began + 0.5, reporter=suspect)
        assert [each.name for each in table.reporters(now) if each.suspicion is not None] == [suspect]
    elif suspect is not None:
        for number, tag in enumerate("abcab"):
            down, by = Outcome(kind="connect"), None if suspect == "us" else suspect
            table.record(f"{model}@{tag}", down, now=now + number / 10, reporter=by)
    for _ in range(60):
        now += 1.0
        table.record(f"{model}@e", good, now=now, reporter="other")
        table.best(ask, now=now)
    causes = {cause for cause, _ in table.endpoint(f"{model}@d", now=now).ejections}
    assert causes == ({"overdue"} if suspect in (None, "contradicted") else set())


def test_where_nobody_is_heard_of_it_may_be_the_proxy_that_is_silent(shared: Balancer) -> None:
    healthy(shared, 300.0)
    model, now = MODELS[0], answered(shared, 300.0)
    for _ in range(100):
        now += 1.0
        shared.best(Request(model=model), now=now)
    assert out(shared, now) == set()
