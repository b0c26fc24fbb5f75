"""A binding means one certificate, or one name; what is said of our own certificate is what a peer sees."""

import ssl
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tls_files import Authority, self_signed

from config.certificates import Certificate, examine, normal_binding
from config.loading import SettingsError, load_settings

DIGITS = "0f" * 32
SHOWN = Certificate("sha256:" + DIGITS, frozenset(["pacs.example"]))


@pytest.mark.parametrize(
    "entry",
    ["sha256:" + DIGITS, "SHA256:" + DIGITS.upper(), "sha256:" + ":".join(["0F"] * 32), "PACS.example"],
)
def test_binding_as_people_write_it_means_the_certificate(entry: str) -> None:
    assert SHOWN.is_one_of([normal_binding(entry)])


@pytest.mark.parametrize("entry", ["sha256:" + "0e" * 32, "acs.example", "example", "*.example", DIGITS])
def test_binding_to_another_does_not(entry: str) -> None:
    assert not SHOWN.is_one_of([normal_binding(entry)])


@pytest.mark.parametrize("entry", ["", " ", "sha256:", "sha256:0f", "sha256:" + "0g" * 32, "a\nb"])
def test_binding_that_can_mean_nothing_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="certificates"):
        normal_binding(entry)


def test_own_certificate_is_seen_as_peers_see_it(tmp_path: Path) -> None:
    made = Authority.made(tmp_path).certify("node", days=3)
    own = examine(made.certificate, made.private_key)
    assert own.certificate.names == {"node"}
    assert own.certificate.is_one_of([normal_binding(made.fingerprint)])
    assert 2 <= (own.ends_at - datetime.now(UTC)).days <= 3


def test_certificate_out_of_its_time_is_found(tmp_path: Path) -> None:
    made, past = Authority.made(tmp_path), tmp_path / "past.pem"
    request = ["openssl", "req", "-new", "-key", str(made.own.private_key), "-subj", "/CN=past"]
    signing = ["openssl", "x509", "-req", "-signkey", str(made.own.private_key), "-days", "-1"]
    asked = subprocess.run(request, check=True, capture_output=True)
    subprocess.run([*signing, "-out", str(past)], input=asked.stdout, check=True, capture_output=True)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        examine(past, made.own.private_key)


def test_key_that_asks_for_a_password_is_refused_without_asking(tmp_path: Path) -> None:
    made, locked = self_signed(tmp_path, "node"), tmp_path / "locked.key"
    locking = ["openssl", "ec", "-aes128", "-passout", "pass:secret", "-in", str(made.private_key)]
    subprocess.run([*locking, "-out", str(locked)], check=True, capture_output=True)
    with pytest.raises(OSError, match="encrypted"):
        examine(made.certificate, locked)


FILES = {"certificate": "a.pem", "private_key": "a.key", "trusted": "b.pem"}


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"listener": {"host": "0.0.0.0"}}, "listener.plain"),
        ({"listener": {"host": "10.1.2.3"}}, "listener.plain"),
        ({"tls": {"port": 2762}}, "belong together"),
        ({"tls": {"certificate": "a.pem", "private_key": "a.key"}}, "belong together"),
        ({"peers": [{"name": "a", "ae_title": "A", "tls": True}]}, "tls.certificate"),
        ({"peers": [{"name": "a", "ae_title": "A", "certificates": ["x"]}]}, "tls.port"),
        ({"peers": [{"name": "a", "ae_title": "A", "certificates": ["sha256:1"]}]}, "fingerprint"),
    ],
)
def test_settings_that_would_expose_or_promise_too_much_are_refused(
    tree: dict[str, object], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        load_settings(overrides=tree)


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"listener": {"host": "0.0.0.0", "plain": True}},
        {"listener": {"host": "localhost"}, "tls": {"port": 2762, **FILES}},
        {"tls": FILES, "peers": [{"name": "a", "ae_title": "A", "tls": True, "certificates": ["x"]}]},
    ],
)
def test_settings_that_say_what_they_expose_are_taken(tree: dict[str, object]) -> None:
    load_settings(overrides=tree)
