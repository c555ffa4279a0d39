"""Who makes room for whom."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from balancer.http.crowd import Crowd


class Client:
    def __init__(self) -> None:
        self.evicted = False

    def evict(self) -> None:
        self.evicted = True


def full(crowd: Crowd, count: int) -> list[Client]:
    clients = [Client() for _ in range(count)]
    for each in clients:
        crowd.arrive(each)
    return clients


def test_the_one_that_waited_the_longest_makes_room_and_the_new_one_is_let_in() -> None:
    crowd = Crowd(3)
    first, second, third = full(crowd, 3)
    assert not first.evicted
    new = Client()
    crowd.arrive(new)
    assert [each.evicted for each in (first, second, third, new)] == [True, False, False, False]
    assert (len(crowd), crowd.evicted) == (3, 1)


def test_whoever_asked_something_meanwhile_stands_behind_those_who_did_not() -> None:
    crowd = Crowd(3)
    first, second, _ = full(crowd, 3)
    crowd.work(first)
    crowd.wait(first)
    crowd.arrive(Client())
    assert (first.evicted, second.evicted) == (False, True)


def test_a_request_that_we_are_at_work_on_is_never_cut() -> None:
    crowd = Crowd(2)
    first, second = full(crowd, 2)
    for each in (first, second):
        crowd.work(each)
    new, newer = Client(), Client()
    crowd.arrive(new)
    assert (len(crowd), crowd.evicted, first.evicted, second.evicted, new.evicted) == (3, 0, False, False, False)
    crowd.arrive(newer)
    assert (first.evicted, second.evicted, new.evicted, newer.evicted) == (False, False, True, False)


def test_one_that_is_gone_has_no_place_any_more() -> None:
    crowd = Crowd(2)
    first, second = full(crowd, 2)
    crowd.leave(first)
    crowd.leave(first)
    crowd.wait(first)
    assert len(crowd) == 1
    full(crowd, 1)
    assert not second.evicted


STEPS = st.lists(st.tuples(st.sampled_from(["arrive", "wait", "work", "leave"]), st.integers(0, 9)), max_size=60)


@given(steps=STEPS, most=st.integers(1, 4))
def test_it_is_a_row_of_those_that_wait(steps: list[tuple[str, int]], most: int) -> None:
    crowd, here, row, gone = Crowd(most), dict[int, Client](), list[int](), 0
    for step, key in steps:
        if step == "arrive" and key not in here:
            if len(here) >= most and row:
                gone += 1
                assert not here[row[0]].evicted
                evicted = here.pop(row.pop(0))
                crowd.arrive(client := Client())
                assert evicted.evicted
            else:
                crowd.arrive(client := Client())
            here[key] = client
            row.append(key)
        elif step != "arrive" and key in here:
            getattr(crowd, step)(here[key])
            row = [each for each in row if each != key]
            if step == "wait":
                row.append(key)
            elif step == "leave":
                del here[key]
        assert (len(crowd), crowd.evicted) == (len(here), gone)
        assert not any(each.evicted for each in here.values())
