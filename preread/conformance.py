"""The conformance statement in the order of PS3.2; its tables and figures are those of the code.

tests/integration/test_conformance.py reads the tables of the written page and holds the running listener to
them.
"""

from collections.abc import Iterable, Mapping

from config.identity import IMPLEMENTATION_UID, IMPLEMENTATION_VERSION
from config.settings import Branch, DeliverySettings, ListenerSettings, StowSettings
from db.notices import KEPT_MAX, KEPT_UNKNOWN_MAX
from listener.commitment import REFERENCES_MAX
from listener.contexts import (
    COMMITMENT,
    COMMITMENT_INSTANCE,
    IMAGE_CLASSES,
    NOTICE_CLASSES,
    OBJECT_CLASSES,
    SEPARATE_CLASSES,
    SEPARATE_SYNTAXES,
    TRANSFER_SYNTAXES,
    VERIFICATION,
    name_of,
)
from listener.notices import NAMED_MAX
from listener.pdu import CONTEXTS_MAX
from listener.recorder import SAME_ASSOCIATION_SECONDS
from listener.statuses import FAILURES, STATUSES
from pipeline.results.seg import SEG_CLASS
from pipeline.results.sr import SR_CLASS_UIDS

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"

# The two sets of transfer syntaxes, as the tables of SOP classes name them.
OBJECT_SET, MESSAGE_SET = "A", "B"

SECURITY = """\
## 7 Security

DICOM over TLS, where `tls.port` is set: BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile
(PS3.15 B.12), as acceptor and, for peers with `tls`, as requestor; port 2762 is recommended. TLS 1.2 and
1.3, certificates on both sides. Cipher suites of TLS 1.2: ECDHE with AES-GCM or ChaCha20-Poly1305; of TLS
1.3: those of the OpenSSL in use. Certificates are verified against `tls.trusted`, and against
`peers[].certificates` where the AE title is bound; revocation is not asked. A failed handshake gets a TLS
alert, a bound AE title with another certificate, or without TLS, an A-ASSOCIATE-RJ (1, 1, 3).

Plain DICOM is taken from other machines only with `listener.plain`. STOW-RS beyond loopback: HTTPS and a
bearer token for each peer. User identity negotiation (PS3.7 D.3.3.7) is not used to admit anybody. Objects
are not encrypted, signed or de-identified; what is stored is what came.
"""


def conformance_page() -> str:
    """The whole statement, without the head of generated pages."""
    return "\n".join(
        (
            _introduction(),
            _implementation_model(),
            _network_entities(),
            _services(),
            _web_services(),
            _profiles(),
            _configuration(),
            SECURITY,
        )
    )


def _introduction() -> str:
    return f"""\
# Conformance

In the order of PS3.2, without what does not apply. What is written here of classes and transfer syntaxes is
proved by a test against the running listener: each of them is accepted, and nothing else is.

## 1 Introduction

preread receives studies, reads them with neural networks and sends segmentation, structured report and
summary picture back to archives. It stores what it receives for as long as `retention` says; it is not an
archive and offers neither query nor retrieval.

| service | as SCP | as SCU |
| --- | --- | --- |
| Verification | yes | `preread doctor` |
| Storage | images and other objects | results |
| Modality Performed Procedure Step, Instance Availability Notification | yes | no |
| Unified Procedure Step - Push | as statements of input; no step is performed | no |
| Storage Commitment Push Model | peers with `may_ask_commitment` | no |
| Study Root Query/Retrieve, FIND | no | peers with `ask_counts` |
| Study Root Query/Retrieve, MOVE or GET | no | peers with `fetch_missing` |
| STOW-RS (origin server) | where `stow.port` is set | no |

Implementation class UID `{IMPLEMENTATION_UID}`, implementation version name
`{IMPLEMENTATION_VERSION.split("_")[0]}_` and the version.
"""


def _implementation_model() -> str:
    return """\
## 2 Networking: implementation model

One application entity, `node.ae_title`, does everything; two processes act for it. The *listener* accepts
associations, and calls peers to ask for counts, to fetch what is missing and to report storage commitment.
The *worker* calls archives to store results. No real-world activity precedes another: each peer is served as
it comes.

A C-STORE, notice or request for commitment is answered 0x0000 only when its bytes and the record that finds
them are synced; what is refused leaves nothing behind. Datasets are stored and later read as they came: no
attribute is coerced.
"""


def _network_entities() -> str:
    listener = ListenerSettings()
    return f"""\
## 3 Networking: associations

### 3.1 General

The application context is DICOM's (1.2.840.10008.3.1.1.1). Up to {CONTEXTS_MAX} presentation contexts are
read of a proposal. Asynchronous operations are not negotiated: one operation at a time. Defaults are shown
in brackets.

| | |
| --- | --- |
| maximum PDU length | `listener.pdu_bytes` ({listener.pdu_bytes}) |
| associations at a time | `listener.connections_max` ({listener.connections_max}) |
| of one address, of one AE title | `listener.connections_per_address_max` \
({listener.connections_per_address_max}), `listener.associations_per_ae_max` \
({listener.associations_per_ae_max}) |
| with extended negotiation, notices or commitment | `listener.unusual_associations_max` \
({listener.unusual_associations_max}) |
| time to complete a request, silence, pause in a message | `listener.request_seconds` \
({listener.request_seconds:g} s), `listener.idle_seconds` ({listener.idle_seconds:g} s), \
`listener.stall_seconds` ({listener.stall_seconds:g} s) |
| largest instance | `listener.instance_gib_max` ({listener.instance_gib_max:g} GiB) |

### 3.2 Acceptance

An association is rejected when its calling AE title and address are no peer's, when it calls another AE
title, when its application context is not DICOM's, and when all places are taken; result, source and reason
of each stand in [refusals](refusals.md#when-an-association-is-rejected). Of the transfer syntaxes of a
presentation context, the first that is taken is accepted, and Explicit VR Little Endian rather than Implicit
VR Little Endian; on associations with extended negotiation, the first by the order of section 4.1. SOP
classes that are not listed in section 4 are refused with result 3, those listed of which no proposed
transfer syntax is taken with result 4; both are named among the refusals on the page.

### 3.3 Initiation

| to | for | when |
| --- | --- | --- |
| `results.send_to`, `peers[].send_to` | Storage of results | a job ends |
| peers with `ask_counts` | Study Root FIND | a study of theirs may be whole |
| peers with `fetch_missing` | Study Root MOVE or GET | images of a study of theirs are stated and not here |
| who asked for storage commitment | N-EVENT-REPORT | its own association is closed, or gave no answer |
| any peer | Verification | `preread doctor` |

One association at a time to each of them, released at its end.

### 3.4 Extended negotiation

SCP/SCU role selection (PS3.7 D.3.3.4): who calls is SCU of every SOP class; that is answered when roles are
proposed, and a context for which the caller proposes to be SCP alone is refused with result 1. When we call
to report storage commitment, or to fetch by GET, we propose to be SCP, and go on only if that is accepted.
User identity: taken, not used. SOP class (common) extended negotiation and asynchronous operations: not
answered.
"""


def _services() -> str:
    storage = {**IMAGE_CLASSES, **OBJECT_CLASSES}
    assert not storage.keys() & SEPARATE_CLASSES.keys()
    results = [SEG_CLASS, *SR_CLASS_UIDS.values(), SECONDARY_CAPTURE]
    return f"""\
## 4 SOP classes

### 4.1 Transfer syntaxes

Set {OBJECT_SET}, of objects:

{_table("name", TRANSFER_SYNTAXES)}
Set {MESSAGE_SET}, of messages:

{_table("name", {uid: name_of(uid) for uid in SEPARATE_SYNTAXES})}
Others are refused, Deflated Explicit VR Little Endian and Explicit VR Big Endian by name among them.

### 4.2 Verification as SCP

{_classes({VERIFICATION: "Verification"}, MESSAGE_SET)}
### 4.3 Storage as SCP

Level 2 (full): every element is kept. Images may be read by a model.

{_classes(IMAGE_CLASSES, OBJECT_SET)}
Other objects are stored and shown, and never the input of a model.

{_classes(OBJECT_CLASSES, OBJECT_SET)}
The same instance again is answered 0x0000. Other bytes under a SOP Instance UID that is held are put aside,
shown as a conflict and answered 0x0000. Warnings (coercion, elements discarded) are never given. Refusals:

{_statuses("C-STORE")}
### 4.4 Notices as SCP

What peers state of a study, to know when it is whole ([operating](operating.md)): N-CREATE and N-SET of
Modality Performed Procedure Step, N-CREATE of Instance Availability Notification, N-CREATE, N-GET and
N-ACTION of Unified Procedure Step - Push.

{_classes(NOTICE_CLASSES, MESSAGE_SET)}
They are accepted on associations that propose no storage class. An N-SET of an unknown procedure step is
kept, one of a final step changes nothing; both are answered 0x0000, as is a repeated N-CREATE. Of a step
about several studies nothing is concluded; a notice names at most {NAMED_MAX:,} instances. Nothing of the
patient is kept.

Of a **Unified Procedure Step** the Input Information Sequence is kept as a statement of what exists: UIDs of
study, series and instances. Input Readiness State READY makes it a list that a study is held against, if
each of its items has a Referenced SOP Sequence; UNAVAILABLE and READY with an item without one prove nothing;
INCOMPLETE says that more will come. Input of several studies proves nothing of any. preread is not the
performer:

- *N-CREATE* needs Procedure Step State SCHEDULED, Input Readiness State and Input Information Sequence; it is
  answered 0x0000 when it is durable. Other attributes are neither checked nor kept. Repeated by the same
  AE title with the same UID it takes the place of the first, unless that was cancelled: then it changes
  nothing, and is answered 0x0000.
- *N-GET*, by the AE title that created it, returns SOP Class UID, SOP Instance UID, Procedure Step State and,
  until it is cancelled, Input Readiness State. Other attributes, though the standard asks an SCP to keep
  them, are not kept; when any is asked for, and when none is named, the answer is the warning 0x0001. The
  state is SCHEDULED, or CANCELED; never IN PROGRESS or COMPLETED, whatever became of the study.
- *N-ACTION*, action type 2, request to cancel, by the AE title that created it: the step is CANCELED and its
  list is withdrawn; 0xB304 if it was before. Other actions are refused: nobody can subscribe or claim it.
- It is known until `retention` drops its study; of one AE title and study, the last {KEPT_MAX} notices are
  kept, of studies that are not here the last {KEPT_UNKNOWN_MAX:,}.

The Pull, Watch, Event and Query classes are not accepted; C-FIND and N-SET of a UPS are refused. Refusals,
and the two warnings:

{_statuses("notice")}
### 4.5 Storage Commitment as SCP

{_classes({COMMITMENT: SEPARATE_CLASSES[COMMITMENT]}, MESSAGE_SET)}
It is accepted on associations that propose no storage class; the well-known instance is
{COMMITMENT_INSTANCE}.

N-ACTION, action type 1, with 1 to {REFERENCES_MAX:,} references, is answered 0x0000 when the request is
durable. It is judged when everything acknowledged before it has its rows, by what is held at that moment.
Storage media are ignored, Retrieve AE Title is not sent.

**For how long:** an instance that was reported as held stays until `retention` drops its study:
`retention.days` after its analysis ended, earlier when the disk is fuller than
`retention.disk_percent_max`. It can not be retrieved by DICOM. A sender that deletes its own copy must ask
the archive instead; `may_ask_commitment` of a peer is therefore off unless set.

N-EVENT-REPORT, event type 1 or 2, is sent on the association of the request if that is still open, within
{SAME_ASSOCIATION_SECONDS:g} s of the judgement; else on an association to the host and port of the peer. That
is tried `delivery.tries_max` times ({DeliverySettings().tries_max}) with growing waits; then the report is
named among the refusals and parked until the listener starts again. Success and warnings are taken as
delivered. A report may arrive twice.

Failure reasons:

{_failures()}
Refusals of the N-ACTION:

{_statuses("commitment")}
### 4.6 As SCU

| SOP class | UID | service | transfer syntaxes |
| --- | --- | --- | --- |
{_rows((name_of(uid), uid, "Storage", "as stored: Explicit VR Little Endian") for uid in results)}
| Verification | {VERIFICATION} | C-ECHO | Implicit VR Little Endian |
| Study Root Query/Retrieve - FIND | {STUDY_ROOT_FIND} | C-FIND, STUDY and SERIES | set {MESSAGE_SET} |
| Study Root Query/Retrieve - MOVE | {STUDY_ROOT_MOVE} | C-MOVE, SERIES and IMAGE | set {MESSAGE_SET} |
| Study Root Query/Retrieve - GET | {STUDY_ROOT_GET} | C-GET, SERIES and IMAGE | set {MESSAGE_SET} |

On the association of a C-GET we are SCP of the storage classes of 4.3, by role selection, with set
{OBJECT_SET}. What comes on it, or by C-MOVE, is judged and made durable like every other C-STORE.

Status of a C-STORE of ours: success and warnings end the delivery; 0x0122, or a context that is not accepted,
parks it; everything else is tried again as `delivery` says, then parked.
"""


def _web_services() -> str:
    return f"""\
### 4.7 STOW-RS as origin server

PS3.18 10.5, where `stow.port` is set: `POST /studies` and `POST /studies/{{study}}`, of the same storage
classes and transfer syntaxes. Bodies: one `application/dicom`, or several as `multipart/related`; metadata
and bulk data apart are not taken. Answers: `application/dicom+json` (default) or `application/dicom+xml`.
An instance counts as stored only when it is synced. Requests of at most `stow.request_gib_max`
({StowSettings().request_gib_max:g} GiB). Failure reasons:

{_statuses("STOW-RS")}
HTTP statuses stand in [refusals](refusals.md#http-status-of-stow-rs).
"""


def _profiles() -> str:
    return """\
## 5 Communication profiles, extensions, character sets

TCP/IP, IPv4 and IPv6, on any network the host has; `TCP_NODELAY` is set. No media interchange. No standard
extended, specialized or private SOP class, and no private transfer syntax. Private attributes are kept and
not read.

Text is read in the Specific Character Set of its dataset, all of PS3.3 C.12.1.1.2; what cannot be decoded
is replaced for the page, never in what is stored. Results are written in ISO_IR 192.
"""


def _configuration() -> str:
    node_port = _default(ListenerSettings, "port")
    return f"""\
## 6 Configuration

AE title `node.ae_title`, address `listener.host` and port `listener.port` ({node_port}). Each peer has AE
title, host and port, and addresses it may call from. All settings, with defaults and bounds:
[settings](settings.md).
"""


def _default(branch: type[Branch], name: str) -> object:
    return branch.model_fields[name].default


def _rows(cells: Iterable[Iterable[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _table(what: str, names: Mapping[str, str]) -> str:
    return f"| {what} | UID |\n| --- | --- |\n" + _rows((name, uid) for uid, name in names.items()) + "\n"


def _classes(names: Mapping[str, str], syntaxes: str) -> str:
    head = "| SOP class | UID | our role | transfer syntaxes |\n| --- | --- | --- | --- |\n"
    return head + _rows((name, uid, "SCP", f"set {syntaxes}") for uid, name in names.items()) + "\n"


def _statuses(service: str) -> str:
    known = ((status, answer) for status, answer in STATUSES.items() if service in answer.services)
    rows = _rows((f"0x{status:04X}", answer.when) for status, answer in known)
    return f"| status | when |\n| --- | --- |\n{rows}\n"


def _failures() -> str:
    rows = _rows((f"0x{reason:04X}", answer.when) for reason, answer in FAILURES.items())
    return f"| reason | when |\n| --- | --- |\n{rows}\n"
