"""What rows know of a UPS, for the threads that serve its creator: asked of the recorder, and waited for.

The receiver knows no database, so its threads ask over the wire (`listener.recorder_link`), in turn with
what the loop takes in. The recorder answers when everything that was acknowledged before the question has its
rows; while it or its database is away there is no answer, and the creator is told to try again.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from uuid import uuid4

from db.records import NoticeState
from listener.admission import OUT_OF_RESOURCES, Refusal
from listener.intake import Sender
from listener.submissions import Submission, SubmittedQuestion
from listener.unified_steps import NO_SUCH_STEP

ANSWER_SECONDS = 20.0  # peers often wait for 30 s


@dataclass(slots=True)
class _Lookup:
    answered: threading.Event = field(default_factory=threading.Event)
    state: NoticeState | None = None


class StepLookups:
    """Questions under way; one for each thread that waits.

    Parameters
    ----------
    submit : of the loop; False when it takes nothing
    ask : told token, AE title and SOP Instance UID; returns at once
    """

    def __init__(
        self,
        submit: Callable[[Submission], bool],
        ask: Callable[[str, str, str], None],
        *,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._submit, self._ask, self._answer_seconds = submit, ask, answer_seconds
        self._waiting: dict[str, _Lookup] = {}

    def state_of(self, sender: Sender, sop_uid: str) -> NoticeState | Refusal:
        """What is known of a UPS that this AE title created, or why it is not known; blocks."""
        token, lookup = uuid4().hex, _Lookup()
        self._waiting[token] = lookup
        question = SubmittedQuestion(sender, partial(self._ask, token, sender.calling_ae, sop_uid))
        away = Refusal(OUT_OF_RESOURCES, "it cannot be looked up now; try again later")
        try:
            if not self._submit(question):
                return away
            refusal = question.wait(self._answer_seconds)
            if refusal is not None:
                return refusal
            if not lookup.answered.wait(self._answer_seconds):
                return away
        finally:
            del self._waiting[token]
        return lookup.state or Refusal(NO_SUCH_STEP, "no procedure step that this AE title created")

    def answered(self, token: str, state: NoticeState | None) -> None:
        """Wake who waits for this; any thread. None: there is no such step."""
        lookup = self._waiting.get(token)
        if lookup is not None:
            lookup.state = state
            lookup.answered.set()
