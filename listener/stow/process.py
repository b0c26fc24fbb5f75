"""The receiver's end of the STOW-RS server: its port, its process, and the pipe that tells it to end.

The port is opened here, so that a start fails with its reason, and connections wait while the process is
started again.
"""

import os
import ssl

from config.errors import PrereadError
from config.logs import logger
from config.settings import Settings, StowSettings
from listener.child import ChildProcess
from listener.ports import listen

STOP_SECONDS = 0.5  # behind the drain of the loop; a stop takes less than 10 s in all


class StowProcess:
    """The server's process; `settings.stow.port` must be set."""

    def __init__(self, settings: Settings) -> None:
        assert settings.stow.port is not None
        _check_certificate(settings.stow)
        self._listening = listen(settings.stow.host, settings.stow.port, setting="stow")
        self._life, self._held = os.pipe()
        self._child = ChildProcess(
            "STOW-RS server", "listener.stow.service", settings, [self._listening.fileno(), self._life]
        )
        port = self._listening.getsockname()[1]
        logger("listener").info("listening for STOW-RS", host=settings.stow.host, port=port)

    def tend(self) -> None:
        """Start the process when it is not there."""
        self._child.tend()

    @property
    def is_running(self) -> bool:
        """Whether requests may be under way."""
        return self._child.is_running

    def stop(self) -> None:
        """Take no new connection; requests under way get a few seconds."""
        if self._listening.fileno() >= 0:
            self._listening.close()
            os.close(self._held)

    def wait(self) -> None:
        """Until it ended."""
        self.stop()
        self._child.wait(STOP_SECONDS)
        os.close(self._life)


def _check_certificate(stow: StowSettings) -> None:
    """Load it once here, so that a wrong one fails the start and not a process that is started for ever."""
    if stow.certificate is None:
        return
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(stow.certificate, stow.private_key)
    except OSError as error:
        raise PrereadError(
            f"the certificate and its key cannot be used ({error.strerror or error})",
            where="stow.certificate",
            remedy="Name PEM files that this user may read, a certificate and the key that belongs to it.",
        ) from error
