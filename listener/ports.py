"""A listening socket at the address a setting names, or an error that names the setting."""

import socket

from config.errors import PrereadError

BACKLOG = 1024


def listen(host: str, port: int, *, setting: str) -> socket.socket:
    """A socket that listens.

    Parameters
    ----------
    setting : branch of the settings with `host` and `port`, for the error

    Raises
    ------
    PrereadError : the address cannot be used
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise PrereadError(
            f"cannot listen on {host} port {port} ({error.strerror})",
            where=f"{setting}.port",
            remedy=f"Stop what uses the port, or set another {setting}.host and {setting}.port.",
        ) from error
