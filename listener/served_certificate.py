"""The certificate that new TLS connections are shown, read again whenever its files change.

A connection keeps what it was made with. Files that cannot be used leave the former ones in force, and the
log and the doctor say so. A thread looks, since a file system may hang; the loop only takes `context`.
"""

import ssl
import threading
from pathlib import Path

from config.logs import logger
from config.settings import TlsSettings
from config.tls import CertificateFault, acceptor_context

LOOK_SECONDS = 1.0

_Stamp = tuple[tuple[int, int, int] | None, ...]


class ServedCertificate:
    """The TLS context of today; a context manager that watches the files.

    Raises
    ------
    CertificateFault : the files cannot be used at the start
    """

    def __init__(self, tls: TlsSettings) -> None:
        self._tls = tls
        self._loaded = self._seen = self._stamp()
        self.context: ssl.SSLContext = acceptor_context(tls)
        self._ended = threading.Event()

    def __enter__(self) -> None:
        threading.Thread(target=self._watch, name="certificate-watch", daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def look(self) -> None:
        """Read the files again when they changed, and did not change again since the last look."""
        stamp = self._stamp()
        if stamp == self._loaded or stamp != self._seen:
            self._seen = stamp  # a certificate and its key are two files: both must be there
            return
        self._loaded = stamp
        log = logger("listener")
        try:
            self.context = acceptor_context(self._tls)
        except CertificateFault as error:
            log.error("new certificates cannot be used, the former ones stay", reason=str(error))
        else:
            log.info("certificates were read again; new connections get them")

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self.look()

    def _stamp(self) -> _Stamp:
        return tuple(map(_stamp_of, (self._tls.certificate, self._tls.private_key, self._tls.trusted)))


def _stamp_of(path: Path | None) -> tuple[int, int, int] | None:
    try:
        found = path.stat() if path is not None else None
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns) if found is not None else None
