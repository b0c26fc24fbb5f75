"""DICOM over TLS: who shows a trusted certificate is served like all, who does not is refused and shown."""

import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from dicom_peer import (
    STORE_CONTEXT,
    Peer,
    Refused,
    associate_request,
    ct_dataset,
    fragments,
    item,
    new_uid,
    status_of,
    store_command,
    store_message,
)
from installed_tools import tool
from listener_process import ListenerProcess, wait_until
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pynetdicom import AE, build_role
from pynetdicom.sop_class import CTImageStorage
from tls_files import Authority, Identity, self_signed

from config.certificates import FINGERPRINT
from db.engine import Database
from db.intake import list_refused
from db.records import RefusedAssociation

CUT_OFF = (ssl.SSLError, ConnectionError)
UNUSUAL = associate_request(user_items=item(0x53, b"\0\1\0\1"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.made(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pacs(authority: Authority) -> Identity:
    return authority.certify("pacs.hospital.example")


@pytest.fixture(scope="module")
def scanner(authority: Authority) -> Identity:
    return authority.certify("scanner")


@pytest.fixture(scope="module")
def node(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, pacs: Identity
) -> Iterator[ListenerProcess]:
    here = {"addresses": ["127.0.0.0/8"]}
    peers = (
        {"name": "scanner", "ae_title": "SCANNER", **here},
        {"name": "any", "ae_title": "ANYBODY", **here},
        {"name": "pacs", "ae_title": "PACS", "certificates": [pacs.fingerprint], **here},
        {"name": "named", "ae_title": "NAMED", "certificates": ["PACS.hospital.example"], **here},
    )
    limits = {"request_seconds": 2.0, "stall_seconds": 3.0}
    with ListenerProcess(
        tmp_path_factory.mktemp("node"), peers=peers, listener=limits, tls=authority.settings()
    ) as process:
        yield process


@pytest.fixture
def db(node: ListenerProcess) -> Iterator[Database]:
    opened = node.open_database()
    yield opened
    opened.close()


def dcmtk_as(identity: Identity, authority: Authority, *, calling: str = "SCANNER") -> list[str]:
    return [
        *("-aec", "PREREAD", "-aet", calling),
        *("+tls", str(identity.private_key), str(identity.certificate)),
        *("+cf", str(authority.own.certificate)),
    ]


def refused(db: Database, words: str) -> RefusedAssociation:
    """The refusal that says so, once it is recorded."""
    return wait_until(lambda: [each for each in list_refused(db) if words in each.reason], what=words)[0]


def test_dcmtk_echoes_and_stores(node: ListenerProcess, authority: Authority, scanner: Identity) -> None:
    path = Path(str(get_testdata_file("CT_small.dcm", download=False)))
    options = [*dcmtk_as(scanner, authority), "127.0.0.1", str(node.tls_port)]
    subprocess.run([tool("echoscu"), *options], check=True)
    subprocess.run([tool("storescu"), "-xe", *options, str(path)], check=True)
    assert len(node.kept()[str(dcmread(path).SOPInstanceUID)]) == 1


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_images_of_every_size_arrive_byte_for_byte(
    node: ListenerProcess, authority: Authority, scanner: Identity, version: ssl.TLSVersion
) -> None:
    context = authority.client(scanner, minimum_version=version, maximum_version=version)
    with Peer(node.tls_port, tls=context).associate() as peer:
        assert peer.socket.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
        for size in (0, 8192, 200_001, 3 << 20):
            uid = new_uid()
            dataset = ct_dataset(uid, pixels=os.urandom(size & ~1))
            assert peer.store(uid, dataset) == 0
            assert node.kept()[uid] == [dataset]
        peer.release()


def test_messages_sent_together_in_any_cut_are_all_answered_in_order(
    node: ListenerProcess, authority: Authority, scanner: Identity
) -> None:
    """Records need not end where messages do: what was decrypted and not looked at must not be forgotten."""
    uids = [new_uid() for _ in range(12)]
    stores = b"".join(
        store_message(uid, ct_dataset(uid, pixels=bytes(30_000)), message_id=number)
        for number, uid in enumerate(uids, start=1)
    )
    for cut in (len(stores), 16_384, 1000):
        with Peer(node.tls_port, tls=authority.client(scanner)) as peer:
            # The request and all behind it at once, not waiting for its answer.
            everything = associate_request() + stores
            for at in range(0, len(everything), cut):
                peer.send(everything[at : at + cut])
            assert peer.receive()[0] == 2
            assert [status_of(peer.receive()) for _ in uids] == [0] * len(uids)
            peer.release()
    assert set(uids) <= node.kept().keys()


def test_unusual_proposals_are_served_by_threads_as_without_tls(
    node: ListenerProcess, authority: Authority, scanner: Identity
) -> None:
    path = Path(str(get_testdata_file("CT_small.dcm", download=False)))
    ae = AE("SCANNER")
    ae.add_requested_context(CTImageStorage)
    association = ae.associate(
        "127.0.0.1",
        node.tls_port,
        ae_title="PREREAD",
        ext_neg=[build_role(CTImageStorage, scu_role=True, scp_role=False)],
        tls_args=(authority.client(scanner), "127.0.0.1"),
    )
    assert association.is_established
    for number in range(3):
        dataset = dcmread(path)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = new_uid()
        dataset.PixelData = os.urandom(len(dataset.PixelData) << number * 3)
        assert association.send_c_store(dataset).Status == 0
        assert dataset.SOPInstanceUID in node.kept()
    association.release()
    assert association.is_released


def test_unusual_peer_that_stops_inside_a_record_is_cut_off_at_its_deadline(
    node: ListenerProcess, authority: Authority, scanner: Identity
) -> None:
    """A byte of a record now and then must not hold one of the few threads for ever."""
    with Peer(node.tls_port, tls=authority.client(scanner)).associate(UNUSUAL) as peer:
        begun = fragments(STORE_CONTEXT, store_command(new_uid().encode()), command=True)[:40]
        peer.send(begun)
        with socket.socket(fileno=os.dup(peer.socket.fileno())) as raw:
            raw.settimeout(0.3)
            raw.sendall(b"\x17\x03\x03\x40\x00")  # a record of 16 KiB
            wait_until(lambda: is_cut_off(raw, b"\0"))


def is_cut_off(raw: socket.socket, crumb: bytes) -> bool:
    """Whether the connection ended, after one crumb more and a while."""
    try:
        raw.sendall(crumb)
        return raw.recv(1 << 14) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_peer_without_a_certificate_is_refused_and_shown(
    node: ListenerProcess, db: Database, authority: Authority
) -> None:
    with pytest.raises(CUT_OFF), Peer(node.tls_port, tls=authority.client(None)) as peer:
        peer.associate()
    assert "certificate of its own" in refused(db, "it showed no certificate").remedy


def test_certificate_that_nobody_vouches_for_is_refused_and_shown(
    node: ListenerProcess, db: Database, authority: Authority, tmp_path: Path
) -> None:
    stranger = self_signed(tmp_path, "stranger")
    with pytest.raises(CUT_OFF), Peer(node.tls_port, tls=authority.client(stranger)) as peer:
        peer.associate()
    assert "tls.trusted" in refused(db, "self-signed certificate").remedy


def said_to(node: ListenerProcess, *options: str) -> bytes:
    """What openssl's client says of its handshake."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{node.tls_port}", *options]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=30, check=False)
    return done.stderr


def test_old_tls_is_refused_and_shown(node: ListenerProcess, db: Database) -> None:
    assert b"alert protocol version" in said_to(node, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
    assert "Allow TLS 1.2" in refused(db, "no TLS 1.2 or 1.3").remedy


def test_cipher_suites_beside_bcp_195_are_refused_and_shown(node: ListenerProcess, db: Database) -> None:
    assert b"handshake failure" in said_to(node, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256")
    assert "AES-GCM" in refused(db, "no cipher suite").remedy


def test_plain_dicom_on_the_port_of_tls_is_refused_and_shown(node: ListenerProcess, db: Database) -> None:
    with Peer(node.tls_port) as peer:
        peer.send(associate_request())
        peer.socket.settimeout(10)
        said = b""
        while part := peer.socket.recv(1 << 14):
            said += part
    assert said[:1] in (b"", b"\x15"), "at most a TLS alert"
    assert "Switch TLS on" in refused(db, "not TLS").remedy


@pytest.mark.parametrize("calling", ["PACS", "NAMED"])
def test_bound_peer_is_served_with_its_certificate(
    node: ListenerProcess, authority: Authority, pacs: Identity, calling: str
) -> None:
    with Peer(node.tls_port, tls=authority.client(pacs)) as peer:
        peer.associate(associate_request(calling=calling))
        assert peer.echo() == 0
        peer.release()


@pytest.mark.parametrize("calling", ["PACS", "NAMED"])
def test_bound_ae_title_with_another_trusted_certificate_is_refused_and_shown(
    node: ListenerProcess, db: Database, authority: Authority, scanner: Identity, calling: str
) -> None:
    with pytest.raises(Refused) as error, Peer(node.tls_port, tls=authority.client(scanner)) as peer:
        peer.associate(associate_request(calling=calling))
    assert error.value.pdu == bytes.fromhex("03000000000400010103")
    shown = refused(db, "bound to another certificate")
    digits = scanner.fingerprint.removeprefix(FINGERPRINT).replace(":", "").lower()
    assert FINGERPRINT + digits in shown.remedy, "what to add if it is the right one"
    wait_until(lambda: [each for each in list_refused(db) if each.calling_ae == calling])


def test_bound_ae_title_without_tls_is_refused_and_shown(node: ListenerProcess, db: Database) -> None:
    with pytest.raises(Refused), Peer(node.port) as peer:
        peer.associate(associate_request(calling="PACS"))
    assert "tls.port" in refused(db, "called without TLS").remedy


def test_unbound_peer_may_still_call_without_tls(node: ListenerProcess) -> None:
    with Peer(node.port).associate(associate_request(calling="ANYBODY")) as peer:
        assert peer.echo() == 0
        peer.release()


def replace(files: dict[str, str], identity: Identity) -> None:
    for name, path in (("certificate", identity.certificate), ("private_key", identity.private_key)):
        fresh = Path(files[name]).with_suffix(".new")
        fresh.write_bytes(path.read_bytes())
        fresh.rename(files[name])


def served(port: int, context: ssl.SSLContext) -> bytes:
    with Peer(port, tls=context) as peer:
        shown = peer.socket.getpeercert(binary_form=True)
        assert shown is not None
        return shown


@pytest.fixture(scope="module")
def renewing(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[tuple[ListenerProcess, dict[str, str]]]:
    """A listener, and its files, which change."""
    folder = tmp_path_factory.mktemp("renewing")
    files = authority.settings("renewed")
    trusted = folder / "trusted.pem"
    trusted.write_bytes(authority.own.certificate.read_bytes())
    files["trusted"] = str(trusted)
    with ListenerProcess(folder / "node", tls=files) as process:
        yield process, files


def test_new_certificate_is_shown_to_new_peers_while_an_association_goes_on(
    renewing: tuple[ListenerProcess, dict[str, str]], authority: Authority, scanner: Identity
) -> None:
    node, files = renewing
    context = authority.client(scanner)
    with Peer(node.tls_port, tls=context).associate() as peer:
        before, uid = served(node.tls_port, context), new_uid()
        begun = store_message(uid, ct_dataset(uid, pixels=bytes(60_000)))
        peer.send(begun[:20_000])
        replace(files, authority.certify("renewed-2"))
        wait_until(lambda: served(node.tls_port, context) != before)
        assert status_of(peer.send(begun[20_000:]).receive()) == 0
        assert uid in node.kept()
        peer.release()


def test_certificates_that_cannot_be_used_leave_the_former_ones_in_force(
    renewing: tuple[ListenerProcess, dict[str, str]], authority: Authority, scanner: Identity
) -> None:
    node, files = renewing
    context = authority.client(scanner)
    before, key = served(node.tls_port, context), Path(files["private_key"]).read_bytes()
    Path(files["private_key"]).write_bytes(scanner.private_key.read_bytes())
    wait_until(lambda: "the former ones stay" in node.log)
    assert "cannot be used together" in node.log
    assert served(node.tls_port, context) == before
    Path(files["private_key"]).write_bytes(key)


def test_who_is_not_trusted_any_more_is_refused_without_a_restart(
    renewing: tuple[ListenerProcess, dict[str, str]], authority: Authority, scanner: Identity, tmp_path: Path
) -> None:
    node, files = renewing
    visitor = authority.client(self_signed(tmp_path, "visitor"))
    own, other = authority.own.certificate.read_bytes(), (tmp_path / "visitor.pem").read_bytes()
    Path(files["trusted"]).write_bytes(own + other)
    wait_until(lambda: is_served(node, visitor))
    Path(files["trusted"]).write_bytes(own)
    wait_until(lambda: not is_served(node, visitor))
    assert is_served(node, authority.client(scanner))


def is_served(node: ListenerProcess, context: ssl.SSLContext) -> bool:
    try:
        with Peer(node.tls_port, tls=context).associate() as peer:
            peer.release()
    except CUT_OFF:
        return False
    return True
