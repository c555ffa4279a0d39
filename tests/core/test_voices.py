"""What others say of the endpoints at which a witness fails: the edges; the stories are in test_doubt."""

from __future__ import annotations

from balancer.core.voices import LAST_MIN, MEMORY_AGE, VOICES_MIN, Voices
from balancer.core.witness import Heard, Witness


def failing(witness: Witness, times: int, *, endpoint: str = "a") -> Heard:
    heard = Heard(10.0, 10.0, endpoint, "server_error", "report")
    for _ in range(times):
        witness.memory.append(heard)
    witness.heard = 10.0
    return heard


def praising(witness: Witness, times: int, *, endpoint: str = "a", began: float = 11.0) -> None:
    for _ in range(times):
        witness.memory.append((began, began + 1.0, endpoint, "success", "report", False))
    witness.heard = witness.reached = began + 1.0


def court() -> tuple[Witness, Witness, Voices]:
    one, other = Witness("one"), Witness("other")
    return one, other, Voices({"one": one, "other": other})


def test_enough_successes_of_others_at_the_same_endpoint_contradict() -> None:
    one, other, voices = court()
    last = failing(one, LAST_MIN)
    praising(other, VOICES_MIN)
    found = voices.contradiction(one, last, 13.0)
    assert found is not None
    assert found.reason == "10 of its last 10 calls failed; of 5 others at the same endpoints 0 did"
    assert (len(found.failures), found.places) == (LAST_MIN, {"a"})


def test_too_few_failures_or_voices_or_old_news_say_nothing() -> None:
    for failures, successes, now in ((LAST_MIN - 1, 9, 13.0), (LAST_MIN, VOICES_MIN - 1, 13.0)):
        one, other, voices = court()
        last = failing(one, failures)
        praising(other, successes)
        assert voices.contradiction(one, last, now) is None
    one, other, voices = court()
    last = failing(one, LAST_MIN)
    praising(other, 9)
    assert voices.contradiction(one, last, 10.0 + MEMORY_AGE) is None


def test_success_elsewhere_does_not_speak_for_an_endpoint() -> None:
    one, other, voices = court()
    last = failing(one, LAST_MIN)
    praising(other, 9, endpoint="b")
    assert voices.contradiction(one, last, 13.0) is None
    assert voices.places(one, 13.0) == {"b"}


def test_who_is_not_believed_has_no_voice() -> None:
    one, other, voices = court()
    failing(one, LAST_MIN)
    praising(other, 9)
    assert [each.name for each in voices.others(one, 0.0)] == ["other"]
    assert [each.name for each in voices.others(one, 13.0)] == []
    assert len(list(voices.of(one, 11.0))) == 9
    assert list(voices.of(one, 11.5)) == []
