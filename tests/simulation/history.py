"""One seeded history of a node: peers send, rows follow, segments are recycled, the power fails; repeatedly.

Everything between a message and the disk is the product's own code; the disk is `simulated_disk`. What the
database would hold is kept here as it is: where each instance lies, how far the log was applied, which lives
of segments are retired (the rules are those of `db.segments`). After each failure the node starts again and

- every acknowledged instance and notice is found where its row points, or behind the mark, byte for byte;
- whatever is found was sent whole: nothing torn, nothing that was refused or broken off;
- no row points to what is not there, no file is left that nobody needs, and receiving goes on.

An instance that was appended but not answered when the power failed may be found or not; it is the sender's
to send again. Two histories of the same seed are the same.
"""

import json
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from dicom_peer import CT, EXPLICIT, ct_dataset
from fronts import SENDER, Front, IntakeAlone, Message, Traffic
from simulated_disk import SimulatedDisk, SimulatedFiles, Stopped

from config.errors import PrereadError
from db.records import Location, Mark
from db.spool import SpoolFailed, SpoolWriter, read_record, replay
from db.spool_follow import follow
from db.spool_records import RUN, segments_of
from db.spool_segments import SegmentSupply, gone_for_good
from listener.intake import Announced
from listener.notices import ReadNotice
from listener.submissions import Submission, SubmittedInstance, SubmittedMessage

STORE = "instances"
FOLDER = Path("/simulated/spool")
SEGMENT_BYTES = 16 << 10
STEPS_BEFORE_FAILURE = 120
TURNS_MAX = 24
SLICE_BYTES = 1200  # many are of one size, as the slices of a series: what a former life left then fits
SIZES = ((SLICE_BYTES, SLICE_BYTES), (SLICE_BYTES, SLICE_BYTES), (0, 2000), (2000, 9000), (9000, 25_000))
FIRST_NUMBER, FIRST_TIME = 1000, 1000.0  # so that UIDs and times have one length, too


class Lost(AssertionError):
    """The node broke its promise."""


class SteppedSupply(SegmentSupply):
    """Prepares segments when told to, not in a thread of its own."""

    is_at_rest = False
    is_held_up: Callable[[], bool] = staticmethod(lambda: False)  # between a removal and its sync

    def _start(self) -> None:
        return

    def _join(self) -> None:
        return

    def _wanted(self) -> int:
        return self._stock if self.is_at_rest else self._ahead

    def _pause(self, seconds: float) -> None:
        return

    def take(self) -> tuple[int, int]:
        if not self._ready:
            self._step()
        return super().take()

    def _sync_removals(self) -> None:
        if not (self._has_removed and self.is_held_up()):
            super()._sync_removals()

    def step(self, *, is_at_rest: bool) -> None:
        """Prepare a segment; at rest lay in a stock and, when that is complete, give back what is retired."""
        self.is_at_rest = is_at_rest
        self._step()


class History:
    """What was sent, acknowledged, recorded and forgotten; `run` makes it happen and checks it.

    Parameters
    ----------
    front : how the intake is driven
    stop_at : the step of the disk at which the first process ends; None: the seed chooses
    cuts_power : whether that end is a power cut or a kill; None: the seed chooses
    """

    def __init__(
        self,
        seed: int,
        *,
        front: type[Front] = IntakeAlone,
        stop_at: int | None = None,
        cuts_power: bool | None = None,
    ) -> None:
        self.chance = random.Random(seed)
        self._front_type, self._stop_at, self._cuts_power = front, stop_at, cuts_power
        room = self.chance.choice((None, None, 400_000))
        self.disk = SimulatedDisk(self.chance, Path("/simulated"), room=room)
        self.acknowledged: dict[str, bytes] = {}
        self.may_be_found: dict[str, bytes] = {}
        self.rows: dict[str, Location] = {}
        self._unrefused: dict[str, int] = {}  # how often it came whole and was not refused
        self._forgotten: set[str] = set()
        self._recorded: set[str] = set()
        self._mark: Mark | None = None
        self._in_use: set[tuple[int, int]] = set()
        self._retired: list[tuple[int, int]] = []
        self._numbers = FIRST_NUMBER
        # With a clock that stands still, what is sent again makes the same record again; with one that goes,
        # every record is another one and has one place.
        self._clock_goes = self.chance.random() < 0.5
        self._time = FIRST_TIME
        self._places: dict[bytes, Location] = {}
        self._submitted: list[tuple[Message, Submission]] = []
        self._files = SimulatedFiles(self.disk)
        self.failures = 0
        self.was_stopped_early = False  # the first process, by `stop_at` or the seed's choice

    def run(self) -> None:
        """Let it happen. Raises `Lost`."""
        lives = self.chance.randint(2, 4)
        for life in range(lives):
            self._choose_end(is_first=life == 0, is_last=life == lives - 1)
            try:
                self._live()
            except Stopped:
                self.failures += 1
                self.was_stopped_early |= life == 0
            except SpoolFailed:
                if life == lives - 1:
                    raise Lost("the disk failed without a cause") from None
            is_cut = self.chance.random() < 0.6
            if life == 0 and self._cuts_power is not None:
                is_cut = self._cuts_power
            if is_cut or life == lives - 1:
                self.disk.cut_power()
        self.disk.stop_at = self.disk.fail_sync_at = None
        self._start().close()

    def _choose_end(self, *, is_first: bool, is_last: bool) -> None:
        disk, chance = self.disk, self.chance
        disk.stop_at = disk.fail_sync_at = None
        if is_first and self._stop_at is not None:
            disk.stop_at = self._stop_at
        elif not is_last:
            disk.stop_at = disk.steps + chance.randint(1, STEPS_BEFORE_FAILURE)
            if chance.random() < 0.15:
                disk.fail_sync_at = disk.steps + chance.randint(1, STEPS_BEFORE_FAILURE)

    def _live(self) -> None:
        writer = self._start()
        chance = self.chance
        traffic = Traffic(chance, self._message, self._complete, self._answered, self._clock)
        front = self._front_type(writer, traffic)
        try:
            for _ in range(TURNS_MAX):
                front.send()
                if chance.random() < 0.2:
                    self._submit(front)
                front.turn()
                self._hear_submitted()
                if chance.random() < 0.3:
                    self._supply.step(is_at_rest=chance.random() < 0.4)
                if chance.random() < 0.4:
                    self._record(writer, chance.choice((1, 5, 200)))
                if chance.random() < 0.3:
                    self._forget_some()
            if chance.random() < 0.5:
                writer.close()
        finally:
            self._files.end()
            front.close()
            self._submitted = []

    def _clock(self) -> float:
        self._time += self._clock_goes
        return self._time

    # What is sent.

    def _message(self) -> Message:
        chance = self.chance
        whole = [uid for uid in self.may_be_found if uid not in self._forgotten]
        if whole and chance.random() < 0.15:
            uid = chance.choice(whole)
            if not self.may_be_found[uid].startswith(b"{"):
                return Message(uid, self.may_be_found[uid])
        self._numbers += 1
        uid = f"1.2.3.{self._numbers}"
        pixels = chance.randbytes(chance.randint(*chance.choice(SIZES)) & ~1)
        dataset = ct_dataset(uid, study="1.2.3", series="1.2.4", pixels=pixels)
        fate = chance.choices(("whole", "lying", "broken off"), (8, 1, 1))[0]
        return Message(uid, dataset, fate)  # type: ignore[arg-type]  # choices() knows str

    def _submit(self, front: Front) -> None:
        submission: Submission
        if self.chance.random() < 0.5:
            self._numbers += 1
            uid = f"1.2.5.{self._numbers}"
            named = {"1.2.4": tuple(f"1.2.3.{n}" for n in range(self.chance.randint(0, 60)))}
            notice = ReadNotice("mpps", "completed", uid, "1.2.3", named)
            message = Message(uid, notice.payload())
            submission = SubmittedMessage(SENDER, notice)
        else:
            message = self._message()
            if message.fate != "whole":
                return
            announced = Announced(CT.encode(), message.uid.encode(), CT, EXPLICIT)
            submission = SubmittedInstance(SENDER, announced, message.dataset)
        self._complete(message)
        self._submitted.append((message, submission))
        front.submit(submission)

    def _complete(self, message: Message) -> None:
        if message.fate == "whole":
            self._unrefused[message.uid] = self._unrefused.get(message.uid, 0) + 1
            self.may_be_found[message.uid] = message.dataset

    def _answered(self, message: Message, is_success: bool) -> None:
        if is_success:
            if message.fate != "whole":
                raise Lost(f"{message.uid} is {message.fate} and was acknowledged")
            self.acknowledged[message.uid] = message.dataset
        elif message.fate == "whole":
            self._unrefused[message.uid] -= 1
            if not self._unrefused[message.uid]:
                del self.may_be_found[message.uid]

    def _hear_submitted(self) -> None:
        waiting = []
        for message, submission in self._submitted:
            refusal = submission.wait(0)
            if refusal is None:
                self._answered(message, True)
            elif "disk space" in refusal.comment or "needs a larger" in refusal.comment:
                self._answered(message, False)
            else:
                waiting.append((message, submission))
        self._submitted = waiting

    # What the database would do.

    def _record(self, writer: SpoolWriter, batch: int) -> None:
        """As the recorder does: from the mark to the committed end, at most a batch."""
        if writer.committed.epoch == 0:
            return
        end = writer.committed
        followed = follow(
            FOLDER, STORE, self._mark, until=end, live_since=writer.live_since, files=self._files
        )
        for number, item in enumerate(followed, 1):
            uid = self._check_found(item.meta, bytes(item.dataset), item.location)
            self._recorded.add(uid)
            if b'"notice"' not in item.meta and uid not in self._forgotten:
                self.rows.setdefault(uid, item.location)
            self._use(item.location.owner[1:])
            if number == batch:
                end = item.end
                break
        self._mark = end
        self._use((end.segment, end.epoch))

    def _use(self, life: tuple[int, int]) -> None:
        self._in_use.add(life)
        if life in self._retired:
            self._retired.remove(life)

    def _forget_some(self) -> None:
        """Retention: rows go, lives without rows before the mark are retired, the gone are forgotten."""
        if self._mark is None:
            return
        oldest = list(self.rows)[: self.chance.randint(0, len(self.rows))]
        for uid in self.chance.sample(oldest, self.chance.randint(0, len(oldest))):
            del self.rows[uid]
            self._forgotten.add(uid)
        needed = {location.owner[1:] for location in self.rows.values()}
        for life in sorted(self._in_use):
            if life[1] < self._mark.epoch and life not in needed:
                self._in_use.remove(life)
                self._retired.append(life)
        with suppress(OSError):  # nothing is forgotten when the disk fails
            gone = gone_for_good(self._files, FOLDER / STORE, self._retired)
            self._retired = [life for life in self._retired if life not in gone]

    def _take_retired(self) -> Sequence[tuple[int, int]]:
        return list(self._retired)

    # What must hold.

    def _start(self) -> SpoolWriter:
        """A new process recovers; check what it found."""
        self._files = SimulatedFiles(self.disk)
        try:
            writer = SpoolWriter(
                FOLDER,
                store=STORE,
                segment_bytes=SEGMENT_BYTES,
                stock=2,
                take_retired=self._take_retired,
                files=self._files,
                supply=self._make_supply,
            )
        except SpoolFailed:
            raise
        except PrereadError as error:
            raise Lost(f"the node does not start: {error}") from error
        try:
            self._check(writer)
        except PrereadError as error:
            raise Lost(f"what was found cannot be read: {error}") from error
        return writer

    def _make_supply(self, *given: Any, **named: Any) -> SegmentSupply:
        self._supply = SteppedSupply(*given, **named)
        self._supply.is_held_up = lambda: self.chance.random() < 0.5
        return self._supply

    def _check(self, writer: SpoolWriter) -> None:
        files = self._files
        for uid, location in self.rows.items():
            try:
                meta, dataset = read_record(FOLDER, location, files=files)
            except PrereadError as error:
                raise Lost(f"the row of {uid} leads to nothing: {error}") from error
            if self._check_found(meta, dataset, location) != uid:
                raise Lost(f"the row of {uid} leads to another instance")
        log = list(replay(FOLDER, STORE, self._mark, files=files))
        for item in log:
            self._check_found(item.meta, bytes(item.dataset), item.location)
        durable = replay(FOLDER, STORE, self._mark, until=writer.committed, files=files)
        found = {self._uid(item.meta) for item in durable} | self._recorded
        lost = self.acknowledged.keys() - found
        if lost:
            raise Lost(f"acknowledged and not found: {sorted(lost)}")
        needed = {location.owner[1:] for location in self.rows.values()} | self._in_use | set(self._retired)
        needed |= {item.location.owner[1:] for item in log}
        headers = segments_of(files, FOLDER / STORE)
        runs = {(h.number, h.epoch) for h in headers.values() if h and h.kind == RUN}
        if runs - needed:
            raise Lost(f"files that nobody needs are left: {sorted(runs - needed)}")

    def _check_found(self, meta: bytes, dataset: bytes, location: Location) -> str:
        uid = self._uid(meta)
        if uid not in self.may_be_found:
            raise Lost(f"{uid} was refused or broken off and is found")
        if dataset != self.may_be_found[uid]:
            raise Lost(f"{uid} is found with other bytes than were sent")
        if (
            self._clock_goes
            and b'"notice"' not in meta
            and self._places.setdefault(meta, location) != location
        ):
            raise Lost(f"{uid} was at {self._places[meta]} in a former life and is found at {location}")
        return uid

    @staticmethod
    def _uid(meta: bytes) -> str:
        try:
            return str(json.loads(meta)["sop_instance"])
        except ValueError as error:
            raise Lost(f"what is found is no record: {error}") from error


def run_history(seed: int, **named: Any) -> History:
    """A history of a seed; a failure says how to repeat it."""
    history = History(seed, **named)
    try:
        history.run()
    except Exception as error:
        error.add_note(f"To see it again: pytest tests/simulation --seed {seed}")
        raise
    return history
