"""How a service says that it is ready: one line to its supervisor, one datagram to systemd.

The supervisor gives each service a pipe and names its descriptor in the environment; the service writes one
JSON object (name to port) and closes it. systemd's protocol is a datagram "READY=1" to the Unix socket named
in NOTIFY_SOCKET (sd_notify(3)); a leading @ stands for an abstract address.
"""

import ctypes
import json
import os
import signal
import socket
from collections.abc import Mapping

READY_DESCRIPTOR = "PREREAD_READY_FD"
SUPERVISOR_PID = "PREREAD_SUPERVISOR_PID"
_PR_SET_PDEATHSIG = 1  # prctl(2)


def announce(ports: Mapping[str, int]) -> None:
    """Tell supervisor and systemd, where there is one, that this process serves.

    Parameters
    ----------
    ports : TCP port by name of the service, empty for a service without one
    """
    descriptor = os.environ.pop(READY_DESCRIPTOR, None)
    if descriptor is not None:
        with os.fdopen(int(descriptor), "wb") as pipe:
            pipe.write(json.dumps(dict(ports)).encode() + b"\n")
    notify("READY=1")


def notify(message: str) -> bool:
    """Send one message to systemd; False when the process was not started by it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as messenger:
        messenger.sendto(message.encode(), address)
    return True


def end_with_supervisor() -> None:
    """Ask the kernel for SIGTERM when the supervisor dies, so that no service outlives a killed node."""
    supervisor = os.environ.pop(SUPERVISOR_PID, None)
    if supervisor is None:
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(supervisor):  # it died before the request above took effect
        os.kill(os.getpid(), signal.SIGTERM)
