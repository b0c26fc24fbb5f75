"""The well-behaved peer that visits a listener under attack: associate, echo, store, release, twice a second.

It is a process of its own: only the listener can hold it up, not an attacker in the test's process.
"""

import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from dicom_peer import Peer, associate_request, ct_dataset, new_uid

AE_TITLE, ADDRESS = "PACS", "127.0.0.2"
PERIOD_SECONDS, PATIENCE_SECONDS = 0.5, 2.0
_START_SECONDS = 30.0


@dataclass(frozen=True)
class Probe:
    """One visit, in times of the monotonic clock, which processes share; `fault` is empty if it went well."""

    began_at: float
    ended_at: float
    fault: str


class Prober:
    """The process and what it saw so far.

    Parameters
    ----------
    tls : files of what it trusts, of its certificate and of its key, where the port speaks TLS
    """

    def __init__(self, port: int, tls: Sequence[Path] = ()) -> None:
        self._arguments = [str(port), *map(str, tls)]
        self.probes: list[Probe] = []
        self._news = threading.Condition()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-c", "import prober, sys; prober.visit(*sys.argv[1:])", *self._arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, _FOLDERS))},
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        self.wait(lambda probe: not probe.fault, seconds=_START_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                if not line.endswith("\n"):
                    break  # it was ended while it wrote
                began, ended, fault = line.rstrip("\n").split(" ", 2)
                with self._news:
                    self.probes.append(Probe(float(began), float(ended), fault))
                    self._news.notify_all()

    def wait(self, wanted: Callable[[Probe], bool], *, seconds: float) -> None:
        """Until a probe is as wanted; without an error after `seconds`: the judgement is the caller's."""
        with self._news:
            self._news.wait_for(lambda: any(map(wanted, self.probes)), seconds)


_FOLDERS = (Path(__file__).parent, Path(__file__).parents[1])


def visit(port: str, *tls: str) -> None:
    """Visit the listener until killed; a line for each time."""
    request = associate_request(calling=AE_TITLE)
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(tls[0])
        context.load_cert_chain(tls[1], tls[2])
    while True:
        began = time.monotonic()
        fault = ""
        try:
            with Peer(int(port), timeout=PATIENCE_SECONDS, source=ADDRESS, tls=context) as peer:
                peer.associate(request)
                uid = new_uid()
                statuses = (peer.echo(), peer.store(uid, ct_dataset(uid)))
                peer.release()
            if statuses != (0, 0):
                fault = f"statuses {statuses}"
        except (OSError, AssertionError) as error:
            fault = f"{type(error).__name__}: {error}"
        ended = time.monotonic()
        print(began, ended, fault, flush=True)
        time.sleep(max(0.0, began + PERIOD_SECONDS - ended))
