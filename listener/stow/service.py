"""The process of the STOW-RS server: settings on standard input, the port and the pipe of life inherited.

It ends when the other end of the pipe is closed, by intention or by the death of the receiver, and gives
requests under way a few seconds.
"""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Iterator

import uvicorn

from config.logs import configure, logger
from config.settings import Settings
from listener.stow.app import create_app
from listener.stow.connections import bounded

KEEP_ALIVE_SECONDS = 5
STOP_SECONDS = 4


class _Server(uvicorn.Server):
    """Ends with the pipe of life; signals are the receiver's matter."""

    def __init__(self, config: uvicorn.Config, life: int) -> None:
        super().__init__(config)
        self._life = life

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until the pipe ends."""
        asyncio.get_running_loop().add_reader(self._life, self._end)
        await super().serve(sockets)

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._life)
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them as they are."""
        yield


def main() -> int:
    """Run with the listening socket and the pipe as arguments and the settings as JSON on standard input."""
    settings = Settings.model_validate_json(sys.stdin.read())
    configure(level=settings.log.level, form=settings.log.form)
    listening = socket.socket(fileno=int(sys.argv[1]))
    stow, listener = settings.stow, settings.listener
    config = uvicorn.Config(
        create_app(settings),
        http=bounded(request_seconds=listener.request_seconds, connections_max=stow.connections_max),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the address that counts is the one that connected, not the one it names
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        ws="none",
        ssl_certfile=stow.certificate,
        ssl_keyfile=stow.private_key,
    )
    try:
        _Server(config, int(sys.argv[2])).run(sockets=[listening])
    except OSError as error:
        logger("stow").error("the STOW-RS server stopped", reason=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
