"""How other processes of this node give an instance to the listener: a Unix socket, a message, an answer.

`intake.sock` in the state folder, SOCK_SEQPACKET, for processes of the same user alone. A connection carries
one message, JSON, and is answered with one:
    {"ask": "store", "calling", "called", "address", "sop_class", "sop_instance", "transfer_syntax", "size"}
        with one descriptor: a file whose first `size` bytes are the dataset. Answered after the commit.
    {"ask": "may-send", "calling", "called", "address"}: whether this sender's instances are taken.
    {"ask": "tell", "calling", "called", "address", "reason", "remedy"}: something was refused outside.
The answer is {"status": 0} or {"status": number, "comment": text}. This file is the asking side; it blocks.
"""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from listener.admission import OUT_OF_RESOURCES, SUCCESS, Refusal
from listener.intake import Announced, Sender

SOCKET_NAME = "intake.sock"
MESSAGE_BYTES_MAX = 8192
ANSWER_SECONDS = 60.0

_AWAY = Refusal(OUT_OF_RESOURCES, "the listener is not there; try again later")


@contextmanager
def socket_address(state_folder: Path) -> Iterator[str]:
    """The address of the socket, short enough for the system whatever the folder is called.

    A Unix address has at most 107 bytes (unix(7)); a descriptor of the folder stands for its path.
    """
    folder = os.open(state_folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{SOCKET_NAME}"
    finally:
        os.close(folder)


def hand_over(
    state_folder: Path, sender: Sender, announced: Announced, *, descriptor: int, size: int
) -> Refusal | None:
    """Why the listener refused an instance; None: it is durable (law 1).

    Parameters
    ----------
    descriptor : of a file whose first `size` bytes are the dataset
    """
    message = {
        "ask": "store",
        **_of(sender),
        "sop_class": announced.sop_class.decode("ascii"),
        "sop_instance": announced.sop_instance.decode("ascii"),
        "transfer_syntax": announced.transfer_syntax,
        "size": size,
    }
    return _ask(state_folder, message, descriptor)


def may_send(state_folder: Path, sender: Sender) -> Refusal | None:
    """Why this sender's instances are not taken; None: they are."""
    return _ask(state_folder, {"ask": "may-send", **_of(sender)})


def tell(state_folder: Path, sender: Sender, reason: str, remedy: str) -> None:
    """Make visible what was refused before it came to the intake."""
    _ask(state_folder, {"ask": "tell", **_of(sender), "reason": reason, "remedy": remedy})


def _of(sender: Sender) -> dict[str, str]:
    known = asdict(sender)
    return {"calling": known["calling_ae"], "called": known["called_ae"], "address": known["address"]}


def _ask(state_folder: Path, message: Mapping[str, object], descriptor: int | None = None) -> Refusal | None:
    packed = json.dumps(message).encode()
    try:
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking,
            socket_address(state_folder) as address,
        ):
            asking.settimeout(ANSWER_SECONDS)
            asking.connect(address)
            socket.send_fds(asking, [packed], [] if descriptor is None else [descriptor])
            answer = asking.recv(MESSAGE_BYTES_MAX)
    except OSError:
        return _AWAY
    if not answer:  # it ended before it answered: the instance may be there or not, so it does not count
        return _AWAY
    said = json.loads(answer)
    return None if said["status"] == SUCCESS else Refusal(int(said["status"]), str(said["comment"]))
