"""What the doctor looks at of the ways in: each port, who can reach it, and its certificates."""

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from config.certificates import ends_at_of, examine, names_of
from config.errors import PrereadError
from config.settings import PeerSettings, Settings, TlsSettings, is_loopback
from config.tls import acceptor_context, said_by
from preread.check_result import CheckResult, in_words

CONNECT_SECONDS = 3.0
EXPIRES_SOON = timedelta(days=14)


def check_ways_in(settings: Settings) -> Iterator[CheckResult]:
    """Every port that takes images, who can reach it, and the certificates it needs."""
    yield check_listener(settings)
    yield check_reach(settings)
    tls, stow = settings.tls, settings.stow
    if tls.port is not None:
        yield _check_port("TLS", "tls", tls.host, tls.port)
    if stow.port is not None:
        yield _check_port("STOW-RS", "stow", stow.host, stow.port)
    if tls.certificate is not None:
        yield from check_tls(tls)
    if stow.certificate is not None and stow.private_key is not None:
        yield check_certificate("stow", stow.certificate, stow.private_key)


def check_listener(settings: Settings) -> CheckResult:
    """Something answers on the DICOM port; else whether the port is free for us."""
    host, port = settings.listener.host, settings.listener.port
    if port == 0:
        return CheckResult(
            "listener",
            False,
            "listener.port is 0: another port at each start",
            "Set a port, for example 11112.",
        )
    if _connects(host, port):
        return CheckResult("listener", True, f"port {port} answers; we are {settings.node.ae_title}")
    refusal = _bind_error(host, port)
    if refusal is not None:
        return CheckResult(
            "listener", False, f"port {port} cannot be used: {refusal}", "Free it or set listener.port."
        )
    return CheckResult("listener", False, f"nothing listens on port {port}", "Start `preread serve`.")


def check_reach(settings: Settings) -> CheckResult:
    """Peers on other machines can reach a port; where it is one without TLS, that is said."""
    beyond = not is_loopback(settings.listener.host)
    secure = settings.tls.port is not None and not is_loopback(settings.tls.host)
    name = "plain DICOM"
    if beyond:
        detail = (
            f"listener.plain is on: who can reach port {settings.listener.port} may send without TLS, and "
            "images cross the network in the clear"
        )
        return CheckResult(name, True, detail)
    away = [peer.name for peer in settings.peers if peer.may_send and not _is_here(peer)]
    if away and not secure:
        return CheckResult(
            name,
            False,
            f"off, and no port with TLS is on: {', '.join(away)} cannot send to this machine",
            "Set tls.port and its certificates, or listener.host and listener.plain: true "
            "if images may cross the network in the clear.",
        )
    return CheckResult(name, True, "off: without TLS only this machine itself may send")


def _is_here(peer: PeerSettings) -> bool:
    known = peer.addresses or ((peer.host,) if peer.host is not None else ())
    return all(is_loopback(each.partition("/")[0]) for each in known)


def check_tls(tls: TlsSettings) -> Iterator[CheckResult]:
    """Our certificate for DICOM, and those it trusts, can be used and last for some time."""
    assert tls.certificate is not None
    assert tls.private_key is not None
    try:
        trusted = acceptor_context(tls).get_ca_certs()
    except PrereadError as error:
        remedy = f"{error.remedy} A listener that runs goes on with the former ones until it is stopped."
        yield CheckResult("certificate of tls", False, in_words(error), remedy)
        return
    yield check_certificate("tls", tls.certificate, tls.private_key)
    for fields in trusted:
        if (ends_at := ends_at_of(fields)) < datetime.now(UTC) + EXPIRES_SOON:
            name = min(names_of(fields), default="one without a name")
            yield CheckResult(
                "trusted certificate",
                False,
                f"{name} in {tls.trusted} ends on {ends_at:%Y-%m-%d}",
                "Put the new certificate into the file beside it; it is read again at once.",
            )


def check_certificate(branch: str, certificate: Path, private_key: Path) -> CheckResult:
    """A certificate of ours can be read, belongs to its key, is valid and stays so for some time.

    Parameters
    ----------
    branch : of the settings that name it
    """
    name = f"certificate of {branch}"
    renew = f"Renew it in place ({certificate})" + ("; it is read again at once." if branch == "tls" else ".")
    try:
        own = examine(certificate, private_key)
    except ssl.SSLCertVerificationError as error:
        return CheckResult(name, False, f"{certificate}: {error.verify_message}", renew)
    except OSError as error:
        return CheckResult(
            name,
            False,
            f"{certificate} and {private_key}: {said_by(error)}",
            f"Name PEM files that this user may read in {branch}.certificate and {branch}.private_key, a "
            "certificate and the key that belongs to it, not encrypted.",
        )
    detail = f"{own.certificate.title}, until {own.ends_at:%Y-%m-%d}"
    if own.ends_at < datetime.now(UTC) + EXPIRES_SOON:
        return CheckResult(name, False, f"{detail}: soon no peer will take it", renew)
    return CheckResult(name, True, detail)


def _check_port(what: str, branch: str, host: str, port: int) -> CheckResult:
    if port and _connects(host, port):
        return CheckResult(what, True, f"port {port} answers")
    if not port:
        return CheckResult(
            what, False, f"{branch}.port is 0: another port at each start", f"Set {branch}.port."
        )
    refusal = _bind_error(host, port)
    if refusal is not None:
        detail = f"port {port} cannot be used: {refusal}"
        return CheckResult(what, False, detail, f"Free it or set {branch}.port.")
    return CheckResult(what, False, f"nothing listens on port {port}", "Start `preread serve`.")


def _connects(host: str, port: int) -> bool:
    try:
        with socket.create_connection((_reachable(host), port), CONNECT_SECONDS):
            return True
    except OSError:
        return False


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)


def _bind_error(host: str, port: int) -> str | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            return error.strerror or str(error)
    return None
