"""What rows know of a UPS, for the threads that serve its creator: asked of the recorder, and waited for.

The receiver knows no database, so its threads ask over the wire (`listener.recorder_link`). The recorder
answers when everything that was acknowledged before the question has its rows; while it or its database is
away there is no answer, and the creator is told to try again.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import uuid4

from db.records import NoticeState
from listener.admission import OUT_OF_RESOURCES, Refusal
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
    ask : told token, AE title and SOP Instance UID; returns at once
    """

    def __init__(
        self, ask: Callable[[str, str, str], None], *, answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        self._ask, self._answer_seconds = ask, answer_seconds
        self._waiting: dict[str, _Lookup] = {}

    def state_of(self, source_ae: str, sop_uid: str) -> NoticeState | Refusal:
        """What is known of a UPS that this AE title created, or why it is not known; blocks."""
        token, lookup = uuid4().hex, _Lookup()
        self._waiting[token] = lookup
        try:
            self._ask(token, source_ae, sop_uid)
            if not lookup.answered.wait(self._answer_seconds):
                return Refusal(OUT_OF_RESOURCES, "it cannot be looked up now; try again later")
        finally:
            del self._waiting[token]
        return lookup.state or Refusal(NO_SUCH_STEP, "no procedure step that this AE title created")

    def answered(self, token: str, state: NoticeState | None) -> None:
        """Wake who waits for this; any thread. None: there is no such step."""
        lookup = self._waiting.get(token)
        if lookup is not None:
            lookup.state = state
            lookup.answered.set()
