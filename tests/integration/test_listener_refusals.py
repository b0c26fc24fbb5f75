"""What the listener refuses gets the right status, leaves nothing, and is shown with what would allow it."""

import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from dicom_peer import (
    ECHO_CONTEXT,
    STORE_CONTEXT,
    Peer,
    Refused,
    associate_request,
    comment_of,
    ct_dataset,
    echo_command,
    fragments,
    item,
    new_uid,
    pdu,
    pdv,
    status_of,
    store_command,
    store_message,
)
from listener_process import ListenerProcess, wait_until

from db.engine import Database
from db.intake import list_refused


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ListenerProcess]:
    limits = {"request_seconds": 1.0, "stall_seconds": 1.5, "idle_seconds": 3.0}
    with ListenerProcess(tmp_path_factory.mktemp("node"), listener=limits) as process:
        yield process


@pytest.fixture
def db(node: ListenerProcess) -> Iterator[Database]:
    opened = node.open_database()
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def _well_behaved_peer_is_served(node: ListenerProcess) -> Iterator[None]:
    """Whatever the test did, an honest peer is served at once, before and after."""
    for _ in range(2):
        uid = new_uid()
        with Peer(node.port, timeout=5).associate() as prober:
            assert prober.echo() == 0
            assert prober.store(uid, ct_dataset(uid)) == 0
            prober.release()
        assert uid in node.kept()
        if _ == 0:
            yield


def test_unknown_caller_is_rejected_and_shown_with_the_setting_that_would_allow_it(
    node: ListenerProcess, db: Database
) -> None:
    with pytest.raises(Refused) as refused:
        Peer(node.port).associate(associate_request(calling="NOBODY"))
    assert refused.value.pdu == bytes.fromhex("03000000000400010103")
    shown = wait_until(lambda: [each for each in list_refused(db) if each.calling_ae == "NOBODY"])[0]
    assert shown.address == "127.0.0.1"
    assert "add a peer with ae_title NOBODY" in shown.remedy


def test_caller_of_another_title_is_rejected_and_shown(node: ListenerProcess, db: Database) -> None:
    with pytest.raises(Refused) as refused:
        Peer(node.port).associate(associate_request(called="OTHER"))
    assert refused.value.pdu == bytes.fromhex("03000000000400010107")
    wait_until(lambda: [each for each in list_refused(db) if each.called_ae == "OTHER"])


LIES = {
    "other instance UID": (lambda uid: ct_dataset(new_uid()), 0xA900),
    "other class UID": (lambda uid: ct_dataset(uid, sop_class="1.2.840.10008.5.1.4.1.1.4"), 0xA900),
    "cut short": (lambda uid: ct_dataset(uid)[:-3000], 0xC000),
    "random bytes": (lambda uid: os.urandom(20_000), 0xC000),
    "nothing": (lambda uid: b"", 0xC000),
    "an element of 4 GiB": (
        lambda uid: ct_dataset(uid, extra=struct.pack("<HH2sHL", 0x29, 0x1010, b"OB", 0, 0xFFFFFFF0)),
        0xC000,
    ),
    "sequences 10,000 deep": (
        lambda uid: ct_dataset(
            uid,
            extra=(
                struct.pack("<HH2sHL", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF)
                + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
            )
            * 10_000,
        ),
        0xC000,
    ),
    "more than a segment, cut short": (lambda uid: ct_dataset(uid, pixels=bytes(5 << 20))[:-1], 0xC000),
}


@pytest.mark.parametrize("lie", LIES)
def test_object_that_lies_is_refused_and_leaves_nothing(node: ListenerProcess, lie: str) -> None:
    make, status = LIES[lie]
    uid = new_uid()
    before, files = node.kept().keys(), {path.name for path in node.state_folder.rglob("*.seg")}
    with Peer(node.port).associate() as peer:
        answer = peer.send(store_message(uid, make(uid))).receive()
        assert status_of(answer) == status
        assert comment_of(answer)
        good = new_uid()
        assert peer.store(good, ct_dataset(good)) == 0
        peer.release()
    assert node.kept().keys() == {*before, good}
    runs = [path for path in node.state_folder.rglob("*.seg") if path.name not in files]
    assert all(path.read_bytes()[10:12] != b"\x02\x00" for path in runs)


@pytest.mark.parametrize(
    "uid", [b"../../../../tmp/preread_escape", b"/tmp/preread_escape", b"1.2\0/../x", b"1" * 200, b""]
)
def test_uid_that_is_a_path_is_refused_and_names_no_file(node: ListenerProcess, uid: bytes) -> None:
    with Peer(node.port).associate() as peer:
        assert peer.store(uid, ct_dataset("1.2.3")) == 0x0117
    names = {path.name for path in node.folder.rglob("*")}
    assert not any("escape" in name or ".." in name for name in names)
    assert not Path("/tmp/preread_escape").exists()


def answered(node: ListenerProcess, data: bytes, *, associated: bool = True) -> bytes:
    """What comes back for `data`, up to the end of the connection."""
    with Peer(node.port, timeout=8) as peer:
        if associated:
            peer.associate()
        peer.send(data)
        found = b""
        while part := peer.socket.recv(4096):
            found += part
        return found


WRONG = {
    "unknown PDU before": (pdu(0x42, bytes(4)), False),
    "unknown PDU after": (pdu(0x42, bytes(4)), True),
    "data before": (fragments(1, echo_command(), command=True), False),
    "request of 4 GiB": (pdu(1, b"", length=0xFFFFFFFF), False),
    "data of 4 GiB": (pdu(4, b"", length=0xFFFFFFFF), True),
    "TLS hello": (bytes.fromhex("160301020001"), False),
    "value longer than its PDU": (pdu(4, struct.pack(">LBB", 5000, 1, 3) + bytes(20)), True),
    "value of length 0": (pdu(4, struct.pack(">LBB", 0, 1, 3) + bytes(20)), True),
    "dataset without request": (fragments(STORE_CONTEXT, bytes(100), command=False), True),
    "endless command": (pdu(4, pdv(STORE_CONTEXT, 1, bytes(5000))), True),
    "context that was not accepted": (fragments(99, echo_command(), command=True), True),
    "1000 contexts": (associate_request(contexts=item(0x20, b"\1\0\0\0") * 1000), False),
    "lying items": (associate_request(extra=item(0x20, bytes(4), lie=9)), False),
    "a million empty items": (associate_request(extra=item(0x99, b"") * 10_000), False),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_protocol_error_is_answered_with_an_abort_and_the_end(node: ListenerProcess, wrong: str) -> None:
    data, associated = WRONG[wrong]
    assert answered(node, data, associated=associated)[:1] == b"\x07"


def test_dataset_in_crumbs_is_aborted(node: ListenerProcess) -> None:
    crumbs = fragments(STORE_CONTEXT, store_command(b"1.2.3"), command=True)
    crumbs += pdu(4, pdv(STORE_CONTEXT, 0, b"x") * 2000)
    assert answered(node, crumbs)[:1] == b"\x07"


def test_half_open_peers_are_closed_at_their_deadline_and_keep_nobody_out(node: ListenerProcess) -> None:
    silent = [Peer(node.port) for _ in range(100)]
    with Peer(node.port).associate() as honest:
        assert honest.echo() == 0
    for peer in silent:
        assert peer.is_closed()
        peer.close()


def test_request_in_drips_does_not_reset_the_deadline(node: ListenerProcess) -> None:
    request = associate_request()
    with Peer(node.port) as peer:
        sent = 0
        peer.socket.settimeout(0.05)
        closed = False
        while not closed and sent < len(request):
            try:
                peer.socket.send(request[sent : sent + 1])
                sent += 1
                closed = peer.socket.recv(1) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                closed = True
        assert closed
        assert sent < 100


@pytest.mark.parametrize("part", [1, 3, 40])
def test_peer_that_stops_inside_a_message_is_aborted(node: ListenerProcess, part: int) -> None:
    start = fragments(STORE_CONTEXT, store_command(new_uid().encode()), command=True)[:part]
    assert answered(node, start)[:1] == b"\x07"


def test_instance_that_stays_incomplete_leaves_nothing(node: ListenerProcess) -> None:
    uid = new_uid()
    message = store_message(uid, ct_dataset(uid, pixels=bytes(3 << 20)))
    assert answered(node, message[:-100])[:1] == b"\x07"
    assert uid not in node.kept()
    assert not [p for p in node.state_folder.rglob("*.seg") if p.read_bytes()[10:12] == b"\x02\x00"]


def test_silent_association_is_aborted_after_its_idle_period(node: ListenerProcess) -> None:
    assert answered(node, b"")[:1] == b"\x07"


def test_peer_that_never_reads_is_not_read_either(node: ListenerProcess) -> None:
    echoes = fragments(ECHO_CONTEXT, echo_command(), command=True) * 200
    with Peer(node.port, timeout=0.5) as peer:
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.associate()
        sent = 0
        try:
            while sent < 64 << 20:
                peer.socket.sendall(echoes)
                sent += len(echoes)
        except (TimeoutError, ConnectionError):
            pass
        assert sent < 32 << 20


def test_peer_that_reads_late_gets_every_answer_in_order(node: ListenerProcess) -> None:
    count = 20_000
    echoes = b"".join(fragments(ECHO_CONTEXT, echo_command(n % 60_000), command=True) for n in range(count))
    with Peer(node.port).associate() as peer:
        sending = threading.Thread(target=peer.send, args=(echoes,))
        sending.start()
        first = peer.receive()
        size = count * len(first)
        answers = bytearray(first)
        while len(answers) < size:
            part = peer.socket.recv(1 << 16)
            assert part
            answers += part
        sending.join()
    numbers = [struct.unpack_from("<H", answers, at + 12 + NUMBER_AT)[0] for at in range(0, size, len(first))]
    assert numbers == [n % 60_000 for n in range(count)]


# Of an echo's answer: group length, SOP class of 18 bytes, command field, then the number's element header.
NUMBER_AT = 12 + 8 + 18 + 10 + 8


def test_refused_dataset_too_large_leaves_the_association_alive(tmp_path: Path) -> None:
    with ListenerProcess(tmp_path, listener={"instance_gib_max": 0.001}) as node:
        uid, good = new_uid(), new_uid()
        with Peer(node.port).associate() as peer:
            assert peer.store(uid, ct_dataset(uid, pixels=bytes(1_200_000))) == 0xA700
            assert peer.store(good, ct_dataset(good)) == 0
        assert list(node.kept()) == [good]
        endless = fragments(STORE_CONTEXT, store_command(b"1.2.3"), command=True)
        endless += pdu(4, pdv(STORE_CONTEXT, 0, bytes(16_000))) * 200
        # A reset may overtake the abort, since the listener no longer reads what is on its way.
        with Peer(node.port).associate() as peer, suppress(ConnectionError):
            assert peer.send(endless).receive()[:1] == b"\x07"


def test_nearly_full_disk_refuses_stores_and_serves_echoes(tmp_path: Path) -> None:
    with ListenerProcess(tmp_path) as first:
        uid = new_uid()
        with Peer(first.port).associate() as peer:
            assert peer.store(uid, ct_dataset(uid)) == 0
        assert first.terminate() == 0
    with ListenerProcess(tmp_path, listener={"reserve_gib": 1e6}) as node:
        with Peer(node.port).associate() as peer:
            assert peer.store(new_uid(), ct_dataset(new_uid())) == 0xA700
            assert peer.echo() == 0
        assert list(node.kept()) == [uid]


def test_peer_that_may_not_send_may_echo(tmp_path: Path) -> None:
    peers = ({"name": "archive", "ae_title": "SCANNER", "addresses": ["127.0.0.1"], "may_send": False},)
    with ListenerProcess(tmp_path, peers=peers) as node, Peer(node.port).associate() as peer:
        assert peer.echo() == 0
        assert peer.store(new_uid(), ct_dataset(new_uid())) == 0x0124


UNUSUAL = associate_request(user_items=item(0x53, b"\0\1\0\1"))


@pytest.mark.parametrize(
    "data",
    [
        pdu(4, b"", length=0xFFFFFFFF) + bytes(1000),
        pdu(0x42, bytes(4)),
        fragments(STORE_CONTEXT, store_command(b"1.2.3"), command=True)[:40],
        b"",
    ],
    ids=["4 GiB", "unknown PDU", "stops inside a PDU", "silent"],
)
def test_unusual_peer_that_breaks_a_bound_is_cut_off(node: ListenerProcess, data: bytes) -> None:
    with Peer(node.port, timeout=20).associate(UNUSUAL) as peer:
        peer.send(data)
        found = b""
        with suppress(ConnectionError):
            while part := peer.socket.recv(4096):
                found += part
        assert found[:1] in (b"", b"\x07")


def test_unusual_object_that_lies_is_refused_and_shown(node: ListenerProcess, db: Database) -> None:
    uid, good = new_uid(), new_uid()
    with Peer(node.port).associate(UNUSUAL) as peer:
        assert peer.store(uid, ct_dataset(uid)[:-100]) == 0xC000
        assert peer.store(good, ct_dataset(good)) == 0
    assert uid not in node.kept()
    assert good in node.kept()
    wait_until(lambda: [each for each in list_refused(db) if "C000" in each.reason])
