"""Missing images of studies that receive are asked for at their sender, where its `fetch_missing` allows.

By a thread of its own, one study at a time; what became of it stands on the timeline. When to ask is decided
in `listener.missing`, how in `listener.retrieve`. A restart forgets the tries.
"""

import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from config.logs import logger
from config.settings import PeerSettings, Settings
from db.engine import Database
from db.records import ReceivingStudy
from db.timeline import note
from listener.completeness import Evidence, Patience
from listener.missing import TRIES_MAX, Asked, Missing, ask_at, missing_of
from listener.retrieve import NotRetrieved, Retrieved, retrieve_missing

QUESTIONS_MAX = 500

_Key = tuple[str, int]  # Study Instance UID, revision


@dataclass(frozen=True, slots=True)
class _Question:
    key: _Key
    study_id: int
    peer: PeerSettings
    missing: Missing
    tries: int


class Fetching:
    """For one recorder; times on the clock of its callers. `bell` is a descriptor that rings after a try."""

    def __init__(
        self,
        settings: Settings,
        db: Database,
        patience: Patience,
        retrieve: Callable[..., Retrieved] = retrieve_missing,
    ) -> None:
        self._settings, self._db, self._patience, self._retrieve = settings, db, patience, retrieve
        self._peers = {peer.ae_title: peer for peer in settings.peers if peer.fetch_missing != "no"}
        self.bell = os.eventfd(0, os.EFD_NONBLOCK)
        self._asked: dict[_Key, Asked] = {}
        self._lock = threading.Condition()
        self._questions: list[_Question] = []
        self._answers: list[tuple[_Question, Retrieved | str]] = []
        if self._peers:
            # A daemon: a hanging archive must not keep the process from ending.
            threading.Thread(target=self._run, name="fetching", daemon=True).start()

    def silence(self) -> bool:
        """Silence the bell; whether it rang."""
        try:
            return os.eventfd_read(self.bell) > 0
        except BlockingIOError:
            return False

    def take_answers(self, receiving: Iterable[ReceivingStudy], now: float) -> None:
        """Tell what came of the tries that ended, and forget studies that receive no more."""
        while self._answers:
            question, answer = self._answers[0]
            note(
                self._db,
                study_id=question.study_id,
                kind="fetch",
                text=_told(question, answer),
                source=question.peer.ae_title,
            )
            self._asked[question.key] = self._asked.get(question.key, Asked()).ended(now)
            del self._answers[0]  # told: a database that was away has it still before it
        keys = {(one.study.study_uid, one.study.revision) for one in receiving}
        self._asked = {key: asked for key, asked in self._asked.items() if key in keys or asked.is_waiting}

    def ask_if_due(self, receiving: ReceivingStudy, evidence: Evidence, now: float) -> float | None:
        """Ask for what is missing if it is time; when to look again for that, None: no need."""
        peer = self._peers.get(receiving.source_ae)
        if peer is None:
            return None
        missing = missing_of(evidence, self._patience)
        if not missing.instances:
            return None
        key = (receiving.study.study_uid, receiving.study.revision)
        asked = self._asked.get(key, Asked())
        at = ask_at(asked, evidence.last_received_at + self._patience.quiet_for(evidence))
        if at is None or at > now:
            return at
        with self._lock:
            if len(self._questions) >= QUESTIONS_MAX:
                return now + self._patience.quiet_for(evidence)
            asked = self._asked[key] = asked.begun()
            self._questions.append(_Question(key, receiving.study.id, peer, missing, asked.tries))
            self._lock.notify()
        return None

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._questions:
                    self._lock.wait()
                question = self._questions.pop(0)
            answer = self._answer(question)
            with self._lock:
                self._answers.append((question, answer))
                os.eventfd_write(self.bell, 1)

    def _answer(self, question: _Question) -> Retrieved | str:
        study_uid = question.key[0]
        try:
            return self._retrieve(question.peer, study_uid, question.missing, settings=self._settings)
        except NotRetrieved as error:
            return error.what
        except Exception as error:  # noqa: BLE001 whatever a library makes of an answer; the thread goes on
            logger("recorder").warning("missing images were not fetched", kind=type(error).__name__)
            return "gave an answer that cannot be read"


def _told(question: _Question, answer: Retrieved | str) -> str:
    """What became of one try, for people."""
    name = question.peer.ae_title
    asked = f"{name} was asked for {_counted(question.missing.instances, 'missing ')}"
    asked += f" ({question.peer.fetch_missing.upper()}, try {question.tries} of {TRIES_MAX})"
    if isinstance(answer, str):
        return f"{asked}: {name} {answer}"
    parts = [f"{_counted(answer.sent)} sent" if answer.sent else "none sent"]
    if answer.failed:
        parts.append(f"{answer.failed} failed")
    if answer.refused:
        parts.append(f"refused here: {answer.refused}")
    if answer.stopped:
        parts.append(answer.stopped)
    return f"{asked}: {', '.join(parts)}"


def _counted(number: int, what: str = "") -> str:
    return f"{number} {what}instance{'' if number == 1 else 's'}"
