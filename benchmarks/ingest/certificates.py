"""Certificates for the columns over TLS: one authority, the receivers' and the sender's, for 127.0.0.1."""

import ssl
from pathlib import Path

from tests.tls_files import Authority

RECEIVER, SENDER = "receiver", "sender"


def make_certificates(folder: Path) -> None:
    """Make them by openssl (elliptic curve P-256, as short as a site would use)."""
    authority = Authority.made(folder)
    authority.certify(RECEIVER)
    authority.certify(SENDER)


def trusted(folder: Path) -> Path:
    """The certificate of the authority."""
    return folder / "authority.pem"


def certificate(folder: Path, name: str) -> Path:
    """The certificate of the receiver or of the sender."""
    return folder / f"{name}.pem"


def private_key(folder: Path, name: str) -> Path:
    """The key of that certificate."""
    return folder / f"{name}.key"


def client_context(folder: Path) -> ssl.SSLContext:
    """Of the sender: it shows its certificate and verifies the receiver's."""
    context = ssl.create_default_context(cafile=str(trusted(folder)))
    context.load_cert_chain(certificate(folder, SENDER), private_key(folder, SENDER))
    context.check_hostname = False  # names are no part of DICOM's profiles
    return context
