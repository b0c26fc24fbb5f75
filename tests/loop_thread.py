"""The listener's loop with a real spool and its door, on a thread of the test: no process, no recorder."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from config.settings import Settings
from db.spool import SpoolWriter, replay
from listener.admission import Admission
from listener.door import Door
from listener.intake import Intake
from listener.loop import Loop, Refused
from listener.negotiate import Negotiator
from listener.ports import listen
from listener.service import _limits


class LoopThread:
    """What the loop said and kept."""

    def __init__(self, settings: Settings, spool_folder: Path) -> None:
        self.settings, self._spool_folder = settings, spool_folder
        self.refused: list[Refused] = []

    def kept(self) -> dict[str, bytes]:
        """Datasets by SOP Instance UID, as a replay finds them."""
        found = replay(self._spool_folder, "instances")
        return {yaml.safe_load(item.meta)["sop_instance"]: bytes(item.dataset) for item in found}

    def senders(self) -> set[str]:
        """Calling AE titles of what was kept."""
        return {yaml.safe_load(i.meta)["calling"] for i in replay(self._spool_folder, "instances")}


@contextmanager
def loop_thread(settings: Settings, *, spool_folder: Path | None = None) -> Iterator[LoopThread]:
    """A loop over the state folder of `settings` that serves until the end of the block."""
    spool_folder = spool_folder or settings.spool_folder
    said = LoopThread(settings, spool_folder)
    settings.state_folder.mkdir(parents=True, exist_ok=True)
    stopping = threading.Event()
    with SpoolWriter(spool_folder, store="instances", segment_bytes=1 << 20) as spool:
        intake = Intake(
            spool,
            admission=Admission(settings, {}),
            instance_bytes_max=int(settings.listener.instance_gib_max * (1 << 30)),
            buffered_bytes_max=1 << 24,
        )
        loop = Loop(
            listen("127.0.0.1", 0, setting="listener"),
            intake=intake,
            negotiator=Negotiator(pdu_bytes_max=131072),
            limits=_limits(settings),
            pdu_bytes_max=131072,
            adopt=lambda sock, sender: False,
            report=said.refused.append,
            publish=lambda mark: None,
        )
        door = Door(settings.state_folder, loop=loop, intake=intake)

        def serve() -> None:
            while not stopping.is_set():
                loop.turn(0.25)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield said
        finally:
            stopping.set()
            loop.wake()
            thread.join()
            door.close()
            loop.close()
