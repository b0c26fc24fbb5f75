"""What a request for storage commitment asks and what its report says; what is none has a status."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from config.settings import PeerSettings, Settings
from db.records import Finding
from listener.admission import Refusal
from listener.commitment import (
    INVALID_ARGUMENT,
    NO_SUCH_ACTION,
    NO_SUCH_INSTANCE,
    REFERENCES_MAX,
    CommitmentRequest,
    asked_commitment,
    failure_of,
    is_commitment,
    read_request,
    refused_action,
    report_of,
)
from listener.contexts import COMMITMENT_INSTANCE
from listener.intake import Sender
from listener.notices import is_notice
from listener.reports import reachable_peer

CT = "1.2.840.10008.5.1.4.1.1.2"
SENDER = Sender("SCANNER", "PREREAD", "10.0.0.7")
UIDS = st.integers(0, 10**40).map("1.2.{}".format)


@disable_value_validation()
def request(*uids: str, transaction: str = "1.2.3", sop_class: str = CT) -> Dataset:
    asked = Dataset()
    asked.TransactionUID = transaction
    items = []
    for uid in uids:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
        items.append(item)
    asked.ReferencedSOPSequence = items
    return asked


def test_request_names_what_is_asked_in_order() -> None:
    assert read_request(request("1.5", "1.4"), token="t") == CommitmentRequest(
        "t", "1.2.3", ((CT, "1.5"), (CT, "1.4"))
    )


@pytest.mark.parametrize(
    "wrong",
    [
        Dataset(),
        request(),
        request("1.5", transaction=""),
        request("1.5", transaction="x"),
        request("1.5", ""),
        request("1.5\0x"),
        request("1.5", sop_class="CT"),
        request(*["1.5"] * (REFERENCES_MAX + 1)),
    ],
    ids=["empty", "nothing", "nameless", "not-uid", "no-instance", "not-instance", "not-class", "many"],
)
def test_request_that_is_none_is_refused(wrong: Dataset) -> None:
    refusal = read_request(wrong, token="t")
    assert isinstance(refusal, Refusal)
    assert refusal.status == INVALID_ARGUMENT


def test_other_actions_and_instances_are_refused() -> None:
    assert refused_action(1, COMMITMENT_INSTANCE) is None
    for action, instance, status in (
        (2, COMMITMENT_INSTANCE, NO_SUCH_ACTION),
        (None, COMMITMENT_INSTANCE, NO_SUCH_ACTION),
        (1, "1.2.3", NO_SUCH_INSTANCE),
    ):
        refusal = refused_action(action, instance)
        assert refusal is not None
        assert refusal.status == status


@given(UIDS, st.lists(st.tuples(UIDS, UIDS), min_size=1, max_size=20))
def test_record_of_the_log_says_what_was_asked(transaction: str, references: list[tuple[str, str]]) -> None:
    asked = CommitmentRequest("token", transaction, tuple(references))
    meta, payload = asked.meta(SENDER, 12.3456), asked.payload()
    assert is_commitment(meta)
    assert not is_notice(meta)
    found = asked_commitment(meta, payload)
    assert (found.token, found.transaction_uid, found.references) == ("token", transaction, tuple(references))
    assert (found.source_ae, found.address, found.received_at) == ("SCANNER", "10.0.0.7", 12.346)


def test_other_records_are_no_requests() -> None:
    assert not is_commitment(b'{"calling":"commitment","sop_instance":"1.2"}')
    assert not is_commitment(b'{"calling":"\\"commitment\\":","sop_instance":"1.2"}')


@given(st.lists(st.sampled_from(list(Finding)), min_size=1, max_size=20))
def test_report_names_each_reference_once_and_failures_exactly_when_there_are_some(
    findings: list[Finding],
) -> None:
    references = tuple((CT, f"1.2.{number}") for number in range(len(findings)))
    event_type, report = report_of("1.9", references, "".join(findings))
    held = [str(item.ReferencedSOPInstanceUID) for item in report.get("ReferencedSOPSequence", [])]
    failed = {
        str(item.ReferencedSOPInstanceUID): item.FailureReason for item in report.get("FailedSOPSequence", [])
    }
    assert report.TransactionUID == "1.9"
    assert held == [
        uid for (_, uid), found in zip(references, findings, strict=True) if found == Finding.HELD
    ]
    assert set(held) | set(failed) == {uid for _, uid in references}
    assert len(held) + len(failed) == len(references)
    assert event_type == (2 if failed else 1)
    for (_, uid), found in zip(references, findings, strict=True):
        assert failed.get(uid) == {"0": None, "1": 0x0112, "2": 0x0119}[found]


@pytest.mark.parametrize(
    ("status", "words"), [(0, None), (0xB000, None), (0x0107, None), (0x0110, "answered 0x0110")]
)
def test_only_success_and_warnings_take_a_report(status: int, words: str | None) -> None:
    assert failure_of(status) == words


def test_report_goes_to_the_peer_of_that_title_that_has_an_address() -> None:
    def peer(name: str, host: str | None, ae_title: str = "SCANNER") -> PeerSettings:
        return PeerSettings(name=name, ae_title=ae_title, host=host, port=None if host is None else 104)

    peers = (peer("a", None), peer("b", "10.0.0.1"), peer("c", "10.0.0.2"), peer("d", "10.0.0.3", "OTHER"))
    settings = Settings(peers=peers)
    assert reachable_peer(settings, "SCANNER", "10.0.0.2") == peers[2]
    assert reachable_peer(settings, "SCANNER", "10.9.9.9") == peers[1]
    assert reachable_peer(settings, "NOBODY", "10.0.0.3") is None
    assert reachable_peer(Settings(peers=peers[:1]), "SCANNER", "10.0.0.1") is None
