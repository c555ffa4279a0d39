"""Transitions become lines once, and whoever waits for one is woken."""

import asyncio
import io
import json

from balancer import Balancer
from balancer.config import parse_config
from balancer.daemon.news import News
from balancer.service.log import configure, silent

TEXT = """\
providers: {one: {base_url: "http://127.0.0.1:9/v1"}}
models: {acme/large: {endpoints: [{provider: one, model: large}]}}
"""
ID = "acme/large@one"


async def test_each_change_is_told_once_reconsidered_and_wakes_who_waits():
    balancer, out, again, kept = Balancer(parse_config(TEXT, source="test")), io.StringIO(), [], []
    news = News(
        balancer, keep=kept.append, reconsider=again.append, log=configure(level="info", style="json", stream=out)
    )
    news.changed()
    again.clear()
    kept.clear()
    after = balancer.transitions(0)[-1].number
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(5):
        waiter = tasks.create_task(news.waiting(after))
        await asyncio.sleep(0)
        balancer.drain(ID, now=1.0, until=61.0, reason="disk")
        news.changed()
        news.changed()
        await waiter
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [
        (line["event"], line["endpoint"], line["provider"], line["reason"], line["next_in"]) for line in lines
    ] == [("endpoint.drained", ID, "one", "disk", 60.0)]
    assert again == [ID]
    assert [(each.event, each.endpoint) for each in kept] == [("endpoint.drained", ID)]


async def test_the_end_lets_go_of_all_who_wait():
    balancer = Balancer(parse_config(TEXT, source="test"))
    news = News(balancer, keep=lambda _: None, reconsider=lambda _: None, log=silent())
    after = balancer.transitions(0)[-1].number
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(5):
        tasks.create_task(news.waiting(after))
        await asyncio.sleep(0)
        news.end()
    async with asyncio.timeout(5):
        await news.waiting(after)
