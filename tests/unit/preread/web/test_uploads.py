"""Files dropped on the page take the way of a C-STORE, and each one's outcome is told."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from dicom_peer import CT, ct_dataset, new_uid
from loop_thread import LoopThread, loop_thread
from part10_file import dicom_file

from config.identity import UPLOAD_AE
from preread.web import uploads
from preread.web.site import UPLOADS_AT_ONCE

DICOMDIR = "1.2.840.10008.1.3.10"


@pytest.fixture
def upload_node(make_node):
    return make_node(web={"upload": True, "upload_gib_max": 0.001})


@pytest.fixture
def loop(upload_node, tmp_path):
    """The listener's loop at the door of the node; the node itself writes to the node's spool."""
    with loop_thread(upload_node.settings, spool_folder=tmp_path / "spool") as running:
        yield running


@pytest.fixture
def send(upload_node, browse, token) -> Callable:
    client = browse(upload_node)
    mark = token(client)

    def post(content: bytes, **headers: str):
        return client.post("/upload", content=content, headers={"x-form-token": mark, **headers})

    return post


def outcomes(answer) -> list[tuple[str, str]]:
    assert answer.status_code == 200, answer.text
    return [(line["name"], line["state"]) for line in map(json.loads, answer.text.splitlines())]


def image() -> tuple[str, bytes]:
    uid = new_uid()
    return uid, dicom_file(uid, ct_dataset(uid))


def test_a_file_is_kept_as_it_came_with_the_page_as_its_sender(loop: LoopThread, send) -> None:
    uid, content = image()
    assert outcomes(send(content)) == [("", "stored")]
    assert {dicom_file(u, d) for u, d in loop.kept().items()} == {content}
    assert uid in loop.kept()
    assert loop.senders() == {UPLOAD_AE}


def test_a_body_that_comes_in_pieces_is_written_whole(loop: LoopThread, send, monkeypatch) -> None:
    monkeypatch.setattr(uploads, "WRITE_BYTES", 100)
    _, content = image()
    assert outcomes(send(content[at : at + 37] for at in range(0, len(content), 37))) == [("", "stored")]
    assert {dicom_file(u, d) for u, d in loop.kept().items()} == {content}


def test_every_file_of_a_zip_has_its_own_outcome(loop: LoopThread, send) -> None:
    (first, one), (second, two) = image(), image()
    broken, disc = new_uid(), new_uid()
    files = {
        "CD/1.dcm": one,
        "CD/2.dcm": two,
        "CD/cut.dcm": dicom_file(broken, ct_dataset(broken)[:-3]),
        "CD/DICOMDIR": dicom_file(disc, ct_dataset(disc, sop_class=DICOMDIR), sop_class=DICOMDIR),
        "CD/readme.txt": b"look at the pictures",
        "CD/empty": b"",
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as writing:
        for name, content in files.items():
            writing.writestr(name, content)
    assert outcomes(send(packed.getvalue())) == [
        ("CD/1.dcm", "stored"),
        ("CD/2.dcm", "stored"),
        ("CD/cut.dcm", "refused"),
        ("CD/DICOMDIR", "skipped"),
        ("CD/readme.txt", "skipped"),
        ("CD/empty", "skipped"),
    ]
    assert loop.kept().keys() == {first, second}


def test_a_zip_that_unpacks_beyond_the_limit_stops_there(loop: LoopThread, send) -> None:
    uid = new_uid()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as writing:
        writing.writestr("bomb", dicom_file(uid, ct_dataset(uid, pixels=bytes(2 << 20))))
    assert outcomes(send(packed.getvalue())) == [("", "refused")]
    assert loop.kept() == {}


def test_what_is_no_dicom_is_skipped_with_the_reason(loop: LoopThread, send) -> None:
    answer = send(b"%PDF-1.7" + bytes(500))
    assert outcomes(answer) == [("", "skipped")]
    assert "not a DICOM file" in answer.text


def test_without_the_listener_the_file_is_refused_and_not_lost_silently(send) -> None:
    answer = send(image()[1])
    assert outcomes(answer) == [("", "refused")]
    assert "listener" in answer.text


def test_a_file_above_the_limit_is_refused(loop: LoopThread, send) -> None:
    assert send(bytes(2 << 20)).status_code == 413
    assert loop.kept() == {}


def test_nothing_of_an_upload_is_left_in_the_state_folder(loop: LoopThread, upload_node, send) -> None:
    send(image()[1])
    assert not list(Path(upload_node.settings.state_folder).glob("incoming-*"))


def test_places_are_given_back_whatever_happens(loop: LoopThread, send) -> None:
    for _ in range(UPLOADS_AT_ONCE + 1):
        assert send(bytes(2 << 20)).status_code == 413
        assert send(b"no image").status_code == 200
    assert outcomes(send(image()[1])) == [("", "stored")]


def test_an_upload_of_another_site_or_session_is_refused(
    loop: LoopThread, upload_node, browse, token
) -> None:
    client, other = browse(upload_node), browse(upload_node)
    client.get("/")
    content = image()[1]
    for headers in (
        {},
        {"x-form-token": token(other)},
        {"x-form-token": token(client), "origin": "https://evil.example"},
    ):
        assert client.post("/upload", content=content, headers=headers).status_code == 403
    assert loop.kept() == {}


def test_uploads_are_off_unless_the_settings_allow_them_and_the_page_says_how(node, browse, token) -> None:
    client = browse(node)
    text = client.get("/upload").text
    assert "web.upload: true" in text
    assert 'href="/upload"' not in text
    answer = client.post("/upload", content=image()[1], headers={"x-form-token": token(client)})
    assert answer.status_code == 404


def test_the_page_says_what_becomes_of_files(upload_node, browse) -> None:
    text = browse(upload_node).get("/upload").text
    assert "Drop DICOM files" in text
    assert "sent nowhere else" in text
    assert 'href="/upload" aria-current="page"' in text
    assert CT not in text
