"""Make files durable beside other work: Linux AIO, the operation IOCB_CMD_FDSYNC (io_submit(2)).

The kernel syncs in a worker of its own and writes to an event file when it is done, so a loop over epoll
needs no thread for it: a thread would take turns with the loop for the interpreter. Where the kernel or a
sandbox refuses the calls there is none of this, and who commits waits for the disk.
"""

import ctypes
import errno
import os
import platform
import select
from typing import Self

AT_ONCE = 64  # syncs under way
# Numbers of io_setup, io_destroy, io_getevents, io_submit (syscalls(2)).
_CALLS = {"x86_64": (206, 207, 208, 209), "aarch64": (0, 1, 4, 2)}
_FDSYNC, _RING_BELL = 3, 1  # IOCB_CMD_FDSYNC, IOCB_FLAG_RESFD


class _Request(ctypes.Structure):
    """struct iocb of a little-endian machine (linux/aio_abi.h)."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_uint32),
        ("operation", ctypes.c_uint16),
        ("priority", ctypes.c_int16),
        ("fd", ctypes.c_uint32),
        ("buffer", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("bell", ctypes.c_uint32),
    )


class _Ended(ctypes.Structure):
    """struct io_event."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("request", ctypes.c_uint64),
        ("result", ctypes.c_int64),
        ("result2", ctypes.c_int64),
    )


class BackgroundSync:
    """Syncs that are under way; `bell` is readable when some ended."""

    def __init__(self, calls: tuple[int, int, int, int], context: ctypes.c_ulong) -> None:
        _, self._destroy, self._getevents, self._submit = calls
        self._context = context
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._ended = (_Ended * AT_ONCE)()
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    @classmethod
    def open(cls) -> Self | None:
        """None where the kernel offers no such thing to this process."""
        calls = _CALLS.get(platform.machine())
        if calls is None:
            return None
        context = ctypes.c_ulong(0)
        if ctypes.CDLL(None, use_errno=True).syscall(calls[0], AT_ONCE, ctypes.byref(context)) != 0:
            return None
        return cls(calls, context)

    def begin(self, fd: int) -> bool:
        """Sync what was written to `fd` so far; False: the kernel takes none now, sync it yourself."""
        request = _Request(operation=_FDSYNC, fd=fd, flags=_RING_BELL, bell=self.bell)
        requests = (ctypes.POINTER(_Request) * 1)(ctypes.pointer(request))
        return self._call(self._submit, ctypes.c_long(1), requests) == 1  # it copied the request

    def ended(self) -> list[int]:
        """The error number of each sync that ended since, 0 where all went well. Never waits."""
        try:
            os.eventfd_read(self.bell)
        except BlockingIOError:
            return []
        count = self._call(self._getevents, ctypes.c_long(0), ctypes.c_long(AT_ONCE), self._ended, None)
        if count < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return [max(0, -self._ended[number].result) for number in range(count)]

    def wait(self) -> list[int]:
        """The same, once at least one ended."""
        while not (found := self.ended()):
            select.select([self.bell], [], [])
        return found

    def close(self) -> None:
        """Wait for what is under way and give everything back."""
        self._call(self._destroy)
        os.close(self.bell)

    def _call(self, number: int, *arguments: object) -> int:
        while True:
            result = int(self._libc.syscall(number, self._context, *arguments))
            if result >= 0 or ctypes.get_errno() != errno.EINTR:
                return result
