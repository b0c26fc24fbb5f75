"""We call peers by TLS: DCMTK's receiver gets results, and who shows another certificate gets nothing."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from installed_tools import tool
from listener_process import free_port, wait_until
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pynetdicom.sop_class import CTImageStorage
from tls_files import Authority, Identity

from config.settings import PeerSettings, Settings
from pipeline.outbound.association import Outgoing, PeerUnreachable, associated, store
from pipeline.outbound.delivery import echo

# pynetdicom drops the socket of a failed handshake without closing it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
EXPLICIT = "1.2.840.10008.1.2.1"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.made(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def archive(authority: Authority) -> Identity:
    return authority.certify("archive.example")


@contextmanager
def storescp(folder: Path, identity: Identity | None, trusted: Authority) -> Iterator[int]:
    """DCMTK's receiver, with TLS or without; its port."""
    port = free_port()
    files = ["+tls", str(identity.private_key), str(identity.certificate)] if identity else []
    trusting = ["+cf", str(trusted.own.certificate)] if identity else []
    process = subprocess.Popen([tool("storescp"), *files, *trusting, "-od", str(folder), str(port)])

    def answers() -> bool:
        with socket.socket() as trial:
            return trial.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(answers)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def settings(authority: Authority, port: int, **peer: Any) -> Settings:
    place = {"name": "archive", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": port, "tls": True}
    return Settings.model_validate({"tls": authority.settings(), "peers": [place | peer]})


def echoed(node: Settings) -> str:
    return str(echo(node, node.peers[0]))


def test_object_reaches_dcmtk_by_tls(tmp_path: Path, authority: Authority, archive: Identity) -> None:
    sent = dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
    encoded = Path(str(sent.filename)).read_bytes()
    start = 132 + 12 + int(sent.file_meta.FileMetaInformationGroupLength)
    item = Outgoing(str(CTImageStorage), str(sent.SOPInstanceUID), EXPLICIT, encoded[start:])
    with storescp(tmp_path, archive, authority) as port:
        node = settings(authority, port, certificates=[archive.fingerprint])
        peer: PeerSettings = node.peers[0]
        with associated(
            peer, [(item.sop_class, EXPLICIT)], calling_ae="PREREAD", answer_seconds=20, tls=node.tls
        ) as association:
            assert store(association, item).status == "delivered"
    [kept] = [path for path in tmp_path.iterdir() if path.is_file()]
    found = dcmread(kept)
    assert (found.SOPInstanceUID, found.PixelData) == (sent.SOPInstanceUID, sent.PixelData)


def test_who_is_called_is_who_shows_the_certificate(
    tmp_path: Path, authority: Authority, archive: Identity
) -> None:
    with storescp(tmp_path, archive, authority) as port:
        for bound in ([], [archive.fingerprint], ["archive.example"]):
            assert "answered" in echoed(settings(authority, port, certificates=bound))
        with pytest.raises(PeerUnreachable, match="another certificate than the one it is bound to"):
            echoed(settings(authority, port, certificates=["other.example"]))
        # Without a binding its certificate must be for its host: this one is for 127.0.0.1.
        with pytest.raises(PeerUnreachable, match="certificate is not taken"):
            echoed(settings(authority, port, host="localhost"))


def test_peer_that_nobody_vouches_for_or_that_speaks_no_tls_is_not_sent_to(
    tmp_path: Path, authority: Authority
) -> None:
    other = Authority.made(tmp_path / "other", "other")
    stranger = other.certify("stranger")
    with (
        storescp(tmp_path, stranger, other) as port,
        pytest.raises(PeerUnreachable, match="certificate is not taken"),
    ):
        echoed(settings(authority, port))
    with storescp(tmp_path, None, other) as port, pytest.raises(PeerUnreachable, match="TLS failed"):
        echoed(settings(authority, port))
