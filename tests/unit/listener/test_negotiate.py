"""Plain proposals are answered from the tables, unusual ones are left to others, lies are peer errors."""

import struct

import pytest
from dicom_peer import (
    CT,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG_BASELINE,
    PDF,
    VERIFICATION,
    associate_request,
    context,
    item,
    pdu,
)
from pynetdicom.pdu import A_ASSOCIATE_AC

from listener.contexts import MPPS, NOTICE_CLASSES, STORAGE_CLASSES, TRANSFER_SYNTAXES, name_of
from listener.negotiate import Accepted, Negotiator, Rejected, Unusual
from listener.pdu import PeerError


@pytest.fixture
def negotiator() -> Negotiator:
    return Negotiator(pdu_bytes_max=131072)


def accepted(negotiator: Negotiator, contexts: bytes) -> Accepted:
    answer = negotiator.answer(associate_request(contexts=contexts))
    assert isinstance(answer, Accepted)
    return answer


def test_every_storage_class_is_accepted_in_every_transfer_syntax(negotiator: Negotiator) -> None:
    for abstract in STORAGE_CLASSES:
        contexts = b"".join(context(2 * n + 1, abstract, ts) for n, ts in enumerate(TRANSFER_SYNTAXES))
        answer = accepted(negotiator, contexts)
        assert [c.transfer_syntax for c in answer.contexts.values()] == list(TRANSFER_SYNTAXES), abstract
        assert answer.refused == ()


@pytest.mark.parametrize(
    ("proposed", "taken"),
    [
        ((JPEG_BASELINE, IMPLICIT, EXPLICIT), JPEG_BASELINE),
        ((IMPLICIT, EXPLICIT, JPEG_BASELINE), EXPLICIT),
        ((DEFLATED, IMPLICIT), IMPLICIT),
        ((EXPLICIT, JPEG_BASELINE), EXPLICIT),
    ],
)
def test_first_syntax_of_the_peer_is_taken_and_explicit_rather_than_implicit(
    negotiator: Negotiator, proposed: tuple[str, ...], taken: str
) -> None:
    answer = accepted(negotiator, context(1, CT, *proposed))
    assert answer.contexts[1].transfer_syntax == taken


def test_other_classes_and_syntaxes_are_refused_by_name(negotiator: Negotiator) -> None:
    answer = accepted(
        negotiator,
        context(1, PDF, EXPLICIT)
        + context(3, CT, DEFLATED)
        + context(5, VERIFICATION, IMPLICIT)
        + context(7, "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.1.2.2"),
    )
    assert list(answer.contexts) == [5]
    assert answer.refused == (
        "Encapsulated PDF Storage",
        "CT Image Storage in Deflated Explicit VR Little Endian",
        "MR Image Storage in Explicit VR Big Endian",
    )


def test_syntaxes_that_nobody_knows_are_refused_and_named_in_part(negotiator: Negotiator) -> None:
    unknown = [f"1.2.3.{n}" for n in range(60)]
    answer = accepted(negotiator, context(1, CT, *unknown) + context(3, VERIFICATION, *unknown, IMPLICIT))
    assert list(answer.contexts) == [3]
    assert answer.contexts[3].transfer_syntax == IMPLICIT
    (said,) = answer.refused
    assert said.startswith("CT Image Storage in 1.2.3.0, 1.2.3.1")
    assert said.endswith("1.2.3.7, others")


def test_class_that_is_taken_in_another_context_is_not_refused(negotiator: Negotiator) -> None:
    answer = accepted(negotiator, context(1, CT, DEFLATED) + context(3, CT, EXPLICIT))
    assert answer.refused == ()


def test_answer_is_an_associate_ac_with_our_maximum_length(negotiator: Negotiator) -> None:
    pdu_ac = A_ASSOCIATE_AC()
    pdu_ac.decode(accepted(negotiator, context(1, CT, EXPLICIT) + context(3, PDF, EXPLICIT)).answer)
    assert [(c.presentation_context_id, c.result) for c in pdu_ac.presentation_context] == [(1, 0), (3, 3)]
    assert pdu_ac.user_information is not None
    assert pdu_ac.user_information.maximum_length == 131072


@pytest.mark.parametrize("kind", [0x53, 0x54, 0x56, 0x57, 0x58])
def test_any_other_user_item_is_unusual(negotiator: Negotiator, kind: int) -> None:
    assert isinstance(negotiator.answer(associate_request(user_items=item(kind, bytes(4)))), Unusual)


def test_peer_that_takes_no_more_than_a_few_bytes_is_unusual(negotiator: Negotiator) -> None:
    raw = associate_request().replace(struct.pack(">L", 16384), struct.pack(">L", 128))
    assert isinstance(negotiator.answer(raw), Unusual)


def test_other_application_context_is_rejected(negotiator: Negotiator) -> None:
    raw = associate_request().replace(b"1.2.840.10008.3.1.1.1", b"1.2.840.10008.3.1.1.2")
    assert isinstance(negotiator.answer(raw), Rejected)


def test_repeated_request_gets_the_same_answer(negotiator: Negotiator) -> None:
    assert negotiator.answer(associate_request()) is negotiator.answer(associate_request())


def test_request_without_end_is_a_peer_error(negotiator: Negotiator) -> None:
    with pytest.raises(PeerError):
        negotiator.answer(pdu(1, bytes(80)))


def test_names_are_known_for_ours_and_others() -> None:
    assert name_of(CT) == "CT Image Storage"
    assert name_of(PDF) == "Encapsulated PDF Storage"
    assert name_of("1.2.3.4") == "1.2.3.4"


def test_proposal_of_notices_alone_is_for_others(negotiator: Negotiator) -> None:
    for notice in NOTICE_CLASSES:
        contexts = context(1, notice, EXPLICIT) + context(3, VERIFICATION, IMPLICIT)
        assert isinstance(negotiator.answer(associate_request(contexts=contexts)), Unusual)


def test_sender_of_images_that_proposes_notices_too_is_served_at_once_and_told(
    negotiator: Negotiator,
) -> None:
    answer = accepted(negotiator, context(1, CT, EXPLICIT) + context(3, MPPS, EXPLICIT))
    assert list(answer.contexts) == [1]
    assert answer.refused == ("Modality Performed Procedure Step SOP Class",)
