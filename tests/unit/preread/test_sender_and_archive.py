"""The sender and the embedded archive, against each other and over real associations."""

import gc
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as FIND

from pipeline.outbound.association import PeerUnreachable
from preread.demo.archive import EmbeddedArchive
from preread.demo.found import Found, FoundStudy
from preread.demo.sender import Address, send_study

STUDY = "1.2.826.0.1.3680043.8.498.2"


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[EmbeddedArchive]:
    with EmbeddedArchive(tmp_path / "archive", ae_title="ARCHIVE") as running:
        yield running


def found(number: int, *, sop_class: str = MRImageStorage, affected: str | None = None) -> Found:
    dataset = Dataset()
    dataset.SOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = f"{STUDY}.1.{number}"
    dataset.StudyInstanceUID = STUDY
    dataset.SeriesInstanceUID = f"{STUDY}.1"
    dataset.InstanceNumber = number
    buffer = io.BytesIO()
    dataset.save_as(buffer, implicit_vr=False, little_endian=True)
    content = buffer.getvalue()
    return Found(
        name=f"image {number}",
        sop_class=sop_class,
        sop_uid=affected or dataset.SOPInstanceUID,
        study_uid=STUDY,
        series_uid=dataset.SeriesInstanceUID,
        transfer_syntax=ExplicitVRLittleEndian,
        modality="MR",
        description="",
        read=lambda: content,
    )


def address(archive: EmbeddedArchive, ae_title: str = "ARCHIVE") -> Address:
    return Address(ae_title, "127.0.0.1", archive.port)


def test_every_object_arrives_byte_for_byte(archive: EmbeddedArchive) -> None:
    study = FoundStudy(STUDY, tuple(found(number) for number in range(1, 8)))
    sending = send_study(study, address(archive), calling_ae="SENDER")
    assert sending.sent == 7
    assert sending.last_acknowledged_at is not None
    for item in study.objects:
        kept = archive.kept(item.sop_uid)
        assert kept is not None
        assert kept.path.read_bytes().endswith(item.read())
        assert dcmread(kept.path).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


def test_a_refused_object_is_named_and_the_rest_goes_on(archive: EmbeddedArchive) -> None:
    lying = found(2, affected=f"{STUDY}.9.9")
    unknown = found(3, sop_class=UID("1.2.3.4.5"))
    study = FoundStudy(STUDY, (found(1), lying, unknown, found(4)))
    sending = send_study(study, address(archive), calling_ae="SENDER")
    assert sending.acknowledged == {f"{STUDY}.1.1", f"{STUDY}.1.4"}
    assert [item.name for item in sending.refused] == ["image 2", "image 3"]
    assert "0xA900" in sending.refused[0].reason
    assert "does not accept 1.2.3.4.5" in sending.refused[1].reason
    assert len(archive.all_kept()) == 2


def test_a_study_of_which_nothing_is_taken_is_refused_object_by_object(archive: EmbeddedArchive) -> None:
    study = FoundStudy(STUDY, (found(1, sop_class=UID("1.2.3.4.5")), found(2, sop_class=UID("1.2.3.4.5"))))
    sending = send_study(study, address(archive), calling_ae="SENDER")
    assert sending.sent == 0
    assert len(sending.refused) == 2


def test_more_kinds_of_objects_than_one_association_can_propose_are_all_offered(
    archive: EmbeddedArchive,
) -> None:
    strangers = tuple(found(number, sop_class=UID(f"1.2.3.4.{number}")) for number in range(2, 140))
    study = FoundStudy(STUDY, (found(1), *strangers, found(200)))
    sending = send_study(study, address(archive), calling_ae="SENDER")
    assert sending.acknowledged == {f"{STUDY}.1.1", f"{STUDY}.1.200"}
    assert len(sending.refused) == 138


def test_a_peer_that_aborts_at_one_object_gets_the_others() -> None:
    arrived: list[str] = []

    def on_store(event: "evt.Event") -> int:
        uid = str(event.request.AffectedSOPInstanceUID)  # type: ignore[union-attr]
        if uid.endswith(".2"):
            event.assoc.abort()
        arrived.append(uid)
        return 0x0000

    ae = AE(ae_title="TOUCHY")
    ae.add_supported_context(MRImageStorage, ExplicitVRLittleEndian)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)])
    assert server is not None
    try:
        study = FoundStudy(STUDY, (found(1), found(2), found(3)))
        to = Address("TOUCHY", "127.0.0.1", server.server_address[1])
        sending = send_study(study, to, calling_ae="SENDER")
    finally:
        server.shutdown()
    assert sending.acknowledged == {f"{STUDY}.1.1", f"{STUDY}.1.3"}
    assert [item.name for item in sending.refused] == ["image 2"]


def test_a_peer_that_refuses_us_is_a_failure_with_a_remedy(archive: EmbeddedArchive) -> None:
    with pytest.raises(PeerUnreachable, match="Allow our AE title SENDER there"):
        send_study(FoundStudy(STUDY, (found(1),)), address(archive, "OTHER"), calling_ae="SENDER")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pynetdicom drops a socket
def test_a_peer_that_is_away_is_a_failure_with_its_address(archive: EmbeddedArchive, tmp_path: Path) -> None:
    with EmbeddedArchive(tmp_path / "second") as gone:
        port = gone.port
    to = Address("ARCHIVE", "127.0.0.1", port)
    with pytest.raises(PeerUnreachable, match=f"ARCHIVE at 127.0.0.1:{port}"):
        send_study(FoundStudy(STUDY, (found(1),)), to, calling_ae="SENDER")
    gc.collect()  # here, so that the warning falls into this test


def test_an_object_sent_again_stands_once_in_the_archive(archive: EmbeddedArchive) -> None:
    study = FoundStudy(STUDY, (found(1),))
    send_study(study, address(archive), calling_ae="SENDER")
    send_study(study, address(archive), calling_ae="SENDER")
    assert len(archive.all_kept()) == 1
    assert len(list(archive.all_kept()[0].path.parent.iterdir())) == 1


@pytest.mark.parametrize(
    ("level", "keys", "answers"),
    [
        ("STUDY", {"StudyInstanceUID": STUDY}, 1),
        ("STUDY", {"StudyInstanceUID": generate_uid()}, 0),
        ("SERIES", {"StudyInstanceUID": STUDY, "SeriesInstanceUID": ""}, 1),
        ("IMAGE", {"StudyInstanceUID": STUDY, "SOPInstanceUID": ""}, 3),
        ("IMAGE", {"SOPInstanceUID": [f"{STUDY}.1.1", f"{STUDY}.1.3"]}, 2),
    ],
)
def test_the_archive_answers_c_find(
    archive: EmbeddedArchive, level: str, keys: dict[str, object], answers: int
) -> None:
    study = FoundStudy(STUDY, tuple(found(number) for number in (1, 2, 3)))
    send_study(study, address(archive), calling_ae="SENDER")
    query = Dataset()
    query.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    ae = AE()
    ae.add_requested_context(FIND)
    association = ae.associate("127.0.0.1", archive.port, ae_title="ARCHIVE")
    pending = [identifier for status, identifier in association.send_c_find(query, FIND) if identifier]
    association.release()
    assert len(pending) == answers


@pytest.mark.parametrize("text", ["PACS1@10.1.2.3:104", "A@localhost:1", "SIXTEEN_LETTERS_@host:11112"])
def test_an_address_is_read_as_it_is_written(text: str) -> None:
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["PACS1", "@host:104", "A@host", "A@host:0", "A@:104", "A@host:x", "A" * 17 + "@h:1"]
)
def test_what_is_no_address_says_which_form_is_expected(text: str) -> None:
    with pytest.raises(ValueError, match="is not AE@host:port"):
        Address.parse(text)
