"""Where results go in a demo and how they are fetched from there: the embedded archive or a real one."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from db.engine import Database
from db.instances import ByteStore
from db.records import ResultRecord
from preread.demo.archive import EmbeddedArchive
from preread.demo.retrieve import retrieve
from preread.demo.sender import Address

SENDER_AE = "PREREAD_DEMO"


class Archive(Protocol):
    """An archive that results are delivered to."""

    @property
    def address(self) -> Address:
        """Where it listens."""
        ...

    def fetch(self, study_uid: str, results: Sequence[ResultRecord], folder: Path) -> tuple[str, ...]:
        """Write the objects that stand in the archive into `folder`; returns what is wrong, if anything."""
        ...


class Embedded:
    """The archive inside the demo."""

    def __init__(self, archive: EmbeddedArchive, ae_title: str) -> None:
        self._archive = archive
        self.address = Address(ae_title, "127.0.0.1", archive.port)

    def fetch(self, study_uid: str, results: Sequence[ResultRecord], folder: Path) -> tuple[str, ...]:
        """Copy the files of the archive."""
        missing = []
        for result in results:
            kept = self._archive.kept(result.sop_uid)
            if kept is None:
                missing.append(f"{result.kind} {result.sop_uid} is not in the archive")
            else:
                result_path(folder, result).write_bytes(kept.path.read_bytes())
        return tuple(missing)


class Real:
    """A real archive; where it does not let us retrieve, the bytes that were sent to it are kept instead."""

    def __init__(self, address: Address) -> None:
        self.address = address

    def fetch(self, study_uid: str, results: Sequence[ResultRecord], folder: Path) -> tuple[str, ...]:
        """C-GET each object."""
        paths = {result.sop_uid: result_path(folder, result) for result in results}

        def keep(sop_uid: str, content: bytes) -> None:
            if sop_uid in paths:
                paths[sop_uid].write_bytes(content)

        problem = retrieve(study_uid, results, archive=self.address, calling_ae=SENDER_AE, keep=keep)
        return () if problem is None else (f"{self.address} did not give back the results: {problem}",)


def result_path(folder: Path, result: ResultRecord) -> Path:
    """File of a result object: named by its kind and by a UID that is ours."""
    return folder / f"{result.kind}-{result.sop_uid}.dcm"


def study_folder(out: Path, study_uid: str) -> Path:
    """Folder of a study's results, made if absent. What a peer sent never becomes a path: a digest does."""
    folder = out / f"study-{hashlib.sha256(study_uid.encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def keep_sent_bytes(database: Database, spool: Path, results: Sequence[ResultRecord], folder: Path) -> None:
    """Write the objects that are not in `folder` yet as the node sent them."""
    store = ByteStore(spool)
    for result in results:
        path = result_path(folder, result)
        if not path.exists():
            path.write_bytes(store.read(result.location))
