"""One instance from its C-STORE-RQ to the spool: admitted, walked, gathered or streamed, appended or refused.

The answer may leave only after the spool's next commit (law 1). What is refused leaves nothing behind.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from config import guards_off
from db.spool import Run, SpoolFull, SpoolWriter
from listener.admission import (
    IDENTITY,
    OUT_OF_RESOURCES,
    Admission,
    Refusal,
    judge,
)
from listener.contexts import IMPLICIT_VR_LITTLE_ENDIAN
from listener.dataset_scan import DatasetScan
from listener.pdu import PeerError

_FULL = Refusal(OUT_OF_RESOURCES, "disk space is below the reserve; try again later")


@dataclass(frozen=True)
class Sender:
    """Who sends on an association."""

    calling_ae: str
    called_ae: str
    address: str

    @cached_property
    def as_json(self) -> str:
        """The members of the JSON object in a record's meta; made once per association."""
        members = {"calling": self.calling_ae, "called": self.called_ae, "address": self.address}
        return json.dumps(members, separators=(",", ":"))[1:-1]


@dataclass(frozen=True, slots=True)
class Announced:
    """What a C-STORE-RQ announces, with the presentation context it came on."""

    sop_class: bytes
    sop_instance: bytes
    abstract_syntax: str
    transfer_syntax: str


class Intake:
    """The way of all instances into one spool; for the loop's thread alone."""

    def __init__(
        self,
        spool: SpoolWriter,
        *,
        admission: Admission,
        instance_bytes_max: int,
        buffered_bytes_max: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.spool, self.admission = spool, admission
        self.instance_bytes_max, self.buffered_bytes_max = instance_bytes_max, buffered_bytes_max
        self.clock = clock
        self.buffered_bytes = 0  # of all instances under way

    def begin(self, sender: Sender, announced: Announced) -> "Incoming":
        """The instance that a C-STORE-RQ announces; refused already, if it must be."""
        refusal = self.admission.store(
            calling_ae=sender.calling_ae,
            address=sender.address,
            sop_class=announced.sop_class,
            sop_instance=announced.sop_instance,
            abstract_syntax=announced.abstract_syntax,
        )
        if refusal is None:
            try:
                self.spool.check_reserve()
            except SpoolFull:
                refusal = _FULL
        return Incoming(self, sender, announced, refusal)


class Incoming:
    """One instance under way."""

    def __init__(self, intake: Intake, sender: Sender, announced: Announced, refusal: Refusal | None) -> None:
        self.refusal = refusal
        self.size = 0
        self._intake, self._sender, self._announced = intake, sender, announced
        self._scan = DatasetScan(
            explicit=announced.transfer_syntax != IMPLICIT_VR_LITTLE_ENDIAN, wanted=IDENTITY
        )
        self._fragments: list[memoryview] = []
        self._gathered = 0  # bytes in `_fragments`
        self._run: Run | None = None

    def add(self, data: memoryview) -> None:
        """Take the next fragment; it must stay valid until `spill` returns True or the instance is over.

        Raises `PeerError` when a refused dataset goes on and on, `SpoolFailed` when the disk does.
        """
        self.size += len(data)
        if self.refusal is not None:
            if self.size > 2 * self._intake.instance_bytes_max:
                raise PeerError("a refused dataset does not end")
            return
        if self.size > self._intake.instance_bytes_max and guards_off.is_on("instance-cap"):
            gib = self._intake.instance_bytes_max / (1 << 30)
            self._refuse(Refusal(OUT_OF_RESOURCES, f"larger than listener.instance_gib_max, {gib:g} GiB"))
            return
        self._scan.feed(data)
        if self._scan.fault is not None and guards_off.is_on("dataset-walk"):
            self._refuse(judge(self._scan, sop_class=b"", sop_instance=b""))
            return
        self._fragments.append(data)
        self._gathered += len(data)
        self._intake.buffered_bytes += len(data)

    def spill(self) -> bool:
        """Write what was gathered when it is much; True: no fragment is needed any more.

        Instances above the spool's inline limit stream into a run of their own, and any of them does when
        all instances under way together hold too much memory.
        """
        if self._run is None:
            crowded = self._intake.buffered_bytes > self._intake.buffered_bytes_max
            small = self._gathered <= self._intake.spool.inline_bytes_max and not crowded
            if small or not guards_off.is_on("stream-to-disk"):
                return not self._fragments
        if self._fragments:
            try:
                if self._run is None:
                    self._run = self._intake.spool.open_run(self._meta())
                self._run.write(self._fragments)
            except SpoolFull:
                self._refuse(_FULL)
            self._forget_fragments()
        return True

    def finish(self) -> Refusal | None:
        """The last fragment came: append to the spool, or say why not. None is a success once committed."""
        if self.refusal is None:
            refusal = judge(
                self._scan, sop_class=self._announced.sop_class, sop_instance=self._announced.sop_instance
            )
            if refusal is not None:
                self._refuse(refusal)
        if self.refusal is None:
            try:
                self._append()
            except SpoolFull:
                self._refuse(_FULL)
        self._forget_fragments()
        return self.refusal

    def abandon(self) -> None:
        """The peer went away in the middle: leave nothing."""
        self._refuse(None)

    def _append(self) -> None:
        if self._run is not None:
            self.spill()
            if self.refusal is None:
                self._run.finish()
        else:
            self._intake.spool.append(self._meta(), self._fragments, self._gathered)

    def _refuse(self, refusal: Refusal | None) -> None:
        self.refusal = refusal
        self._forget_fragments()
        if self._run is not None:
            self._run.discard()
            self._run = None

    def _forget_fragments(self) -> None:
        self._intake.buffered_bytes -= self._gathered
        self._fragments, self._gathered = [], 0

    def _meta(self) -> bytes:
        announced, now = self._announced, self._intake.clock()
        # Both were checked: nothing in them needs JSON's escapes.
        uid, sop_class = announced.sop_instance.decode("ascii"), announced.sop_class.decode("ascii")
        return (
            f'{{{self._sender.as_json},"transfer_syntax":"{announced.transfer_syntax}",'
            f'"sop_class":"{sop_class}","sop_instance":"{uid}","received_at":{now:.3f}}}'
        ).encode()
