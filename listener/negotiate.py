"""Answer an A-ASSOCIATE-RQ: plain proposals with pynetdicom's negotiation, unusual ones are for `unusual`.

Plain is a request with nothing but a maximum length and the implementation's name in its user information:
what scanners and PACS send. Answers are cached by the bytes of the request, since a sender repeats its own.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import PresentationContext, build_context, negotiate_as_acceptor

from config.identity import IMPLEMENTATION_UID, IMPLEMENTATION_VERSION
from listener.contexts import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    SEPARATE_CLASSES,
    SEPARATE_SYNTAXES,
    STORAGE_CLASSES,
    TRANSFER_SYNTAXES,
    VERIFICATION,
    VERIFICATION_SYNTAXES,
    name_of,
)
from listener.pdu import (
    ABORT_INVALID,
    REJECT_APPLICATION_CONTEXT,
    AssociateRequest,
    PeerError,
    ProposedContext,
    read_request,
)

CACHED_MAX = 256
NAMED_SYNTAXES_MAX = 8  # in the line that says what was refused
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"  # PS3.7 annex A.2.1
RESPONSE_BYTES_MAX = 512  # of any PDU we send on a plain association
_PLAIN_USER_ITEMS = frozenset((0x51, 0x52, 0x55))  # maximum length, implementation UID, version name


@dataclass(frozen=True, slots=True)
class AcceptedContext:
    """One accepted presentation context."""

    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """A plain proposal accepted: the A-ASSOCIATE-AC and what it agrees on.

    `refused` names the SOP classes and transfer syntaxes that were proposed and are not taken.
    """

    answer: bytes
    contexts: Mapping[int, AcceptedContext]
    refused: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A proposal that no association can come of, with the A-ASSOCIATE-RJ to send."""

    answer: tuple[int, int, int]
    reason: str


@dataclass(frozen=True, slots=True)
class Unusual:
    """A proposal for `unusual`: role selection, user identity, extended negotiation and the like."""


Negotiation = Accepted | Rejected | Unusual


class Negotiator:
    """Answers requests; the admission of the caller is not its business."""

    def __init__(self, *, pdu_bytes_max: int) -> None:
        self._pdu_bytes_max = pdu_bytes_max
        self._supported = {str(context.abstract_syntax): context for context in supported_contexts()}
        self._cached: OrderedDict[bytes, Negotiation] = OrderedDict()

    def answer(self, request: bytes) -> Negotiation:
        """The answer to a whole A-ASSOCIATE-RQ. Raises `PeerError`."""
        cached = self._cached.get(request)
        if cached is not None:
            self._cached.move_to_end(request)
            return cached
        found = self._negotiate(read_request(request))
        self._cached[request] = found
        if len(self._cached) > CACHED_MAX:
            self._cached.popitem(last=False)
        return found

    def _negotiate(self, request: AssociateRequest) -> Negotiation:
        if request.application_context != APPLICATION_CONTEXT:
            return Rejected(REJECT_APPLICATION_CONTEXT, "the application context is not DICOM's")
        small = 0 < request.pdu_bytes_max < RESPONSE_BYTES_MAX
        if small or not request.user_items <= _PLAIN_USER_ITEMS or _is_separate(request):
            return Unusual()
        try:
            results = [self._result(context) for context in request.contexts]
            answer = self._encode(request, results)
        except ValueError:  # pynetdicom's view of a UID or of an AE title
            raise PeerError(
                "a UID or AE title in an association request is none", abort_reason=ABORT_INVALID
            ) from None
        accepted = {
            context.context_id: AcceptedContext(str(context.abstract_syntax), str(context.transfer_syntax[0]))
            for context in results
            if context.result == 0 and context.context_id is not None
        }
        return Accepted(answer, accepted, _refused(request, accepted))

    def _result(self, proposed: ProposedContext) -> PresentationContext:
        """Accept the peer's first transfer syntax that we know: most likely how the object is kept there.

        Of the two native ones it is the explicit one, in which private elements keep their VR.
        """
        known = [syntax for syntax in proposed.transfer_syntaxes if syntax in TRANSFER_SYNTAXES]
        if known[:1] == [IMPLICIT_VR_LITTLE_ENDIAN] and EXPLICIT_VR_LITTLE_ENDIAN in known:
            known = [EXPLICIT_VR_LITTLE_ENDIAN]
        # Syntaxes nobody knows are not looked at further: a request of 64 KiB may name thousands of them.
        context = build_context(proposed.abstract_syntax, known or list(proposed.transfer_syntaxes[:1]))
        context.context_id = proposed.context_id
        ours = self._supported.get(proposed.abstract_syntax)
        wanted = [syntax for syntax in known if ours and syntax in ours.transfer_syntax]
        supported = (
            [build_context(proposed.abstract_syntax, wanted)] if wanted else list(self._supported.values())
        )
        return negotiate_as_acceptor([context], supported)[0][0]

    def _encode(self, request: AssociateRequest, results: list[PresentationContext]) -> bytes:
        answer = A_ASSOCIATE()
        answer.application_context_name = APPLICATION_CONTEXT
        answer.calling_ae_title, answer.called_ae_title = request.calling_ae, request.called_ae
        answer.result, answer.result_source = 0, 1
        answer.presentation_context_definition_results_list = results
        length = MaximumLengthNotification()
        length.maximum_length_received = self._pdu_bytes_max
        implementation = ImplementationClassUIDNotification()
        implementation.implementation_class_uid = UID(IMPLEMENTATION_UID)
        version = ImplementationVersionNameNotification()
        version.implementation_version_name = IMPLEMENTATION_VERSION
        answer.user_information = [length, implementation, version]
        pdu = A_ASSOCIATE_AC()
        pdu.from_primitive(answer)
        return bytes(pdu.encode())


def separate_contexts() -> list[PresentationContext]:
    """Notices and storage commitment; for `unusual` alone, plain associations know no N-services."""
    return [build_context(uid, list(SEPARATE_SYNTAXES)) for uid in SEPARATE_CLASSES]


def supported_contexts() -> list[PresentationContext]:
    """Every SOP class we accept with its transfer syntaxes, in pynetdicom's form."""
    storage = [build_context(uid, list(TRANSFER_SYNTAXES)) for uid in STORAGE_CLASSES]
    return [*storage, build_context(VERIFICATION, list(VERIFICATION_SYNTAXES))]


def _is_separate(request: AssociateRequest) -> bool:
    """Whether a peer wants to notify or asks for commitment, and proposes no storage class.

    Who proposes everything it knows most likely sends images: those must not wait for one of few threads.
    """
    proposed = {context.abstract_syntax for context in request.contexts}
    return not proposed.isdisjoint(SEPARATE_CLASSES) and proposed.isdisjoint(STORAGE_CLASSES)


def _refused(request: AssociateRequest, accepted: Mapping[int, AcceptedContext]) -> tuple[str, ...]:
    """What was proposed and not accepted in any context, by name."""
    proposed = (
        (context.context_id, context.abstract_syntax, context.transfer_syntaxes)
        for context in request.contexts
    )
    taken = {context_id: context.abstract_syntax for context_id, context in accepted.items()}
    return refused_names(proposed, taken)


def refused_names(
    proposed: Iterable[tuple[int, str, Sequence[str]]], accepted: Mapping[int, str]
) -> tuple[str, ...]:
    """PURE. The SOP classes, with transfer syntaxes, that were accepted in no presentation context.

    Parameters
    ----------
    proposed : identifier, abstract syntax and transfer syntaxes of each context
    accepted : abstract syntax by identifier
    """
    served = set(accepted.values())
    names = []
    for context_id, abstract_syntax, transfer_syntaxes in proposed:
        if context_id in accepted or abstract_syntax in served:
            continue
        name = name_of(abstract_syntax)
        if abstract_syntax in STORAGE_CLASSES:
            syntaxes = [name_of(syntax) for syntax in transfer_syntaxes[:NAMED_SYNTAXES_MAX]]
            more = ["others"] if len(transfer_syntaxes) > NAMED_SYNTAXES_MAX else []
            name += " in " + ", ".join(syntaxes + more)
        names.append(name)
    return tuple(dict.fromkeys(names))


def refused_words(names: Sequence[str]) -> tuple[str, str]:
    """PURE. What was refused in a negotiation, and what can be done about it."""
    # One line, not one per class: many senders propose everything they know and send little of it.
    reason = f"proposed and not accepted ({len(names)}): {'; '.join(names)}"
    return reason, "Nothing to do, unless the peer is to send these: they are not stored."
