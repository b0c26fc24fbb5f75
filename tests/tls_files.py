"""Certificates for tests, made by openssl: an authority, whom it certifies, and who signs for himself."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Identity:
    """A certificate and its key."""

    certificate: Path
    private_key: Path

    @property
    def fingerprint(self) -> str:
        said = _openssl("x509", "-noout", "-fingerprint", "-sha256", "-in", str(self.certificate))
        return "sha256:" + said.rpartition("=")[2].strip()  # with colons, as a person would paste it


@dataclass(frozen=True)
class Authority:
    """Certifies; its own certificate is what others trust."""

    folder: Path
    own: Identity

    @classmethod
    def made(cls, folder: Path, name: str = "authority") -> "Authority":
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder, self_signed(folder, name, "-addext", "keyUsage=critical,keyCertSign"))

    def certify(self, name: str, *, days: int = 2) -> Identity:
        """A certificate with the common name, for 127.0.0.1."""
        made = _paths(self.folder, name)
        _openssl(
            *("req", "-x509", *_KEY, "-subj", f"/CN={name}", "-days", str(days)),
            *("-CA", str(self.own.certificate), "-CAkey", str(self.own.private_key)),
            *("-addext", "basicConstraints=critical,CA:false", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-out", str(made.certificate), "-keyout", str(made.private_key)),
        )
        return made

    def settings(self, name: str = "node") -> dict[str, Any]:
        """The branch `tls` of a node that it certifies, but for the port."""
        made = self.certify(name)
        files = {"certificate": made.certificate, "private_key": made.private_key}
        return {key: str(path) for key, path in {**files, "trusted": self.own.certificate}.items()}

    def client(self, identity: Identity | None, **options: Any) -> ssl.SSLContext:
        """The context of a peer that trusts whom this authority certifies."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(self.own.certificate)
        if identity is not None:
            context.load_cert_chain(identity.certificate, identity.private_key)
        for option, value in options.items():
            setattr(context, option, value)
        return context


def self_signed(folder: Path, name: str, *more: str, days: int = 2) -> Identity:
    made = _paths(folder, name)
    _openssl(
        *("req", "-x509", *_KEY, "-subj", f"/CN={name}", "-days", str(days), *more),
        *("-out", str(made.certificate), "-keyout", str(made.private_key)),
    )
    return made


def _paths(folder: Path, name: str) -> Identity:
    return Identity(folder / f"{name}.pem", folder / f"{name}.key")


def _openssl(*arguments: str) -> str:
    done = subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True)
    return done.stdout
