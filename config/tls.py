"""TLS contexts of DICOM connections, in both directions (BCP 195: RFC 8996, RFC 9325; PS3.15 annex B.12).

TLS 1.2 and 1.3 with forward secrecy and authenticated encryption, both sides show a certificate. Who is
trusted stands in one PEM file: authorities, or the very certificates of devices that signed their own.
"""

import ssl
from pathlib import Path
from typing import TypeVar

from config.certificates import certificate_of, no_password
from config.errors import PrereadError
from config.settings import PeerSettings, TlsSettings

_Context = TypeVar("_Context", bound=ssl.SSLContext)

# Of TLS 1.2 (RFC 9325 section 4.2); those of TLS 1.3 are all of this kind.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


class CertificateFault(PrereadError):
    """Certificate, key or trusted certificates cannot be used; says which file and what to do."""


def acceptor_context(tls: TlsSettings) -> ssl.SSLContext:
    """For connections that come in: who calls must show a trusted certificate.

    Raises
    ------
    CertificateFault
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    # A renegotiation costs us and not the peer. No session of TLS 1.3 is taken up again: an association is
    # long and each one shows its certificate.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0
    return _loaded(context, tls)


class RequestorContext(ssl.SSLContext):
    """A context whose connections end unless the peer shows one of the certificates it is bound to.

    Attributes
    ----------
    fault : why the last handshake failed, in words; pynetdicom does not hand an error on
    """

    bound: tuple[str, ...] = ()
    fault: str | None = None


class _BoundSocket(ssl.SSLSocket):
    """Compares the certificate as part of the handshake, before a byte of DICOM is sent."""

    def do_handshake(self, block: bool = False) -> None:
        context = self.context
        assert isinstance(context, RequestorContext)
        try:
            super().do_handshake(block)
        except OSError as error:
            verified = getattr(error, "verify_message", None)
            context.fault = f"its certificate is not taken ({verified})" if verified else said_by(error)
            raise
        shown = certificate_of(self)
        if context.bound and (shown is None or not shown.is_one_of(context.bound)):
            title = shown.title if shown is not None else "none"
            context.fault = f"it shows another certificate than the one it is bound to: {title}"
            raise ssl.SSLError(context.fault)


def requestor_context(tls: TlsSettings, peer: PeerSettings) -> RequestorContext:
    """For calling a peer: it must show a certificate it is bound to, or a trusted one made for its host.

    Raises
    ------
    CertificateFault
    """
    context = RequestorContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = _BoundSocket
    context.bound = peer.certificates
    context.check_hostname = not peer.certificates
    return _loaded(context, tls)


def _loaded(context: _Context, tls: TlsSettings) -> _Context:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION
    context.set_ciphers(CIPHERS)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a device's own certificate may be trusted alone
    certificate, private_key, trusted = _files(tls)
    for path in (certificate, private_key, trusted):
        _read(path)
    try:
        context.load_cert_chain(certificate, private_key, password=no_password)
    except OSError as error:  # ssl.SSLError is one
        raise CertificateFault(
            f"{certificate} and {private_key} cannot be used together ({said_by(error)})",
            where="tls.certificate, tls.private_key",
            remedy="Name PEM files of a certificate (its chain behind it) and of the key that belongs to it, "
            "not encrypted.",
        ) from error
    try:
        context.load_verify_locations(trusted)
    except OSError as error:
        raise CertificateFault(
            f"{trusted} holds no certificate that can be read ({said_by(error)})",
            where="tls.trusted",
            remedy="Put the certificates of the authority, or of the peers themselves, into one PEM file.",
        ) from error
    return context


def _files(tls: TlsSettings) -> tuple[Path, Path, Path]:
    if tls.certificate is None or tls.private_key is None or tls.trusted is None:
        raise CertificateFault(
            "TLS has no certificates",
            where="tls",
            remedy="Set tls.certificate, tls.private_key, tls.trusted.",
        )
    return tls.certificate, tls.private_key, tls.trusted


def _read(path: Path) -> None:
    try:
        with path.open("rb"):
            return
    except OSError as error:
        raise CertificateFault(
            f"cannot be read: {error.strerror}",
            where=str(path),
            remedy="Correct the path, or let the user that runs preread read it.",
        ) from error


def said_by(error: OSError) -> str:
    """What the system or OpenSSL says of an error, in small letters."""
    reason = getattr(error, "reason", None)
    return str(reason or error.strerror or error).replace("_", " ").lower()
