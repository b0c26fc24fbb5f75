"""A thread that serves the creator of a UPS waits for what rows know of it, and no longer than a bound."""

import threading
from queue import Queue

from listener.admission import OUT_OF_RESOURCES, Refusal
from listener.step_lookups import StepLookups
from listener.unified_steps import NO_SUCH_STEP


def test_each_thread_gets_the_answer_to_its_own_question() -> None:
    asked: Queue[tuple[str, str, str]] = Queue()
    lookups = StepLookups(lambda *question: asked.put(question), answer_seconds=60)
    found: dict[str, object] = {}

    def look_up(uid: str) -> None:
        found[uid] = lookups.state_of("MANAGER", uid)

    threads = [threading.Thread(target=look_up, args=(uid,)) for uid in ("1.1", "1.2", "1.3")]
    for thread in threads:
        thread.start()
    for token, source_ae, uid in sorted((asked.get(timeout=60) for _ in threads), key=lambda one: one[2]):
        assert source_ae == "MANAGER"
        lookups.answered("no such token", "canceled")
        lookups.answered(token, {"1.1": "input_ready", "1.2": "canceled"}.get(uid))  # type: ignore[arg-type]
    for thread in threads:
        thread.join(timeout=60)
    missing = found.pop("1.3")
    assert found == {"1.1": "input_ready", "1.2": "canceled"}
    assert isinstance(missing, Refusal)
    assert missing.status == NO_SUCH_STEP


def test_no_answer_in_time_is_a_refusal_that_may_be_tried_again() -> None:
    lookups = StepLookups(lambda *question: None, answer_seconds=0)
    refusal = lookups.state_of("MANAGER", "1.1")
    assert isinstance(refusal, Refusal)
    assert refusal.status == OUT_OF_RESOURCES


def test_answer_may_come_before_the_wait() -> None:
    lookups = StepLookups(lambda token, source_ae, uid: lookups.answered(token, "input_ready"))
    assert lookups.state_of("MANAGER", "1.1") == "input_ready"
