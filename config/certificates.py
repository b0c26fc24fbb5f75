"""Certificates of peers and our own: whose one is, whether a peer is bound to it, how long it lasts.

A peer is bound to certificates by `peers[].certificates`. An entry is either `sha256:` and the fingerprint of
one certificate, 64 hexadecimal digits with or without colons, or a name: the common name of the subject or a
DNS name of the subject alternative names, exactly, whatever the case. A fingerprint needs no authority and
names one certificate; a name outlives its renewal and is as good as the authority that certified it.
"""

import hashlib
import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FINGERPRINT = "sha256:"
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,255}\Z")


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is known of a certificate that was verified: `names` in small letters."""

    fingerprint: str
    names: frozenset[str]

    @property
    def title(self) -> str:
        """One line for a person: a name of it, and the fingerprint to bind a peer to."""
        return f"{min(self.names, default='without a name')}, {self.fingerprint}"

    def is_one_of(self, bound: Iterable[str]) -> bool:
        """Whether an entry of `peers[].certificates` means it."""
        return any(entry == self.fingerprint or entry in self.names for entry in bound)


def normal_binding(entry: str) -> str:
    """An entry of `peers[].certificates` as it is compared.

    Raises
    ------
    ValueError : it is neither a fingerprint nor a name
    """
    text = entry.strip().lower()
    if text.startswith(FINGERPRINT):
        digits = text.removeprefix(FINGERPRINT).replace(":", "")
        if not _HEX.match(digits):
            raise ValueError(
                f"certificates: {entry!r} is no SHA-256 fingerprint of 64 hexadecimal digits. "
                "`openssl x509 -noout -fingerprint -sha256 -in FILE` prints it."
            )
        return FINGERPRINT + digits
    if not _NAME.match(text):
        raise ValueError(
            f"certificates: {entry!r} is neither `sha256:` and a fingerprint nor a name. Correct it."
        )
    return text


def certificate_of(connection: ssl.SSLObject | ssl.SSLSocket) -> Certificate | None:
    """The verified certificate of the other side; None: it showed none."""
    encoded, fields = connection.getpeercert(binary_form=True), connection.getpeercert()
    if not encoded or not fields:
        return None
    return Certificate(FINGERPRINT + hashlib.sha256(encoded).hexdigest(), frozenset(names_of(fields)))


def names_of(fields: Mapping[str, Any]) -> Iterable[str]:
    """Common names and DNS names of a certificate in small letters, from its fields as `ssl` decodes them."""
    # {"subject": (((keyword, value),), ...), "subjectAltName": ((kind, value), ...)}, as ssl decodes it
    for names in fields.get("subject", ()):
        yield from (value.lower() for keyword, value in names if keyword == "commonName")
    yield from (value.lower() for kind, value in fields.get("subjectAltName", ()) if kind == "DNS")


@dataclass(frozen=True, slots=True)
class Own:
    """A certificate of this node."""

    certificate: Certificate
    ends_at: datetime


def examine(certificate: Path, private_key: Path) -> Own:
    """Our certificate as another sees it who trusts it, by a handshake in memory.

    Raises
    ------
    OSError : a file cannot be read, or is no PEM file of what it should be
    ssl.SSLError : the key is of another certificate, or the certificate is not valid now
    """
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(certificate, private_key, password=no_password)
    client.check_hostname = False
    client.load_verify_locations(certificate)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(3):  # two flights of the client and one of the server
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    seen, fields = certificate_of(ends[0]), ends[0].getpeercert()
    assert seen is not None
    assert fields is not None
    return Own(seen, ends_at_of(fields))


def ends_at_of(fields: Mapping[str, Any]) -> datetime:
    """When a certificate ends, from its fields as `ssl` decodes them."""
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(fields["notAfter"]), UTC)


def no_password() -> str:
    """In place of OpenSSL's question on the terminal, which nobody answers: the key must not be encrypted."""
    raise OSError("the private key is encrypted; a service cannot ask for its password")
