"""A storage SCU of our own: sends found objects as they are and says what became of each.

Every pair of SOP class and transfer syntax gets a presentation context of its own, so that nothing is ever
converted on the way; 128 fit into one association (PS3.8 9.3.1), so a study of more takes several.
"""

import io
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import build_context
from pynetdicom.status import code_to_category

from config.errors import PrereadError
from preread.demo.found import Found, FoundStudy, Unsendable

CONTEXTS_MAX = 128  # PS3.8 9.3.2.2: odd identifiers 1 to 255
ANSWER_SECONDS = 60.0


class SendingFailed(PrereadError):
    """The peer cannot be reached or does not let us in."""


@dataclass(frozen=True)
class Address:
    """An application entity and where it listens."""

    ae_title: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.ae_title}@{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> "Address":
        """From `AE@host:port`.

        Raises
        ------
        ValueError
            `text` has another form; says which form is expected.
        """
        ae_title, _, place = text.partition("@")
        host, _, port = place.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not (0 < len(ae_title) <= 16 and host and port.isdecimal() and 0 < int(port) < 65536):
            raise ValueError(f"{text!r} is not AE@host:port, for example PACS1@10.1.2.3:104")
        return cls(ae_title, host, int(port))


@dataclass
class Sending:
    """What became of one study.

    `sent` counts objects answered with success or warning, `acknowledged` are their SOP Instance UIDs;
    `last_acknowledged_at` is in seconds since 1970, None before the first.
    """

    study: FoundStudy
    sent: int = 0
    acknowledged: set[str] = field(default_factory=set)
    last_acknowledged_at: float | None = None
    refused: list[Unsendable] = field(default_factory=list)


def send_study(
    study: FoundStudy,
    to: Address,
    *,
    calling_ae: str,
    on_progress: Callable[[Sending], None] = lambda sending: None,
) -> Sending:
    """Send one study; objects the peer refuses are listed in the answer and the rest goes on.

    Raises
    ------
    SendingFailed
        No association: the peer is away, or refuses us; names the peer and the remedy.
    """
    sending = Sending(study)
    for group in _groups(study.objects):
        waiting = deque(group)
        while waiting:
            # Anew after an object that made the peer abort: the rest goes on.
            association = _associate(waiting, to, calling_ae)
            try:
                while waiting:
                    found = waiting.popleft()
                    refusal = _send_one(association, found, sending)
                    if refusal is not None:
                        sending.refused.append(Unsendable(found.name, refusal))
                    on_progress(sending)
                    if association.accepted_contexts and not association.is_established:
                        break
            finally:
                if association.is_established:
                    association.release()
    return sending


def _groups(objects: Sequence[Found]) -> Iterator[list[Found]]:
    """Runs of objects that need at most 128 different contexts."""
    group: list[Found] = []
    pairs: set[tuple[str, str]] = set()
    for found in objects:
        pair = (found.sop_class, found.transfer_syntax)
        if pair not in pairs and len(pairs) == CONTEXTS_MAX:
            yield group
            group, pairs = [], set()
        pairs.add(pair)
        group.append(found)
    if group:
        yield group


def _associate(group: Iterable[Found], to: Address, calling_ae: str) -> Association:
    ae = AE(ae_title=calling_ae)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ANSWER_SECONDS
    ae.connection_timeout = 10.0
    pairs = dict.fromkeys((found.sop_class, found.transfer_syntax) for found in group)
    contexts = [build_context(sop_class, syntax) for sop_class, syntax in pairs]
    handlers: list[Any] = [(evt.EVT_CONN_OPEN, send_at_once)]
    association = ae.associate(
        to.host, to.port, contexts=contexts, ae_title=to.ae_title, evt_handlers=handlers
    )
    if association.is_established:
        return association
    if association.is_rejected:
        raise SendingFailed(
            f"refused the association of {calling_ae}",
            where=str(to),
            remedy="Allow this AE title and address there, or correct the called AE title.",
        )
    if any(context.result is not None for context in association.rejected_contexts):
        # pynetdicom ends an association without one accepted context: each object is refused, not we.
        return association
    raise SendingFailed(
        "cannot be reached", where=str(to), remedy="Check host, port and that the archive runs."
    )


def send_at_once(event: "evt.Event") -> None:
    """Switch off Nagle's algorithm: with delayed acknowledgements it costs 40 ms for each object."""
    transport = event.assoc.dul.socket
    if transport is not None and transport.socket is not None:
        transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _send_one(association: Association, found: Found, sending: Sending) -> str | None:
    """Send one object. Returns why the peer does not have it now, None when it has."""
    context_id = next(
        (
            context.context_id
            for context in association.accepted_contexts
            if (context.abstract_syntax, context.transfer_syntax[0])
            == (found.sop_class, found.transfer_syntax)
        ),
        None,
    )
    if context_id is None:
        return "the peer does not take this SOP class in this transfer syntax"
    if not association.is_established:
        return "the peer ended the association"
    try:
        status = _store(association, context_id, found)
    except (ValueError, TypeError) as error:  # pynetdicom refuses values that no peer could read
        return f"it cannot be put into a C-STORE request ({error})"
    except OSError as error:
        return f"it cannot be read ({error})"
    if status is None:
        return "the peer did not answer"
    if code_to_category(status) in ("Success", "Warning"):
        sending.sent += 1
        sending.acknowledged.add(found.sop_uid)
        sending.last_acknowledged_at = time.time()
        return None
    return f"the peer answered 0x{status:04X}"


def _store(association: Association, context_id: int, found: Found) -> int | None:
    """One C-STORE of the encoded dataset as it is; the status, None without an answer.

    pynetdicom's own `send_c_store` wants file meta that agrees with the dataset and may encode anew; what is
    sent here must be what lies in the file.
    """
    request = C_STORE()
    request.MessageID = 1
    request.Priority = 2
    request.AffectedSOPClassUID = found.sop_class
    request.AffectedSOPInstanceUID = found.sop_uid
    request.DataSet = io.BytesIO(found.read())
    # As pynetdicom's send_* do: the reactor must not take the answer from under us.
    association._reactor_checkpoint.clear()
    while not association._is_paused and association.is_established:
        time.sleep(0.0001)
    try:
        association.dimse.send_msg(request, context_id)
        _, answer = association.dimse.get_msg(block=True)
    finally:
        association._reactor_checkpoint.set()
    status = getattr(answer, "Status", None)
    if status is None:
        association.abort()
        return None
    return int(status)
