"""The receivers that are compared, each started afresh for every measurement, on loopback."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.ingest.certificates import RECEIVER, certificate, private_key, trusted
from benchmarks.ingest.messages import CT_IMAGE_STORAGE, EXPLICIT_LITTLE_ENDIAN

CHECKOUT = Path(__file__).resolve().parents[2]
START_SECONDS, SETTLE_SECONDS = 60.0, 60.0
QUIET_SECONDS = 2.5  # longer than a spool waits before it lays in segments
AE = "BENCH"
_TICKS = os.sysconf("SC_CLK_TCK")
_LISTENER = """
import functools, os, sys
from pathlib import Path
from config.loading import load_settings
from config.logs import configure
from listener import service
if sys.argv[3] == "unsynced":
    service.SpoolWriter = functools.partial(service.SpoolWriter, durable=False)
settings = load_settings(Path(sys.argv[1]))
configure(level="warning")
sys.exit(service.run_listener(settings, ready=lambda port: os.write(int(sys.argv[2]), b"%d\\n" % port)))
"""
# DCMTK and Orthanc read it; without it they wait 40 ms for each answer (performance.md 1.3).
NO_DELAY = {"TCP_NODELAY": "1"}


@dataclass(frozen=True)
class Server:
    """A receiver: how it is started, and what it promises."""

    name: str
    command: Callable[[Path, int], Sequence[str]]
    environment: Mapping[str, str]
    is_durable: bool = False
    is_slow: bool = False  # it gets a twentieth of the instances, or a round would take many minutes
    is_dcmtk: bool = False
    associations_max: int = 1000  # that it serves at a time
    speaks_tls: bool = False  # with certificates on both sides, and nothing else

    @property
    def is_preread(self) -> bool:
        """Whether it is ours."""
        return self.name.startswith("preread")


class Running:
    """One receiver at work over an empty folder; use it as a context manager."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Running":
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        with (self.folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                self.server.command(self.folder, self.port),
                cwd=CHECKOUT,
                env={**os.environ, **self.server.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_until_open()
        self.settle()
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        assert process is not None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @property
    def pid(self) -> int:
        """Process that receives."""
        assert self._process is not None
        return self._process.pid

    def cpu_seconds(self) -> tuple[float, float]:
        """CPU time so far: of the process that receives with its ended children, and of its living ones."""
        own = _times(self.pid)
        return sum(own), sum(sum(_times(pid)) for pid in _descendants(self.pid))

    def memory_mib(self, which: str = "VmRSS") -> float:
        """Resident memory now, or its peak (VmHWM), of the process that receives."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(which):
                return int(line.split()[1]) / 1024
        return 0.0

    def settle(self) -> None:
        """Wait until it does nothing: what it prepares at its start, or still writes, is not measured."""
        ends_at, last, since = time.monotonic() + SETTLE_SECONDS, -1.0, time.monotonic()
        while time.monotonic() < ends_at:
            now = sum(self.cpu_seconds())
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > QUIET_SECONDS:
                return
            time.sleep(0.1)

    def _wait_until_open(self) -> None:
        ends_at = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                process = self._process
                assert process is not None
                if process.poll() is not None or time.monotonic() > ends_at:
                    log = (self.folder / "server.log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"{self.server.name} did not start:\n{log}") from None
                time.sleep(0.05)


def tls_folder(folder: Path) -> Path:
    """Where a receiver over `folder` finds certificates: beside it, since it begins empty."""
    return folder.parent / "tls"


def _preread(mode: str, *, tls: bool = False) -> Callable[[Path, int], Sequence[str]]:
    def command(folder: Path, port: int) -> Sequence[str]:
        peers = [
            {"name": name.lower(), "ae_title": name, "addresses": ["127.0.0.0/8"]}
            for name in ("BENCHMARK", "STORESCU")
        ]
        settings: dict[str, object] = {
            "state_folder": str(folder / "state"),
            "node": {"ae_title": AE},
            "peers": peers,
            "listener": {
                "host": "127.0.0.1",
                "port": _free_port() if tls else port,
                "quiet_seconds": 3600,
                "connections_per_address_max": 64,
                "reserve_gib": 0.1,
            },
        }
        if tls:
            files = tls_folder(folder)
            settings["tls"] = {
                "host": "127.0.0.1",
                "port": port,
                "certificate": str(certificate(files, RECEIVER)),
                "private_key": str(private_key(files, RECEIVER)),
                "trusted": str(trusted(files)),
            }
        (folder / "state").mkdir()
        (folder / "preread.yaml").write_text(json.dumps(settings))  # JSON is YAML
        return [sys.executable, "-c", _LISTENER, str(folder / "preread.yaml"), "1", mode]

    return command


def _dcmtk(*options: str, tls: bool = False) -> Callable[[Path, int], Sequence[str]]:
    def command(folder: Path, port: int) -> Sequence[str]:
        (folder / "kept").mkdir()
        files = tls_folder(folder)
        own = [str(private_key(files, RECEIVER)), str(certificate(files, RECEIVER))]
        secured = ["+tls", *own, "+cf", str(trusted(files))] if tls else []
        return ["storescp", "-aet", AE, "-od", str(folder / "kept"), *secured, *options, str(port)]

    return command


def _dcmrecv(folder: Path, port: int) -> Sequence[str]:
    """Without a configuration dcmrecv takes part in C-ECHO alone."""
    (folder / "kept").mkdir()
    profile = folder / "dcmrecv.cfg"
    profile.write_text(
        f"[[TransferSyntaxes]]\n[Explicit]\nTransferSyntax1 = {EXPLICIT_LITTLE_ENDIAN}\n"
        f"[[PresentationContexts]]\n[Images]\nPresentationContext1 = {CT_IMAGE_STORAGE}\\Explicit\n"
        "[[Profiles]]\n[Bench]\nPresentationContexts = Images\n",
        encoding="ascii",
    )
    options = ["-aet", AE, "-od", str(folder / "kept"), "-xf", str(profile), "Bench"]
    return ["dcmrecv", *options, str(port)]


def _orthanc(folder: Path, port: int) -> Sequence[str]:
    settings = {
        "Name": "bench",
        "DicomAet": AE,
        "DicomPort": port,
        "HttpServerEnabled": False,
        "StorageDirectory": str(folder / "kept"),
        "IndexDirectory": str(folder / "kept"),
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True,
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    return [shutil.which("Orthanc") or "/usr/sbin/Orthanc", str(folder / "orthanc.json")]


def _pynetdicom(folder: Path, port: int) -> Sequence[str]:
    (folder / "kept").mkdir()
    return [sys.executable, "-m", "pynetdicom", "storescp", str(port), "-od", str(folder / "kept"), "-q"]


SERVERS = (
    Server("preread durable", _preread("durable"), {}, is_durable=True),
    Server("preread not synced", _preread("unsynced"), {}),
    Server("storescp as installed", _dcmtk(), {}, is_slow=True, is_dcmtk=True, associations_max=1),
    Server("storescp", _dcmtk(), NO_DELAY, is_dcmtk=True, associations_max=1),
    Server("storescp +B", _dcmtk("+B"), NO_DELAY, is_dcmtk=True, associations_max=1),
    Server("storescp +B --fork", _dcmtk("+B", "--fork"), NO_DELAY, is_dcmtk=True),
    Server(
        "storescp +B --fork 128 KiB",
        _dcmtk("+B", "--fork", "--max-pdu", "131072"),
        NO_DELAY,
        is_dcmtk=True,
    ),
    Server("dcmrecv", _dcmrecv, NO_DELAY, is_dcmtk=True, associations_max=1),
    Server("preread durable TLS", _preread("durable", tls=True), {}, is_durable=True, speaks_tls=True),
    Server("storescp TLS", _dcmtk(tls=True), NO_DELAY, is_dcmtk=True, associations_max=1, speaks_tls=True),
    Server(
        "storescp +B TLS",
        _dcmtk("+B", tls=True),
        NO_DELAY,
        is_dcmtk=True,
        associations_max=1,
        speaks_tls=True,
    ),
    Server("Orthanc", _orthanc, NO_DELAY, is_durable=True),
    Server("pynetdicom storescp", _pynetdicom, {}, associations_max=10),
)


def _times(pid: int) -> tuple[float, ...]:
    """User and system time of a process and of its ended children (proc(5), fields 14 to 17)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return (0.0,)
    return tuple(int(ticks) / _TICKS for ticks in fields[11:15])


def _descendants(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    found = [int(child) for child in text.split()]
    return [*found, *(grandchild for child in found for grandchild in _descendants(child))]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])
