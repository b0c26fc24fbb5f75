"""STOW-RS as senders use it: a real client, a real Orthanc, and raw HTTP where it has to be wrong."""

import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest
from dicom_peer import CT, EXPLICIT, PDF, Peer, Refused, associate_request, ct_dataset, new_uid
from dicomweb_client.api import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_auth
from listener_process import LOCAL_PEERS, ListenerProcess, seen, state_of, stored_uids, wait_until
from part10_file import dicom_file
from pydicom import Dataset, dcmread
from requests import HTTPError
from requests.auth import AuthBase

from config.identity import UPLOAD_AE
from config.tokens import new_token, token_hash
from db.refusals import list_refused
from listener.handover import SOCKET_NAME, hand_over
from listener.intake import Announced, Sender

TOKEN, OTHER_TOKEN, FAR_TOKEN, MUTE_TOKEN = (new_token() for _ in range(4))
PEERS = (
    {"name": "router", "ae_title": "ROUTER", "addresses": ["127.0.0.0/8"], "token_hash": token_hash(TOKEN)},
    {
        "name": "second",
        "ae_title": "SECOND",
        "addresses": ["127.0.0.0/8"],
        "token_hash": token_hash(OTHER_TOKEN),
    },
    {"name": "far", "ae_title": "FAR", "addresses": ["10.9.9.9"], "token_hash": token_hash(FAR_TOKEN)},
    {
        "name": "mute",
        "ae_title": "MUTE",
        "addresses": ["127.0.0.0/8"],
        "may_send": False,
        "token_hash": token_hash(MUTE_TOKEN),
    },
    *LOCAL_PEERS,
)
BOUNDARY = "a-boundary-of-the-tests"
RELATED = f'multipart/related; type="application/dicom"; boundary="{BOUNDARY}"'


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


class StowNode(ListenerProcess):
    """A listener with STOW-RS on a port of its own."""

    stow: Mapping[str, Any] = {}

    def _settings(self) -> dict[str, Any]:
        self.stow_port = free_port()
        return {**super()._settings(), "stow": {"port": self.stow_port, **self.stow}}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StowNode]:
    with StowNode(
        tmp_path_factory.mktemp("stow"), peers=PEERS, listener={"stall_seconds": 2, "request_seconds": 2}
    ) as started:
        yield started


class Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request):
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


def client_of(node: StowNode, token: str = TOKEN) -> DICOMwebClient:
    session = create_session_from_auth(Bearer(token))
    session.trust_env = False
    return DICOMwebClient(f"http://127.0.0.1:{node.stow_port}", session=session)


def image(uid: str | None = None, **other: Any) -> tuple[str, bytes]:
    """(SOP Instance UID, DICOM file)."""
    uid = uid or new_uid()
    return uid, dicom_file(uid, ct_dataset(uid, **other))


def parsed(content: bytes) -> Dataset:
    return dcmread(BytesIO(content))


def related(*parts: bytes) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join(head + part + b"\r\n" for part in parts) + f"--{BOUNDARY}--\r\n".encode()


def post(
    node: StowNode,
    body: bytes,
    *,
    token: str | None = TOKEN,
    path: str = "/studies",
    content_type: str = RELATED,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of the answer."""
    with closing(HTTPConnection("127.0.0.1", node.stow_port, timeout=60)) as connection:
        said = {"Content-Type": content_type, **(headers or {})}
        if token:
            said["Authorization"] = f"Bearer {token}"
        connection.request("POST", path, body, said)
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())


def stored_and_failed(content: bytes) -> tuple[list[str], dict[str, int]]:
    found = Dataset.from_json(content.decode())
    stored = [item.ReferencedSOPInstanceUID for item in found.get("ReferencedSOPSequence", [])]
    failed = {
        item.ReferencedSOPInstanceUID: item.FailureReason for item in found.get("FailedSOPSequence", [])
    }
    return stored, failed


def test_what_a_client_stores_is_kept_as_it_came_and_becomes_a_study(node: StowNode) -> None:
    study, images = new_uid(), []
    for _ in range(5):
        uid = new_uid()
        images.append((uid, dicom_file(uid, ct_dataset(uid, study=study, pixels=uid.encode() * 400))))
    answer = client_of(node).store_instances([parsed(content) for _, content in images])
    assert [item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence] == [u for u, _ in images]
    assert "FailedSOPSequence" not in answer
    kept = node.kept()
    for uid, content in images:
        (dataset,) = kept[uid]
        assert dicom_file(uid, dataset) == content
    with closing(node.open_database()) as db:
        wait_until(lambda: state_of(db, study) == "whole")
        assert seen(db, study).study.instances == 5
        assert seen(db, study).study.source_ae == "ROUTER"


def test_a_single_file_is_stored_as_it_is(node: StowNode) -> None:
    uid, content = image()
    status, answer, headers = post(node, content, content_type="application/dicom")
    assert (status, headers["content-type"]) == (200, "application/dicom+json")
    assert stored_and_failed(answer) == ([uid], {})
    assert uid in node.kept()


def test_an_instance_above_the_inline_limit_streams_to_disk(node: StowNode) -> None:
    uid, content = image(pixels=os.urandom(6 << 20))
    assert post(node, related(content))[0] == 200
    (dataset,) = node.kept()[uid]
    assert dicom_file(uid, dataset) == content


def test_each_instance_fails_alone_and_leaves_nothing(node: StowNode) -> None:
    good, content = image()
    lying, cut, pdf = new_uid(), new_uid(), new_uid()
    status, answer, _ = post(
        node,
        related(
            dicom_file(lying, ct_dataset(new_uid())),
            content,
            b"not DICOM at all",
            dicom_file(cut, ct_dataset(cut)[:-4]),
            dicom_file(pdf, ct_dataset(pdf, sop_class=PDF), sop_class=PDF),
        ),
    )
    assert status == 202
    stored, failed = stored_and_failed(answer)
    assert stored == [good]
    assert sorted(failed.values()) == [0x0122, 0xA900, 0xC000]
    others = Dataset.from_json(answer.decode()).OtherFailuresSequence
    assert [item.FailureReason for item in others] == [0xC000]
    assert not {lying, cut, pdf} & node.kept().keys()
    with closing(node.open_database()) as db:
        reasons = wait_until(lambda: [r for r in list_refused(db) if "0122" in r.reason])
        assert reasons[0].calling_ae == "ROUTER"


def test_a_request_for_a_study_takes_no_instance_of_another(node: StowNode) -> None:
    study = new_uid()
    mine, other = image(study=study), image(study=new_uid())
    status, answer, _ = post(node, related(mine[1], other[1]), path=f"/studies/{study}")
    assert status == 202
    assert stored_and_failed(answer) == ([mine[0]], {other[0]: 0xA901})
    assert other[0] not in node.kept()


def test_the_answer_is_xml_for_who_asks_for_it(node: StowNode) -> None:
    uid, content = image()
    status, answer, headers = post(node, related(content), headers={"Accept": "application/dicom+xml"})
    assert (status, headers["content-type"]) == (200, "application/dicom+xml")
    assert uid.encode() in answer
    assert answer.startswith(b"<?xml")


@pytest.mark.parametrize(
    ("token", "status"),
    [(None, 401), ("wrong", 401), (FAR_TOKEN, 403), (MUTE_TOKEN, 403)],
    ids=["no token", "wrong", "of another place", "of who may not send"],
)
def test_who_may_not_send_is_refused_visibly_and_nothing_is_kept(
    node: StowNode, token: str | None, status: int
) -> None:
    uid, content = image()
    answered, _, headers = post(node, related(content), token=token)
    assert answered == status
    assert ("www-authenticate" in headers) == (status == 401)
    assert uid not in node.kept()
    with closing(node.open_database()) as db:
        found = wait_until(lambda: [r for r in list_refused(db) if f"with {status}" in r.reason])
        assert found[0].address == "127.0.0.1"
        assert found[0].remedy


def test_a_real_client_is_told_that_its_token_is_wrong(node: StowNode) -> None:
    with pytest.raises(HTTPError) as refused:
        client_of(node, "wrong").store_instances([parsed(image()[1])])
    assert refused.value.response.status_code == 401


@pytest.mark.parametrize(
    ("body", "content_type", "headers", "status"),
    [
        (b"{}", "application/json", {}, 415),
        (b"", RELATED, {}, 400),
        (b"nonsense", RELATED, {}, 400),
        (related(), RELATED, {}, 400),
        (related(b"x")[:-20], RELATED, {}, 400),
        (related(b"x"), RELATED, {"Accept": "text/html"}, 406),
        (related(b"x"), RELATED, {"Content-Encoding": "gzip"}, 415),
    ],
)
def test_a_request_that_is_wrong_as_a_whole_is_refused(
    node: StowNode, body: bytes, content_type: str, headers: dict[str, str], status: int
) -> None:
    assert post(node, body, content_type=content_type, headers=headers)[0] == status


def test_what_came_before_a_broken_end_is_stored_and_said_so(node: StowNode) -> None:
    uid, content = image()
    status, answer, headers = post(node, related(content, b"x")[:-30])
    assert (status, stored_and_failed(answer)[0]) == (400, [uid])
    assert "boundary" in headers["warning"]
    assert uid in node.kept()


def test_only_the_addresses_of_the_service_answer(node: StowNode) -> None:
    for method, path, status in (("GET", "/studies", 405), ("POST", "/", 404), ("POST", "/studies/x", 400)):
        with closing(HTTPConnection("127.0.0.1", node.stow_port, timeout=30)) as connection:
            connection.request(method, path, b"", {"Authorization": f"Bearer {TOKEN}"})
            assert connection.getresponse().status == status


def test_a_repeat_is_no_second_image_and_another_image_of_the_same_uid_is_a_conflict(node: StowNode) -> None:
    study, uid = new_uid(), new_uid()
    for pixels in (b"a" * 100, b"a" * 100, b"b" * 100):
        content = dicom_file(uid, ct_dataset(uid, study=study, pixels=pixels))
        assert post(node, related(content))[0] == 200
    with closing(node.open_database()) as db:
        wait_until(lambda: state_of(db, study) == "whole")
        view = seen(db, study)
        assert view.study.instances == 1
        assert len(view.conflicts) == 1


def test_silent_and_slow_senders_are_cut_and_stop_nobody(node: StowNode) -> None:
    silent = [socket.create_connection(("127.0.0.1", node.stow_port)) for _ in range(70)]
    head = (
        f"POST /studies HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {OTHER_TOKEN}\r\n"
        f"Content-Type: {RELATED}\r\nContent-Length: 1000\r\n\r\n"
    )
    slow = [socket.create_connection(("127.0.0.1", node.stow_port)) for _ in range(4)]
    for sending in slow:
        sending.sendall(head.encode() + b"--")
    uid, content = image()
    assert post(node, related(content))[0] == 200
    assert uid in node.kept()
    for sending in slow:
        sending.settimeout(60)
        assert sending.recv(4096).startswith(b"HTTP/1.1 408")
        sending.close()
    for waiting in silent:
        waiting.settimeout(60)
        with suppress(ConnectionResetError):
            assert waiting.recv(1) == b""
        waiting.close()


def test_one_sender_can_take_only_half_of_the_places(tmp_path: Path) -> None:
    node = StowNode(tmp_path, peers=PEERS)
    node.stow = {"requests_max": 2}
    head = (
        f"POST /studies HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {OTHER_TOKEN}\r\n"
        f"Content-Type: {RELATED}\r\nContent-Length: 1000000\r\n\r\n--"
    )
    with node.start(), socket.create_connection(("127.0.0.1", node.stow_port)) as open_request:
        open_request.sendall(head.encode())
        wait_until(lambda: post(node, related(image()[1]), token=OTHER_TOKEN)[0] == 503)
        assert post(node, related(image()[1]))[0] == 200


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signed itself, and its key."""
    files = tmp_path / "node.pem", tmp_path / "node.key"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x"]
    named = ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(files[0]), "-keyout", str(files[1])]
    subprocess.run([*made, *named], check=True, capture_output=True)
    return files


def test_with_a_certificate_only_tls_from_1_2_is_spoken(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    node = StowNode(tmp_path, peers=PEERS)
    node.stow = {"certificate": str(certificate[0]), "private_key": str(certificate[1])}
    uid, content = image()
    said = {"Content-Type": "application/dicom", "Authorization": f"Bearer {TOKEN}"}
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    with node.start():
        with closing(
            HTTPSConnection("127.0.0.1", node.stow_port, timeout=60, context=trusting)
        ) as connection:
            connection.request("POST", "/studies", content, said)
            assert connection.getresponse().status == 200
            assert connection.sock.version() in ("TLSv1.2", "TLSv1.3")
        with pytest.raises((OSError, HTTPException)):
            post(node, related(image()[1]))
        assert node.kept().keys() == {uid}


def test_a_certificate_that_cannot_be_used_fails_the_start_with_its_remedy(tmp_path: Path) -> None:
    node = StowNode(tmp_path, peers=PEERS)
    node.stow = {"certificate": str(tmp_path / "none.pem"), "private_key": str(tmp_path / "none.key")}
    node.launch()
    assert node.port == 0
    assert node.wait() != 0
    assert "stow.certificate" in node.log


def test_a_request_above_its_limit_is_refused(tmp_path: Path) -> None:
    node = StowNode(tmp_path, peers=PEERS)
    node.stow = {"request_gib_max": 1e-4}
    _, content = image(pixels=bytes(200_000))
    with node.start():
        assert post(node, related(content))[0] == 413
        chunked = (content[at : at + 1000] for at in range(0, len(content), 1000))
        with closing(HTTPConnection("127.0.0.1", node.stow_port, timeout=30)) as connection:
            said = {"Content-Type": "application/dicom", "Authorization": f"Bearer {TOKEN}"}
            connection.request("POST", "/studies", chunked, said, encode_chunked=True)
            assert connection.getresponse().status == 413
        assert node.kept() == {}


@pytest.mark.parametrize(("point", "is_kept"), [("K3", False), ("K4", True)])
def test_no_success_is_answered_before_the_instance_is_durable(
    tmp_path: Path, point: str, is_kept: bool
) -> None:
    node = StowNode(tmp_path, peers=PEERS, kill_point=point)
    uid, content = image()
    with node.start():
        try:
            status = post(node, related(content))[0]
        except OSError:
            status = 0
        assert status != 200
        node.wait()
        if is_kept:  # at K3 the bytes lie in the page cache and may be there or not
            assert uid in node.kept()
        node.kill_point = None
        with node.start():
            assert post(node, related(content))[0] == 200
            assert uid in node.kept()


def test_associations_go_on_while_the_server_is_killed_and_it_comes_back(tmp_path: Path) -> None:
    with StowNode(tmp_path, peers=PEERS) as node, Peer(node.port).associate() as peer:
        assert post(node, related(image()[1]))[0] == 200
        assert node.process is not None
        children = Path(f"/proc/{node.process.pid}/task/{node.process.pid}/children").read_text().split()
        (server,) = [pid for pid in children if b"listener.stow" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(int(server), 9)
        uid = new_uid()
        assert peer.store(uid, ct_dataset(uid)) == 0
        assert post(node, related(image()[1]))[0] == 200  # it waits in the port until somebody serves it
        assert node.terminate() == 0
        assert not Path(f"/proc/{server}").exists()


def test_a_stop_lets_a_request_under_way_end(tmp_path: Path) -> None:
    uid, content = image()
    with StowNode(tmp_path, peers=PEERS) as node:
        head = (
            f"POST /studies HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
            f"Content-Type: application/dicom\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", node.stow_port)) as sending:
            sending.settimeout(60)
            sending.sendall(head.encode() + content[:1000])
            wait_until(lambda: post(node, related(image()[1]))[0] == 200)  # it serves, so it read ours, too
            assert node.process is not None
            node.process.terminate()
            sending.sendall(content[1000:])
            assert sending.recv(4096).startswith(b"HTTP/1.1 200")
        assert node.wait() == 0
        assert uid in node.kept()


class UploadNode(ListenerProcess):
    """A listener that takes uploads of the page, and no STOW-RS."""

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "web": {"upload": True}}


def test_what_the_page_hands_over_becomes_a_study_of_its_own_sender(tmp_path: Path) -> None:
    with UploadNode(tmp_path) as node, closing(node.open_database()) as db:
        study, uid = new_uid(), new_uid()
        announced = Announced(CT.encode(), uid.encode(), CT, EXPLICIT)
        dataset = ct_dataset(uid, study=study)
        with TemporaryFile() as file:
            file.write(dataset)
            file.flush()
            sender = Sender(UPLOAD_AE, "PREREAD", "127.0.0.1")
            size = len(dataset)
            assert (
                hand_over(node.state_folder, sender, announced, descriptor=file.fileno(), size=size) is None
            )
        assert node.kept() == {uid: [dataset]}
        wait_until(lambda: state_of(db, study) == "whole")
        assert seen(db, study).study.source_ae == UPLOAD_AE
        with pytest.raises(Refused):  # no association can pass for the page
            Peer(node.port).associate(associate_request(calling=UPLOAD_AE))
        assert node.terminate() == 0
        assert not (node.state_folder / SOCKET_NAME).exists()


ORTHANC_DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def test_orthanc_pushes_by_dicomweb(node: StowNode, tmp_path: Path) -> None:
    program = shutil.which("Orthanc", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None or not ORTHANC_DICOMWEB.exists():
        message = "not installed: orthanc orthanc-dicomweb (scripts/setup)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    port, study = free_port(), new_uid()
    (tmp_path / "orthanc.json").write_text(
        json.dumps(
            {
                "StorageDirectory": str(tmp_path / "storage"),
                "IndexDirectory": str(tmp_path / "storage"),
                "Plugins": [str(ORTHANC_DICOMWEB)],
                "RemoteAccessAllowed": False,
                "DicomServerEnabled": False,
                "HttpPort": port,
                "DicomWeb": {
                    "Servers": {
                        "preread": {
                            "Url": f"http://127.0.0.1:{node.stow_port}/",
                            "HttpHeaders": {"Authorization": f"Bearer {TOKEN}"},
                        }
                    }
                },
            }
        )
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def rest(path: str, body: bytes | None = None) -> Any:
        with opener.open(f"http://127.0.0.1:{port}{path}", data=body, timeout=60) as answer:
            return json.loads(answer.read())

    with (tmp_path / "log").open("wb") as log:
        orthanc = subprocess.Popen([program, str(tmp_path / "orthanc.json")], stdout=log, stderr=log)
    try:
        until = time.monotonic() + 60
        while True:
            assert orthanc.poll() is None, (tmp_path / "log").read_text(errors="replace")
            try:
                rest("/system")
                break
            except OSError:
                assert time.monotonic() < until, "Orthanc did not start"
                time.sleep(0.1)
        images = [image(study=study, sop_class=CT) for _ in range(7)]
        for _, content in images:
            rest("/instances", content)
        (orthanc_id,) = rest("/studies")
        order = {"Resources": [orthanc_id], "Synchronous": True}
        rest("/dicom-web/servers/preread/stow", json.dumps(order).encode())
    finally:
        orthanc.terminate()
        orthanc.wait()
    assert {uid for uid, _ in images} <= node.kept().keys()
    with closing(node.open_database()) as db:
        wait_until(lambda: state_of(db, study) == "whole")
        assert sorted(u for u in stored_uids(db) if u in dict(images)) == sorted(dict(images))
