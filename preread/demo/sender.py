"""Send found objects as they are, as a scanner or an archive would, and say what became of each.

Every pair of SOP class and transfer syntax gets a presentation context of its own, so that nothing is ever
converted on the way; 128 fit into one association (PS3.8 9.3.1), so a study of more takes several.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from pynetdicom.association import Association

from config.settings import PeerSettings
from pipeline.outbound.association import CONTEXTS_MAX, Outgoing, associated, store
from preread.demo.found import Found, FoundStudy, Unsendable

ANSWER_SECONDS = 60.0


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
    PeerUnreachable
        No association: the peer is away, or refuses us; names the peer and the remedy.
    """
    sending = Sending(study)
    peer = PeerSettings(name="receiver", ae_title=to.ae_title, host=to.host, port=to.port)
    for group in _groups(study.objects):
        waiting = deque(group)
        while waiting:
            # Anew after an object that made the peer abort: the rest goes on.
            kinds = [(found.sop_class, found.transfer_syntax) for found in waiting]
            with associated(peer, kinds, calling_ae=calling_ae, answer_seconds=ANSWER_SECONDS) as association:
                while waiting:
                    found = waiting.popleft()
                    refusal = _offer(association, found, sending)
                    if refusal is not None:
                        sending.refused.append(Unsendable(found.name, refusal))
                    on_progress(sending)
                    if association.accepted_contexts and not association.is_established:
                        break
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


def _offer(association: Association, found: Found, sending: Sending) -> str | None:
    """Send one object. Returns why the peer does not have it now, None when it has."""
    try:
        content = found.read()
        answer = store(association, Outgoing(found.sop_class, found.sop_uid, found.transfer_syntax, content))
    except (ValueError, TypeError) as error:  # pynetdicom refuses values that no peer could read
        return f"it cannot be put into a C-STORE request ({error})"
    except OSError as error:
        return f"it cannot be read ({error})"
    if answer.status != "delivered":
        return answer.detail
    sending.sent += 1
    sending.acknowledged.add(found.sop_uid)
    sending.last_acknowledged_at = time.time()
    return None
