"""While a commit runs beside receiving nothing it covers is answered, and others are received."""

import errno
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest
from dicom_peer import (
    ECHO_CONTEXT,
    Peer,
    associate_request,
    ct_dataset,
    echo_command,
    fragments,
    new_uid,
    pdu,
    store_message,
)

from config.settings import Settings
from db.background_sync import BackgroundSync
from db.records import Mark
from db.spool import SpoolFailed, SpoolWriter, replay
from db.spool_files import SpoolFiles
from listener.admission import Admission, Refusal
from listener.commits import BESIDE_SECONDS, LOOK_AGAIN, MeasuredPace, Pace
from listener.intake import Intake, Sender
from listener.loop import Loop
from listener.negotiate import Negotiator
from listener.notices import ReadNotice
from listener.ports import listen
from listener.service import _limits
from listener.submissions import SubmittedMessage

SETTINGS = Settings.model_validate(
    {"peers": [{"name": "scanner", "ae_title": "SCANNER", "addresses": ["127.0.0.0/8"]}]}
)
SENDER = Sender("SCANNER", "PREREAD", "127.0.0.1")


class HeldSync(BackgroundSync):
    """Syncs that end when the test says so."""

    def __init__(self) -> None:
        self.bell = os.eventfd(0, os.EFD_NONBLOCK)
        self.begun: list[int] = []
        self.errors: list[int] = []

    def begin(self, fd: int) -> bool:
        self.begun.append(fd)
        return True

    def end(self, error: int = 0) -> None:
        """All that was begun ends."""
        self.errors, self.begun = [error for _ in self.begun], []
        os.eventfd_write(self.bell, 1)

    def ended(self) -> list[int]:
        ended, self.errors = self.errors, []
        return ended

    def wait(self) -> list[int]:
        self.end()
        return self.ended()

    def close(self) -> None:
        os.close(self.bell)


class HeldFiles(SpoolFiles):
    def __init__(self) -> None:
        self.held = HeldSync()

    def background(self) -> BackgroundSync:
        return self.held


class Always(Pace):
    """Every commit runs beside receiving."""

    def runs_beside(self, waiting: int, lively: int) -> bool:
        return True

    def took(self, seconds: float) -> None:
        raise AssertionError("no commit was to be waited for")


class Turned:
    """A loop that the test turns by hand."""

    def __init__(self, spool: SpoolWriter, sync: HeldSync) -> None:
        self.spool, self.sync, self._peers = spool, sync, list[Peer]()
        self.published: list[Mark] = []
        listening = listen("127.0.0.1", 0, setting="listener")
        self.port = listening.getsockname()[1]
        self.loop = Loop(
            listening,
            intake=Intake(
                spool,
                admission=Admission(SETTINGS, {}),
                instance_bytes_max=1 << 20,
                buffered_bytes_max=1 << 24,
            ),
            negotiator=Negotiator(pdu_bytes_max=131072),
            limits=_limits(SETTINGS),
            pdu_bytes_max=131072,
            adopt=lambda sock, sender: False,
            report=lambda refused: None,
            publish=self.published.append,
            pace=Always(),
        )

    def turn(self, times: int = 4) -> None:
        for _ in range(times):
            self.loop.turn(0.01)

    def associate(self) -> Peer:
        """A peer whose association was accepted."""
        peer = Peer(self.port).send(associate_request())
        self._peers.append(peer)
        self.turn()
        assert peer.receive()[0] == 2
        return peer

    def close(self) -> None:
        """The loop ends before the spool, as in the service."""
        self.loop.close()
        for peer in self._peers:
            peer.close()

    def end_commit(self, error: int = 0) -> None:
        """The disk is done."""
        self.sync.end(error)
        self.turn()


@pytest.fixture
def turned(tmp_path: Path) -> Iterator[Turned]:
    files = HeldFiles()
    with SpoolWriter(tmp_path, store="instances", segment_bytes=1 << 20, files=files) as spool:
        turned = Turned(spool, files.held)
        yield turned
        turned.close()


def has_answer(peer: Peer) -> bool:
    return bool(select.select([peer.socket], [], [], 0)[0])


def message(number: int = 1) -> bytes:
    uid = new_uid()
    return store_message(uid, ct_dataset(uid), message_id=number)


def test_answer_waits_for_the_commit_that_covers_it_and_later_ones_for_the_next(turned: Turned) -> None:
    first, second = turned.associate(), turned.associate()
    first.send(message())
    turned.turn()
    assert not has_answer(first)
    second.send(message())
    turned.turn()
    assert not has_answer(second)
    turned.end_commit()
    assert first.status() == 0
    assert not has_answer(second)
    turned.end_commit()
    assert second.status() == 0


def test_others_are_received_and_answered_meanwhile(turned: Turned) -> None:
    waiting, other = turned.associate(), turned.associate()
    waiting.send(message())
    turned.turn()
    other.send(fragments(ECHO_CONTEXT, echo_command(), command=True))
    turned.turn()
    assert other.status() == 0
    assert not has_answer(waiting)
    turned.end_commit()
    assert waiting.status() == 0


def test_what_a_waiting_peer_says_is_read_after_its_answer(turned: Turned) -> None:
    peer = turned.associate()
    peer.send(message(1))
    turned.turn()
    peer.send(message(2) + pdu(5, bytes(4)))
    turned.turn()
    assert not has_answer(peer)
    turned.end_commit()
    assert peer.status() == 0
    turned.turn()
    assert not has_answer(peer)
    turned.end_commit()
    assert peer.status() == 0
    assert peer.receive()[0] == 6
    assert peer.is_closed()


def test_peer_that_goes_away_while_it_waits_costs_nobody_else(turned: Turned, tmp_path: Path) -> None:
    gone, other = turned.associate(), turned.associate()
    gone.send(message())
    other.send(message())
    turned.turn()
    gone.close()
    turned.turn()
    turned.end_commit()
    assert other.status() == 0
    assert turned.loop.connections == 1
    assert len(list(replay(tmp_path, "instances"))) == 2


def test_mark_is_published_before_the_answer(turned: Turned) -> None:
    notice = SubmittedMessage(SENDER, ReadNotice("mpps", "completed", "1.2.3.4", "1.2.3", {}))
    seen: list[Mark] = []
    answer = notice.answer

    def answered(refusal: Refusal | None) -> None:
        seen.extend(turned.published)
        answer(refusal)

    notice.answer = answered  # type: ignore[method-assign]
    assert turned.loop.submit(notice)
    turned.turn()
    assert seen == []
    turned.end_commit()
    assert seen[-1] == turned.spool.committed
    assert notice.wait(0) is None


def test_failed_sync_denies_what_it_covered_and_what_waits_for_the_next(turned: Turned) -> None:
    covered, later, idle = turned.associate(), turned.associate(), turned.associate()
    covered.send(message())
    turned.turn()
    later.send(message())
    turned.turn()
    with pytest.raises(SpoolFailed, match="a sync failed"):
        turned.end_commit(errno.EIO)
    assert covered.status() == later.status() == 0xA700
    assert not has_answer(idle)


def test_stop_in_the_middle_of_a_commit_waits_for_it(turned: Turned) -> None:
    turned.associate().send(message())
    turned.turn()
    before = turned.spool.committed
    turned.spool.commit()
    assert turned.spool.committed.offset > before.offset


def test_pace_is_beside_only_when_others_send_and_the_disk_is_slow() -> None:
    pace = MeasuredPace()
    assert not pace.runs_beside(1, 4)  # nothing is known of the disk
    pace.took(2 * BESIDE_SECONDS)
    assert pace.runs_beside(1, 4)
    assert not pace.runs_beside(4, 4)
    for _ in range(50):
        pace.took(BESIDE_SECONDS / 3)
    assert not pace.runs_beside(1, 4)


def test_pace_waits_for_a_commit_now_and_then_to_measure_the_disk_again() -> None:
    pace = MeasuredPace()
    pace.took(1.0)
    assert [pace.runs_beside(1, 2) for _ in range(2 * LOOK_AGAIN)].count(False) == 2
