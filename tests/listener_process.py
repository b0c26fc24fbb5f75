"""The real listener as a process of its own, for tests that send to it, kill it and look at what it kept."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from db.engine import Database
from db.instances import instances_of
from db.spool import Replayed, replay
from db.views import StudyView
from db.worklist import studies, study

START_SECONDS = 60.0
PATIENCE_SECONDS = 30.0
_CHECKOUT = Path(__file__).resolve().parents[1]
_CODE = """
import os, sys
from pathlib import Path
from config.loading import load_settings
from config.logs import configure
from listener.service import run_listener
settings = load_settings(Path(sys.argv[1]))
configure(level="debug")
sys.exit(run_listener(settings, ready=lambda port: os.write(int(sys.argv[2]), b"%d\\n" % port)))
"""
LOCAL_PEERS = tuple(
    {"name": ae.lower(), "ae_title": ae, "addresses": ["127.0.0.0/8"]}
    for ae in ("SCANNER", "STORESCU", "ECHOSCU", "PYNETDICOM", "PACS")
)


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def wait_until(condition: Callable[[], Any], *, seconds: float = PATIENCE_SECONDS, what: str = "") -> Any:
    """The first true value of `condition`; fails when it takes too long."""
    ends_at = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < ends_at, f"waited {seconds:g} s for {what or condition}"
        time.sleep(0.02)


@dataclass
class ListenerProcess:
    """One listener over one state folder; `start` may be called again after it ended."""

    folder: Path
    database_url: str | None = None
    peers: tuple[Mapping[str, Any], ...] = LOCAL_PEERS
    listener: Mapping[str, Any] = field(default_factory=dict)
    tls: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)  # other branches
    environment: Mapping[str, str] = field(default_factory=dict)
    kill_point: str | None = None
    port: int = 0
    tls_port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def state_folder(self) -> Path:
        return self.folder / "state"

    @property
    def log_file(self) -> Path:
        return self.folder / "listener.log"

    @property
    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    def start(self) -> Self:
        """Start and wait until it accepts connections."""
        self.launch()
        assert self.port, f"the listener did not start:\n{self.log}"
        return self

    def launch(self) -> None:
        """Start; `port` is 0 when the process ended before it was ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.state_folder.mkdir(exist_ok=True)
        with closing(self.open_database()) as db:
            db.migrate()
        config = self.folder / "preread.yaml"
        config.write_text(yaml.safe_dump(self._settings()))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PREREAD_")}
        environment |= self.environment
        if self.kill_point:
            environment["PREREAD_KILL_POINT"] = self.kill_point
        reading, writing = os.pipe()
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _CODE, str(config), str(writing)],
                cwd=_CHECKOUT,
                env=environment,
                pass_fds=(writing,),
                stderr=log,
            )
        os.close(writing)
        with os.fdopen(reading) as ready:
            self.port = int(ready.readline() or 0)

    def _settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "state_folder": str(self.state_folder),
            "peers": [dict(peer) for peer in self.peers],
            "listener": {
                "host": "127.0.0.1",
                "port": 0,
                "segment_mib": 1,
                "quiet_seconds": 0.5,
                "reserve_gib": 0,
                **self.listener,
            },
            **self.settings,
        }
        if self.tls:
            self.tls_port = self.tls_port or free_port()
            settings["tls"] = {"host": "127.0.0.1", "port": self.tls_port, **self.tls}
        if self.database_url:
            settings["database"] = {"url": self.database_url}
        return settings

    def kill(self) -> None:
        """SIGKILL, and wait until the recorder noticed."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self, *, seconds: float = PATIENCE_SECONDS) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def wait(self, *, seconds: float = PATIENCE_SECONDS) -> int:
        """The exit status of a process that ends by itself."""
        assert self.process is not None
        return self.process.wait(seconds)

    def __enter__(self) -> Self:
        return self if self.process is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self.process = None

    def peak_memory_mib(self) -> dict[str, int]:
        """The most resident memory so far of the receiver and of the recorder; both count what they share."""
        assert self.process is not None
        proc = Path("/proc") / str(self.process.pid)
        children = (proc / "task" / proc.name / "children").read_text().split()
        peaks = [_peak_memory_mib(proc.with_name(pid)) for pid in (proc.name, *children)]
        return dict(zip(("receiver", "recorder"), peaks, strict=True))

    def kept(self) -> dict[str, list[bytes]]:
        """Datasets in the spool by SOP Instance UID, as a replay finds them."""
        found: dict[str, list[bytes]] = {}
        for item in self.replayed():
            meta = yaml.safe_load(item.meta)
            if "sop_class" in meta:
                found.setdefault(meta["sop_instance"], []).append(bytes(item.dataset))
        return found

    def replayed(self) -> list[Replayed]:
        return list(replay(self.state_folder / "spool", "instances"))

    def open_database(self) -> Database:
        return Database.open(self.database_url or f"sqlite:///{self.state_folder / 'preread.db'}")


def _peak_memory_mib(proc: Path) -> int:
    lines = (proc / "status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) >> 10


def stored_uids(db: Database) -> list[str]:
    """SOP Instance UIDs of all rows, each as often as it is there."""
    return [
        instance.sop_uid
        for row in studies(db, limit=1000)
        for instance in instances_of(db, row.study.id, own=True)
    ]


def seen(db: Database, study_uid: str) -> StudyView:
    """The study's page; fails when it is not there."""
    found = study(db, study_uid)
    assert found is not None, study_uid
    return found


def state_of(db: Database, study_uid: str) -> str | None:
    """ "receiving", "whole", ...; None while no row is there."""
    found = study(db, study_uid)
    return found.study.state if found else None
