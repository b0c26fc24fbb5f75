"""Instances per second into preread, durable and not, beside DCMTK, Orthanc and pynetdicom.

All receivers run alternately in one go, each started afresh for every measurement, in an order that is
shuffled each round. Columns are kinds of instances and numbers of associations; `raw` is a sender that costs
next to nothing and checks every answer, `storescu` is DCMTK's, as installed and with TCP_NODELAY=1. Columns
with TLS have the receivers that speak it, with certificates on both sides, beside preread without: the raw
sender speaks TLS by Python's OpenSSL to each of them, so its own share is the same. After
each run into preread the spool is replayed: what was acknowledged is there, byte for byte, once.
`scripts/bench ingest [--rounds 5] [--columns CT] [--servers preread,storescp] [--json FILE]`.
"""

import argparse
import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID

from benchmarks.ingest.certificates import make_certificates
from benchmarks.ingest.messages import (
    CT_IMAGE_STORAGE,
    CT_SLICE,
    EXPLICIT_LITTLE_ENDIAN,
    MULTI_FRAME,
    SMALL,
    Kind,
    dataset,
    sop_instance,
)
from benchmarks.ingest.servers import AE, NO_DELAY, SERVERS, Running, Server, tls_folder
from db.spool import replay

SENDER_SECONDS = 300.0


@dataclass(frozen=True)
class Column:
    """One way of sending."""

    name: str
    kind: Kind
    count: int
    associations: int = 1
    scu: str | None = None  # DCMTK's storescu: "as installed" or "no delay"
    tls: bool = False  # to receivers that speak it, and beside them to preread without

    def has(self, server: Server) -> bool:
        """Whether a receiver is measured in this column."""
        if self.associations > server.associations_max:
            return False
        if self.tls:
            return server.speaks_tls or (server.is_preread and server.is_durable)
        return not server.speaks_tls


COLUMNS = (
    Column("CT x1", CT_SLICE, 400),
    Column("CT x4", CT_SLICE, 400, 4),
    Column("CT x32", CT_SLICE, 400, 32),
    Column("small x1", SMALL, 2000),
    Column("small x4", SMALL, 2000, 4),
    Column("small x32", SMALL, 2000, 32),
    Column("300 MB x1", MULTI_FRAME, 1),
    Column("CT TLS x1", CT_SLICE, 400, tls=True),
    Column("small TLS x1", SMALL, 2000, tls=True),
    Column("CT storescu as installed", CT_SLICE, 100, scu="as installed"),
    Column("CT storescu no delay", CT_SLICE, 100, scu="no delay"),
    Column("small storescu as installed", SMALL, 200, scu="as installed"),
    Column("small storescu no delay", SMALL, 200, scu="no delay"),
)


@dataclass(frozen=True)
class Figure:
    """One measurement."""

    column: str
    server: str
    round: int
    per_second: float
    cpu_ms: float  # of the receiving process, per instance
    beside_cpu_ms: float  # of its other processes: for preread the recorder, until it was done
    grown_mib: float  # peak of resident memory over what it had before


class NotKept(Exception):
    """Something that was acknowledged is not in the spool, or not as it was sent."""


def measure(server: Server, column: Column, turn: int, folder: Path) -> Figure:
    """Start, send, and look at what it cost."""
    count = max(4, column.count // 20) if server.is_slow and column.count > 4 else column.count
    with Running(server, folder / "server") as running:
        idle_mib = running.memory_mib()
        own, beside = running.cpu_seconds()
        if column.scu is None:
            seconds = _send_raw(running, column, count, turn, tls_folder(folder / "server"))
        else:
            seconds = _send_with_storescu(running, column, count, turn, folder)
        own_after, _ = running.cpu_seconds()
        peak_mib = running.memory_mib("VmHWM")
        if server.is_preread:
            running.settle()
        _, beside_after = running.cpu_seconds()
    if server.is_preread:
        check_kept(folder / "server" / "state" / "spool", column.kind, turn, count)
    return Figure(
        column.name,
        server.name,
        turn,
        count / seconds,
        1000 * (own_after - own) / count,
        1000 * (beside_after - beside) / count,
        peak_mib - idle_mib,
    )


def check_kept(spool: Path, kind: Kind, run: int, count: int) -> None:
    """Every instance of a run is in the log once and equals what was sent."""
    found: dict[str, list[str]] = {}
    for item in replay(spool, "instances"):
        digest = hashlib.sha256()
        for chunk in item.chunks():
            digest.update(chunk)
        found.setdefault(json.loads(item.meta)["sop_instance"], []).append(digest.hexdigest())
    sent = {sop_instance(run, n): [hashlib.sha256(dataset(kind, run, n)).hexdigest()] for n in range(count)}
    if found != sent:
        lost, other = sent.keys() - found.keys(), [uid for uid in sent if found.get(uid) != sent[uid]]
        raise NotKept(f"{len(lost)} of {count} acknowledged instances are lost, {len(other)} are not as sent")


def _send_raw(running: Running, column: Column, count: int, run: int, tls: Path) -> float:
    command = [sys.executable, "-m", "benchmarks.ingest.sender", str(running.port), AE, column.kind.name]
    command += [str(count), str(column.associations), str(run)]
    command += [str(tls)] if running.server.speaks_tls else []
    said = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=SENDER_SECONDS, start_new_session=True
    )
    if said.returncode:
        raise RuntimeError(f"{column.name} to {running.server.name}: {said.stderr.strip()[-500:]}")
    result = json.loads(said.stdout)
    if result["cipher"]:
        sys.stderr.write(f"{running.server.name}: {result['cipher']}\n")
    return float(result["seconds"])


def _send_with_storescu(running: Running, column: Column, count: int, run: int, folder: Path) -> float:
    """Seconds of the whole program, its start included, as a site would see it."""
    files = folder / "files"
    files.mkdir(exist_ok=True)
    for old in files.iterdir():
        old.unlink()
    for number in range(count):
        (files / f"{number:06d}.dcm").write_bytes(_part10(column.kind, run, number))
    environment = {name: value for name, value in os.environ.items() if name not in NO_DELAY}
    began = time.perf_counter()
    subprocess.run(
        ["storescu", "-aec", AE, "+sd", "127.0.0.1", str(running.port), str(files)],
        env=environment | (NO_DELAY if column.scu == "no delay" else {}),
        check=True,
        capture_output=True,
        timeout=SENDER_SECONDS,
        start_new_session=True,
    )
    return time.perf_counter() - began


def _part10(kind: Kind, run: int, number: int) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(CT_IMAGE_STORAGE)
    meta.MediaStorageSOPInstanceUID = UID(sop_instance(run, number))
    meta.TransferSyntaxUID = UID(EXPLICIT_LITTLE_ENDIAN)
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, False
    stream.write(bytes(128) + b"DICM")
    write_file_meta_info(stream, meta, enforce_standard=True)
    return stream.getvalue() + dataset(kind, run, number)


def run_rounds(columns: Sequence[Column], servers: Sequence[Server], rounds: int) -> Iterable[Figure]:
    """Every server on every column, round after round."""
    with tempfile.TemporaryDirectory(prefix="preread-bench-") as name:
        make_certificates(Path(name) / "tls")
        for turn in range(1, rounds + 1):
            for column in columns:
                able = [one for one in servers if column.has(one)]
                for server in random.Random(turn * 97 + column.associations).sample(able, len(able)):
                    figure = measure(server, column, turn, Path(name))
                    sys.stderr.write(
                        f"round {turn} {column.name:28} {server.name:26} {figure.per_second:9.1f}/s\n"
                    )
                    yield figure


def print_tables(figures: Sequence[Figure]) -> None:
    """One table per column: medians, all rounds, and the ratio to the fastest setting of DCMTK."""
    dcmtk = {server.name for server in SERVERS if server.is_dcmtk}
    for column in dict.fromkeys(figure.column for figure in figures):
        of_column = [figure for figure in figures if figure.column == column]
        rates = {
            name: [figure.per_second for figure in of_column if figure.server == name]
            for name in dict.fromkeys(figure.server for figure in of_column)
        }
        best = max((statistics.median(r) for name, r in rates.items() if name in dcmtk), default=None)
        sys.stdout.write(f"\n{column}\n")
        sys.stdout.write(
            f"  {'receiver':28}{'per s':>9}{'x DCMTK':>9}{'CPU ms':>8}{'beside':>8}{'+MiB':>7}  rounds\n"
        )
        for name, values in sorted(rates.items(), key=lambda item: -statistics.median(item[1])):
            own = [figure for figure in of_column if figure.server == name]
            median = statistics.median(values)
            ratio = f"{median / best:9.2f}" if best else f"{'':9}"
            sys.stdout.write(
                f"  {name:28}{median:9.1f}{ratio}{statistics.median(f.cpu_ms for f in own):8.3f}"
                f"{statistics.median(f.beside_cpu_ms for f in own):8.3f}"
                f"{max(f.grown_mib for f in own):7.1f}  {' '.join(f'{value:.0f}' for value in values)}\n"
            )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--columns", default="", help="beginnings of names, separated by commas")
    parser.add_argument("--servers", default="", help="beginnings of names, separated by commas")
    parser.add_argument("--json", type=Path, help="write every measurement to this file")
    asked = parser.parse_args()
    columns = [c for c in COLUMNS if c.name.startswith(tuple(asked.columns.split(",")))]
    servers = [s for s in SERVERS if s.name.startswith(tuple(asked.servers.split(",")))]
    figures = []
    for figure in run_rounds(columns, servers, asked.rounds):
        figures.append(figure)
        if asked.json:
            asked.json.write_text(json.dumps([asdict(one) for one in figures], indent=1))
    print_tables(figures)


if __name__ == "__main__":
    main()
