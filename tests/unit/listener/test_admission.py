"""Default deny: who may call is written in the settings, and a refusal says which setting would allow it."""

import pytest
from dicom_peer import CT, ct_dataset, element, new_uid

from config.certificates import Certificate
from config.settings import Settings
from listener.admission import (
    CANNOT_UNDERSTAND,
    DATASET_MISMATCH,
    IDENTITY,
    NOT_AUTHORIZED,
    SOP_CLASS_NOT_SUPPORTED,
    SOP_INSTANCE_INVALID,
    Admission,
    Refusal,
    is_uid,
    judge,
    plain_address,
)
from listener.dataset_scan import DatasetScan
from listener.pdu import REJECT_CALLED_AE, REJECT_CALLING_AE


def admission(*peers: dict[str, object], tls: bool = False, **hosts: list[str]) -> Admission:
    named = [{"name": f"peer-{n}", **peer} for n, peer in enumerate(peers)]
    files = {"port": 2762, "certificate": "a", "private_key": "b", "trusted": "c"} if tls else {}
    return Admission(Settings.model_validate({"peers": named, "tls": files}), hosts)


def call(to: Admission, address: str, *, calling: str = "PACS", called: str = "PREREAD") -> object:
    return to.associate(calling_ae=calling, called_ae=called, address=address)


def test_nobody_may_call_without_peers() -> None:
    refused = admission().associate(calling_ae="PACS", called_ae="PREREAD", address="10.0.0.1")
    assert refused is not None
    assert refused.answer == REJECT_CALLING_AE
    assert "PACS" in refused.remedy
    assert "10.0.0.1" in refused.remedy


def test_peer_may_call_from_its_host_alone() -> None:
    to = admission({"ae_title": "PACS", "host": "10.0.0.1"})
    assert call(to, "10.0.0.1") is None
    assert call(to, "10.0.0.2") is not None


def test_peer_may_call_from_its_networks_and_no_longer_from_its_host() -> None:
    to = admission({"ae_title": "PACS", "host": "10.0.0.1", "addresses": ["10.1.0.0/16", "fd00::/8"]})
    assert call(to, "10.1.2.3") is None
    assert call(to, "fd00::7") is None
    assert call(to, "10.0.0.1") is not None


def test_host_name_admits_the_addresses_it_resolves_to() -> None:
    to = admission({"ae_title": "PACS", "host": "pacs"}, pacs=["10.0.0.1", "10.0.0.9"])
    assert call(to, "10.0.0.9") is None
    assert call(to, "10.0.0.2") is not None
    assert call(admission({"ae_title": "PACS", "host": "gone"}), "10.0.0.1") is not None


def test_peer_without_host_and_addresses_may_not_call() -> None:
    assert call(admission({"ae_title": "PACS"}), "10.0.0.1") is not None


def test_one_ae_title_may_belong_to_several_peers() -> None:
    to = admission({"ae_title": "PACS", "host": "10.0.0.1"}, {"ae_title": "PACS", "host": "10.0.0.2"})
    assert call(to, "10.0.0.1") is None
    assert call(to, "10.0.0.2") is None


def test_who_calls_somebody_else_is_told_our_title() -> None:
    to = admission({"ae_title": "PACS", "host": "10.0.0.1"})
    refused = to.associate(calling_ae="PACS", called_ae="OTHER", address="10.0.0.1")
    assert refused is not None
    assert refused.answer == REJECT_CALLED_AE
    assert "PREREAD" in refused.remedy


def test_wrong_address_is_refused_with_the_peer_to_change() -> None:
    to = admission({"ae_title": "PACS", "host": "10.0.0.1"})
    refused = to.associate(calling_ae="PACS", called_ae="PREREAD", address="10.0.0.2")
    assert refused is not None
    assert "10.0.0.2" in refused.remedy
    assert "peer-0" in refused.remedy


def store(to: Admission, *, sop_class: str = CT, uid: bytes = b"1.2.3", abstract: str = CT) -> Refusal | None:
    return to.store(
        calling_ae="PACS",
        address="10.0.0.1",
        sop_class=sop_class.encode(),
        sop_instance=uid,
        abstract_syntax=abstract,
    )


def test_store_of_an_allowed_peer_is_taken() -> None:
    assert store(admission({"ae_title": "PACS", "host": "10.0.0.1"})) is None


def test_peer_that_may_not_send_may_call_but_not_store() -> None:
    to = admission({"ae_title": "PACS", "host": "10.0.0.1", "may_send": False})
    assert call(to, "10.0.0.1") is None
    refused = store(to)
    assert refused is not None
    assert refused.status == NOT_AUTHORIZED


def test_sop_class_of_another_context_is_refused() -> None:
    refused = store(admission({"ae_title": "PACS", "host": "10.0.0.1"}), abstract="1.2.840.10008.1.1")
    assert refused is not None
    assert refused.status == SOP_CLASS_NOT_SUPPORTED


@pytest.mark.parametrize(
    "uid", [b"", b"../../etc/passwd", b"/tmp/x", b"1.2\0/..", b"1" * 65, b"1..2", b".1", b"1.", b"1.2a"]
)
def test_what_is_no_uid_is_refused(uid: bytes) -> None:
    assert not is_uid(uid)
    refused = store(admission({"ae_title": "PACS", "host": "10.0.0.1"}), uid=uid)
    assert refused is not None
    assert refused.status == SOP_INSTANCE_INVALID


def judged(dataset: bytes, *, uid: str, sop_class: str = CT) -> Refusal | None:
    scan = DatasetScan(explicit=True, wanted=IDENTITY)
    scan.feed(dataset)
    return judge(scan, sop_class=sop_class.encode(), sop_instance=uid.encode())


def test_dataset_that_is_what_its_request_said_is_taken() -> None:
    uid = new_uid()
    assert judged(ct_dataset(uid), uid=uid) is None


@pytest.mark.parametrize(
    ("dataset", "status", "word"),
    [
        (ct_dataset("1.2.9"), DATASET_MISMATCH, "SOP Instance UID"),
        (ct_dataset("1.2.3", sop_class="1.2.840.10008.5.1.4.1.1.4"), DATASET_MISMATCH, "SOP Class UID"),
        (ct_dataset("1.2.3", study="../x"), DATASET_MISMATCH, "Study Instance UID is not"),
        (ct_dataset("1.2.3", series="1" * 65), DATASET_MISMATCH, "Series Instance UID is not"),
        (element(8, 0x60, b"CS", b"CT"), DATASET_MISMATCH, "missing"),
        (ct_dataset("1.2.3")[:-100], CANNOT_UNDERSTAND, "(7FE0,0010)"),
        (b"", CANNOT_UNDERSTAND, "empty"),
        (bytes(range(256)) * 4, CANNOT_UNDERSTAND, ""),
    ],
    ids=range(8),
)
def test_dataset_that_lies_gets_the_status_for_it(dataset: bytes, status: int, word: str) -> None:
    refused = judged(dataset, uid="1.2.3")
    assert refused is not None
    assert refused.status == status
    assert word in refused.comment


def test_address_is_compared_in_one_spelling() -> None:
    assert plain_address("::ffff:10.0.0.1") == "10.0.0.1"
    assert plain_address("fe80::1%eth0") == "fe80::1"


MINE = Certificate("sha256:" + "0a" * 32, frozenset(["pacs.example"]))
OTHER = Certificate("sha256:" + "0b" * 32, frozenset(["other.example"]))


@pytest.mark.parametrize("bound", ["sha256:" + "0a" * 32, "pacs.example"])
@pytest.mark.parametrize(("shown", "admitted"), [(MINE, True), (OTHER, False), (None, False)])
def test_bound_ae_title_needs_its_certificate(bound: str, shown: Certificate | None, admitted: bool) -> None:
    to = admission({"ae_title": "PACS", "addresses": ["10.0.0.1"], "certificates": [bound]}, tls=True)
    found = to.associate(calling_ae="PACS", called_ae="PREREAD", address="10.0.0.1", certificate=shown)
    assert (found is None) is admitted
    if found is not None:
        assert found.answer == REJECT_CALLING_AE
        assert "peer-0" in found.remedy


def test_ae_title_of_several_peers_at_an_address_is_admitted_as_any_of_them() -> None:
    here = {"ae_title": "PACS", "addresses": ["10.0.0.1"]}
    to = admission({**here, "certificates": ["other.example"]}, {**here, "certificates": ["x"]}, tls=True)
    called = {"calling_ae": "PACS", "called_ae": "PREREAD", "address": "10.0.0.1"}
    assert to.associate(**called, certificate=OTHER) is None
    found = to.associate(**called, certificate=MINE)
    assert found is not None
    assert "peer-0 or peer-1" in found.remedy
