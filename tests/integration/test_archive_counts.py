"""An archive's count by C-FIND, against scripted archives: honest, odd, hostile and silent ones."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from dicom_peer import pdu
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as STUDY_ROOT_FIND
from pynetdicom.sop_class import Verification
from tls_files import Authority

from config.settings import PeerSettings, TlsSettings
from config.tls import acceptor_context
from listener import peers
from listener.peers import CountedSeries, NotCounted, count_instances

STUDY = "1.2.1"
Series = tuple[str, str, object]


def peer_at(port: int) -> PeerSettings:
    return PeerSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=port, ask_counts=True)


def counted(port: int) -> tuple[CountedSeries, ...]:
    return count_instances(peer_at(port), STUDY, calling_ae="PREREAD")


def failure(port: int) -> str:
    with pytest.raises(NotCounted) as found:
        counted(port)
    assert "ask_counts of pacs" in str(found.value)
    return found.value.what


@contextmanager
def archive(
    series: Sequence[Series] = (),
    *,
    total: object = "",
    study: str = STUDY,
    endless: bool = False,
    sop_class: Any = STUDY_ROOT_FIND,
    only_for: Sequence[str] = (),
    tls: ssl.SSLContext | None = None,
) -> Iterator[int]:
    """A pynetdicom archive with these (series, modality, count); its port."""

    def find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        query = event.identifier
        answers: list[Mapping[str, object]] = [{"NumberOfStudyRelatedInstances": total}] if series else []
        if query.QueryRetrieveLevel == "SERIES":
            answers = [
                {"SeriesInstanceUID": uid, "Modality": modality, "NumberOfSeriesRelatedInstances": number}
                for uid, modality, number in series
            ]
        while answers:
            for values in answers:
                answer = Dataset()
                answer.QueryRetrieveLevel, answer.StudyInstanceUID = query.QueryRetrieveLevel, study
                for keyword, value in values.items():
                    if value is not None:
                        setattr(answer, keyword, value)
                yield 0xFF00, answer
            if not endless:
                break

    ae = AE(ae_title="PACS")
    ae.require_calling_aet = list(only_for)
    ae.add_supported_context(sop_class)
    handlers: list[Any] = [(evt.EVT_C_FIND, find)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=tls)
    assert server is not None
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()


@contextmanager
def bytes_only(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A peer that takes one connection and does what `answer` says; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ended = threading.Event()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1 << 16)
                answer(connection)
                ended.wait(60)

        serving = threading.Thread(target=serve)
        serving.start()
        try:
            yield listening.getsockname()[1]
        finally:
            ended.set()
            serving.join()


def test_series_come_with_modality_and_count() -> None:
    with archive([("1.1", "CT", 5), ("1.2", "PR", "1")], total=6) as port:
        assert counted(port) == (CountedSeries("1.1", "CT", 5), CountedSeries("1.2", "PR", 1))


def test_archive_that_counts_no_study_total_still_counts() -> None:
    with archive([("1.1", "CT", 5)], total=None) as port:
        assert counted(port) == (CountedSeries("1.1", "CT", 5),)


def test_archive_that_does_not_know_the_study_has_no_series() -> None:
    with archive() as port:
        assert counted(port) == ()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"series": [("1.1", "CT", None)], "total": 5}, "does not count instances by series"),
        ({"series": [("1.1", "CT", 5)], "total": 7}, "counts 7 instances in the study and 5 in its series"),
        ({"series": [("1.1", "CT", 5)], "study": "1.2.2"}, "answers for another study"),
        ({"series": [("1.1", "CT", 5)], "endless": True}, "answers more than 20 times"),
        ({"sop_class": Verification}, "does not take C-FIND (Study Root)"),
        ({"only_for": ["SOMEBODY"]}, "rejected our association as PREREAD"),
    ],
)
def test_archive_that_is_no_witness_says_why(
    options: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "ANSWERS_MAX", 20)
    with archive(**options) as port:
        assert failure(port) == words


def test_archive_that_is_away_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    assert failure(port) == "does not answer"


def silent(_: socket.socket) -> None:
    """Nothing comes."""


def huge(connection: socket.socket) -> None:
    """A PDU of 4 GiB begins."""
    connection.sendall(struct.pack(">BBL", 2, 0, 0xFFFFFFFF))


def half(connection: socket.socket) -> None:
    """A PDU begins and never goes on."""
    connection.sendall(pdu(2, bytes(4000))[:100])


@pytest.mark.parametrize("behaviour", [silent, huge, half])
def test_archive_that_stalls_or_lies_is_left_in_bounded_time(
    behaviour: Callable[[socket.socket], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "ASK_SECONDS_MAX", 2.0)
    with bytes_only(behaviour) as port:
        assert failure(port) == "does not answer"


def test_archive_is_asked_by_tls_and_only_the_one_it_should_be(tmp_path: Path) -> None:
    authority = Authority.made(tmp_path)
    tls = TlsSettings.model_validate(authority.settings())
    held = [("1.2.1.1", "CT", 3)]
    with archive(held, total=3, tls=acceptor_context(tls)) as port:
        peer = peer_at(port).model_copy(update={"tls": True})
        found = count_instances(peer, STUDY, calling_ae="PREREAD", tls=tls)
        assert [(series.series_uid, series.instances) for series in found] == [("1.2.1.1", 3)]
        foreign = peer.model_copy(update={"certificates": ("other.example",)})
        with pytest.raises(NotCounted, match="another certificate than the one it is bound to"):
            count_instances(foreign, STUDY, calling_ae="PREREAD", tls=tls)
