"""The written conformance statement holds: what its tables list is accepted, and nothing else is."""

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import pytest
from dicom_peer import CT, EXPLICIT, IMPLICIT, Peer, associate_request, context, item
from listener_process import ListenerProcess
from pydicom._uid_dict import UID_dictionary
from pynetdicom import sop_class
from pynetdicom.pdu import A_ASSOCIATE_AC

PAGE = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"
MPPS = "1.2.840.10008.3.1.2.3.3"
VERIFICATION = "1.2.840.10008.1.1"
ROLE_SELECTION = item(0x54, len(CT).to_bytes(2, "big") + CT.encode() + b"\1\0")

Pair = tuple[str, str]


def known_uids(*kinds: str) -> frozenset[str]:
    """Every UID of the standard's registry that is of one of these kinds, retired ones included."""
    return frozenset(uid for uid, entry in UID_dictionary.items() if entry[1] in kinds)


ALL_CLASSES = known_uids("SOP Class", "Meta SOP Class", "Service Class") | {
    str(uid) for uid in vars(sop_class).values() if isinstance(uid, sop_class.SOPClass)
}
ALL_SYNTAXES = known_uids("Transfer Syntax") | {"1.2.3.4.5"}


def syntaxes_of_page() -> dict[str, frozenset[str]]:
    """Transfer syntaxes by the name of their set."""
    sets = re.findall(r"^Set (\w), of .*:\n\n((?:\|.*\n)+)", PAGE.read_text(), re.MULTILINE)
    return {name: frozenset(re.findall(r"\| ([\d.]+) \|", rows)) for name, rows in sets}


def classes_of_page() -> dict[str, str]:
    """The set of transfer syntaxes of each SOP class that we serve."""
    return dict(re.findall(r"^\| .+ \| ([\d.]+) \| SCP \| set (\w) \|$", PAGE.read_text(), re.MULTILINE))


SYNTAXES, CLASSES = syntaxes_of_page(), classes_of_page()
STORAGE = [uid for uid in CLASSES if uid.startswith("1.2.840.10008.5.1.4.1.1.")]
APART = [uid for uid in CLASSES if uid not in STORAGE and uid != VERIFICATION]
LISTED = {(uid, syntax) for uid, name in CLASSES.items() for syntax in SYNTAXES[name]}
OTHERS = {(uid, syntax) for uid in CLASSES for syntax in ALL_SYNTAXES} | {
    (uid, syntax) for uid in ALL_CLASSES for syntax in (EXPLICIT, IMPLICIT)
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ListenerProcess]:
    with ListenerProcess(tmp_path_factory.mktemp("node")) as process:
        yield process


def accepted(
    port: int, pairs: Iterable[Pair], *, fixed: Collection[Pair] = (), user_items: bytes = b""
) -> set[Pair]:
    """Which of the pairs are accepted, each proposed in a presentation context of its own."""
    found, ordered, size = set(), sorted(pairs), 128 - len(fixed)
    for at in range(0, len(ordered), size):
        proposed = [*fixed, *ordered[at : at + size]]
        contexts = b"".join(context(2 * n + 1, *pair) for n, pair in enumerate(proposed))
        peer = Peer(port, timeout=60)
        answer = A_ASSOCIATE_AC()
        answer.decode(peer.send(associate_request(contexts=contexts, user_items=user_items)).receive())
        assert len(answer.presentation_context) == len(proposed)
        for one in answer.presentation_context:
            pair = proposed[(int(one.presentation_context_id) - 1) // 2]
            if one.result == 0:
                assert one.transfer_syntax == pair[1]
                found.add(pair)
        peer.release()
    return found


def test_page_has_tables() -> None:
    assert len(STORAGE) > 50
    assert len(APART) == 4
    assert {name: len(uids) > 1 for name, uids in SYNTAXES.items()} == {"A": True, "B": True}
    assert len(ALL_CLASSES) > 5 * len(CLASSES)
    assert set().union(*SYNTAXES.values()) < ALL_SYNTAXES


def test_plain_association_accepts_what_the_page_lists_and_nothing_else(node: ListenerProcess) -> None:
    fixed = [(CT, EXPLICIT)]  # a proposal with a storage class: served by the loop
    listed = {pair for pair in LISTED if pair[0] not in APART}
    assert accepted(node.port, LISTED | OTHERS, fixed=fixed) == listed


def test_association_with_extended_negotiation_accepts_the_same_and_what_is_served_apart(
    node: ListenerProcess,
) -> None:
    assert accepted(node.port, LISTED | OTHERS, user_items=ROLE_SELECTION) == LISTED


def test_notices_and_commitment_are_accepted_without_a_storage_class(node: ListenerProcess) -> None:
    apart = {pair for pair in LISTED if pair[0] in APART}
    for uid in APART:
        assert accepted(node.port, {(uid, syntax) for syntax in ALL_SYNTAXES}) == {
            pair for pair in apart if pair[0] == uid
        }
