"""A real Orthanc as a process of its own, with its default rules but for the AE titles it knows."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from preread.demo.sender import Address

ORTHANC_AE = "ORTHANC"
START_SECONDS = 30.0


def need_installed(*programs: str) -> None:
    """Skip where a peer is not installed; fail in CI."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    missing = [name for name in programs if shutil.which(name, path=path) is None]
    if missing:
        message = f"not installed: {', '.join(missing)} (apt-get install orthanc dcmtk dicom3tools)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


@dataclass(frozen=True)
class Orthanc:
    """A private Orthanc that runs."""

    dicom_port: int
    http_port: int

    @property
    def address(self) -> Address:
        return Address(ORTHANC_AE, "127.0.0.1", self.dicom_port)

    def rest(self, path: str, body: object = None) -> Any:
        return json.loads(self.raw(path, None if body is None else json.dumps(body).encode()))

    def raw(self, path: str, body: bytes | None = None, *, method: str | None = None) -> bytes:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        url = f"http://127.0.0.1:{self.http_port}{path}"
        request = urllib.request.Request(url, data=body, method=method)
        with opener.open(request, timeout=30) as answer:
            return bytes(answer.read())

    def know(self, ae_title: str, port: int) -> None:
        """Where a peer of this machine listens: the destination of a C-MOVE."""
        modality = json.dumps([ae_title, "127.0.0.1", port]).encode()
        self.raw(f"/modalities/{ae_title.lower()}", modality, method="PUT")


@contextmanager
def running_orthanc(
    folder: Path, *, may_ask: Sequence[str], modalities: Mapping[str, Sequence[object]] | None = None
) -> Iterator[Orthanc]:
    """Start one in `folder`; the AE titles in `may_ask` may send C-FIND from this machine.

    Parameters
    ----------
    modalities : others that it knows, as it writes them: (AE title, host, port) by name
    """
    archive = Orthanc(free_port(), free_port())
    settings = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [],
        "RemoteAccessAllowed": False,
        "HttpPort": archive.http_port,
        "DicomPort": archive.dicom_port,
        "DicomAet": ORTHANC_AE,
        "DicomCheckCalledAet": True,
        "DicomModalities": {
            **{title.lower(): [title, "127.0.0.1", 104] for title in may_ask},
            **(modalities or {}),
        },
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    program = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        until = time.monotonic() + START_SECONDS
        while True:
            assert process.poll() is None, (folder / "log").read_text(errors="replace")
            try:
                archive.rest("/system")
                break
            except OSError:
                assert time.monotonic() < until, "Orthanc did not start"
                time.sleep(0.1)
        yield archive
    finally:
        process.kill()  # it takes seconds to end by itself, and its folder is thrown away
        process.wait()
