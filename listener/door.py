"""The door of the loop for other processes of this node (`listener.handover` says what passes through it).

They did the waiting for slow peers; here a whole instance lies in a file already. It is submitted to the loop
like one of a pynetdicom thread, takes the same way through the intake, and is answered after the commit.
"""

import json
import os
import socket
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from config.errors import PrereadError
from config.logs import logger
from listener.admission import NOT_AUTHORIZED, OUT_OF_RESOURCES, SUCCESS, Refusal, remedy_of
from listener.handover import MESSAGE_BYTES_MAX, SOCKET_NAME, socket_address
from listener.intake import Announced, Intake, Sender
from listener.loop import Loop
from listener.pdu import PeerError
from listener.submissions import STEP_BYTES, SubmittedInstance

CALLERS_MAX = 128  # who connected and did not ask yet; the oldest goes
BACKLOG = 128
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7))
_UNAUTHORIZED = Refusal(NOT_AUTHORIZED, "may not send, or not from this address")


class Door:
    """Listens on the socket of one state folder; for the loop's thread alone."""

    def __init__(self, state_folder: Path, *, loop: Loop, intake: Intake) -> None:
        self._loop, self._intake = loop, intake
        self._path = state_folder / SOCKET_NAME
        self._callers: dict[int, socket.socket] = {}
        self._listening = socket.socket(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            # What a killed listener left; the lock of the spool says that no other one lives.
            self._path.unlink(missing_ok=True)
            with socket_address(state_folder) as address:
                self._listening.bind(address)
            self._path.chmod(0o600)
            self._listening.listen(BACKLOG)
        except OSError as error:
            self._listening.close()
            raise PrereadError(
                f"the socket for uploads and STOW-RS cannot be made ({error.strerror})",
                where=str(self._path),
                remedy="Put state_folder on a local file system that knows Unix sockets.",
            ) from error
        loop.watch(self._listening.fileno(), self._accept)

    def close(self) -> None:
        """Let nobody in any more; what was submitted is still answered."""
        self._loop.unwatch(self._listening.fileno())
        self._path.unlink(missing_ok=True)
        self._listening.close()
        for caller in list(self._callers.values()):
            self._leave(caller)

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listening.accept()
            except OSError:
                return
            credentials = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            if _CREDENTIALS.unpack(credentials)[1] not in (os.getuid(), 0):
                caller.close()
                continue
            if len(self._callers) >= CALLERS_MAX:
                self._leave(next(iter(self._callers.values())))
            caller.setblocking(False)
            self._callers[caller.fileno()] = caller
            self._loop.watch(caller.fileno(), partial(self._hear, caller))

    def _hear(self, caller: socket.socket) -> None:
        try:
            packed, descriptors, _, _ = socket.recv_fds(caller, MESSAGE_BYTES_MAX, 1)
        except BlockingIOError:
            return  # the event was of a connection whose descriptor this one got
        except OSError:
            self._leave(caller)
            return
        if not packed:
            self._leave(caller)
            return
        self._loop.unwatch(caller.fileno())
        del self._callers[caller.fileno()]
        handed = descriptors[0] if descriptors else None
        try:
            self._act(caller, json.loads(packed), handed)
        except (ValueError, KeyError, TypeError):
            logger("listener").error("a message at the door that is none of ours")
            if handed is not None:
                os.close(handed)
            caller.close()

    def _act(self, caller: socket.socket, message: dict[str, object], handed: int | None) -> None:
        sender = Sender(str(message["calling"]), str(message["called"]), str(message["address"]))
        match message["ask"], handed:
            case "store", int(descriptor):
                announced = Announced(
                    sop_class=str(message["sop_class"]).encode("ascii"),
                    sop_instance=str(message["sop_instance"]).encode("ascii"),
                    abstract_syntax=str(message["sop_class"]),
                    transfer_syntax=str(message["transfer_syntax"]),
                )
                size = int(str(message["size"]))
                submission = _HandedOver(
                    sender, announced, descriptor=descriptor, size=size, caller=caller, loop=self._loop
                )
                if not self._loop.submit(submission):
                    submission.answer(Refusal(OUT_OF_RESOURCES, "too many instances wait for the disk"))
            case "may-send", None:
                allowed = self._intake.admission.may_send(sender.calling_ae, sender.address)
                _answer(caller, None if allowed else _UNAUTHORIZED)
            case "tell", None:
                self._loop.tell(sender, str(message["reason"]), str(message["remedy"]))
                _answer(caller, None)
            case _:
                raise ValueError("no such question")

    def _leave(self, caller: socket.socket) -> None:
        self._loop.unwatch(caller.fileno())
        del self._callers[caller.fileno()]
        caller.close()


class _HandedOver(SubmittedInstance):
    """An instance in a file of another process, which waits at the other end of `caller`."""

    def __init__(
        self,
        sender: Sender,
        announced: Announced,
        *,
        descriptor: int,
        size: int,
        caller: socket.socket,
        loop: Loop,
    ) -> None:
        super().__init__(sender, announced, b"")
        self._descriptor, self._size, self._caller, self._loop = descriptor, size, caller, loop

    def pieces(self) -> Iterator[memoryview]:
        """Read, not mapped: a disk that fails under a mapping would kill the process."""
        at = 0
        while at < self._size:
            try:
                piece = os.pread(self._descriptor, min(STEP_BYTES, self._size - at), at)
            except OSError as error:
                raise PeerError(f"the file handed over cannot be read ({error.strerror})") from error
            if not piece:
                raise PeerError("the file handed over is shorter than was said")
            at += len(piece)
            yield memoryview(piece)

    def answer(self, refusal: Refusal | None) -> None:
        """Tell the process; one that is gone is not waited for."""
        os.close(self._descriptor)
        if refusal is not None:
            reason = f"instance refused with {refusal.status:04X}: {refusal.comment}"
            self._loop.tell(self.sender, reason, remedy_of(refusal))
        _answer(self._caller, refusal)


def _answer(caller: socket.socket, refusal: Refusal | None) -> None:
    said = {"status": SUCCESS} if refusal is None else {"status": refusal.status, "comment": refusal.comment}
    try:
        caller.send(json.dumps(said).encode())
    except OSError:  # its process ended or gave up; what it sent is stored, and a repeat is no harm
        logger("listener").info("an answer that nobody waits for")
    finally:
        caller.close()
