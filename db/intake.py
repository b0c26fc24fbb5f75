"""What arrives becomes rows: instances, series, studies, revisions, conflicts.

The spool is the truth and these rows are derived from it, so recording the same records again (a replay after
a crash, a sender's repeat) changes nothing. Attributes used: PatientID, PatientName, PatientBirthDate,
PatientSex, AccessionNumber, StudyDate, StudyTime, StudyDescription, Modality, BodyPartExamined,
SeriesDescription, SeriesNumber, InstanceNumber.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from config import kill_points
from db import rows, tables
from db.closing import close_study, receiving_studies, requeue_study
from db.engine import Database, hint_on_commit, now_in
from db.records import BatchOutcome, Location, Mark, ReceivedInstance
from db.refusals import list_refused, refuse_association
from db.segments import read_mark, set_mark, use_segments
from db.studies import locked_study_by_uid, open_revision
from db.timeline import insert_once, note

__all__ = [
    "close_study",
    "list_refused",
    "read_mark",
    "receiving_studies",
    "record_batch",
    "refuse_association",
    "rehearse_batch",
    "requeue_study",
]

STUDY, SERIES, INSTANCE, CONFLICT = tables.STUDY, tables.SERIES, tables.INSTANCE, tables.CONFLICT

LOOKUP_MAX = 500  # parameters of one query
ATTRIBUTE_LENGTH_MAX = 1024
_INTEGER_MAX = 2**31 - 1  # PS3.5 6.2, VR IS
_STUDY_ATTRIBUTES = {
    "patient_id": "PatientID",
    "patient_name": "PatientName",
    "birth_date": "PatientBirthDate",
    "sex": "PatientSex",
    "accession": "AccessionNumber",
    "study_date": "StudyDate",
    "study_time": "StudyTime",
    "description": "StudyDescription",
    "body_part": "BodyPartExamined",
}
_ONLY_OWN = "Only results that preread made itself came back; there is no image of this study here."


def _no_bytes(location: Location) -> str | None:
    raise ValueError(f"there is no digest of what lies at {location}, and no way to make one")


def record_batch(
    db: Database,
    items: Sequence[ReceivedInstance],
    mark: Mark | None,
    *,
    digest_of: Callable[[Location], str | None] = _no_bytes,
) -> BatchOutcome:
    """Record durable instances and how far the log was applied, in one transaction.

    A new image for a study that is no longer receiving opens its next revision. Our own results are kept as
    an echo and neither open a revision nor count. The same SOP Instance UID with other bytes is kept aside.

    Parameters
    ----------
    mark : where a replay starts after this batch; it lies behind all of `items`
    digest_of : SHA-256 of stored bytes, for instances that came again before theirs was made
    """
    kill_points.reached("K6")
    digest_of = _made_before(db, items, digest_of)
    with db.write() as conn:
        recording = _Recording(conn, items, digest_of)
        for item in items:
            recording.add(item)
        recording.write()
        if mark is not None:
            set_mark(conn, mark)
            use_segments(conn, [Location(mark.store, mark.segment, mark.epoch, mark.offset, 0)])
        kill_points.reached("K7")
    kill_points.reached("K8")
    return BatchOutcome(recording.new, recording.repeated, recording.conflicts)


class _RehearsedError(Exception):
    """Ends a rehearsal: nothing of it stays."""


def rehearse_batch(db: Database) -> None:
    """Record a made-up instance and take it back: statements are compiled before the first study comes."""
    nowhere = Location("rehearsal", 0, 0, 0, 0)
    made_up = ReceivedInstance(
        *("2.25.1", "2.25.2", "2.25.3", "2.25.4", "2.25.5", "", "", "", 0.0, nowhere, ""),
        own=False,
        is_image=True,
    )
    try:
        with db.write() as conn:
            recording = _Recording(conn, [made_up], _no_bytes)
            recording.add(made_up)
            recording.write()
            set_mark(conn, Mark("rehearsal", 0, 0, 0))
            raise _RehearsedError
    except _RehearsedError:
        return


def _made_before(
    db: Database, items: Sequence[ReceivedInstance], digest_of: Callable[[Location], str | None]
) -> Callable[[Location], str | None]:
    """`digest_of` that has read what came again already: large objects must not be read with rows locked."""
    came = {tables.plain(item.sop_uid): item for item in items if not item.sha256}
    made: dict[Location, str | None] = {}
    with db.read() as conn:
        for uids in _chunks(came):
            for row in conn.execute(sa.select(INSTANCE).where(INSTANCE.c.sop_uid.in_(uids))).mappings():
                kept, again = rows.location(row), came[row["sop_uid"]].location
                if kept != again:
                    made[again] = digest_of(again)
                    made[kept] = row["sha256"] or digest_of(kept)
    return lambda location: made[location] if location in made else digest_of(location)


@dataclass
class _OpenSeries:
    """A series a batch adds to."""

    id: int
    added: int = 0
    last_received_at: float = 0.0
    values: dict[str, Any] = field(default_factory=dict)


class _Recording:
    """One batch on its way into the tables: looks up at the start, decides in order, writes at the end."""

    def __init__(
        self,
        conn: sa.Connection,
        items: Sequence[ReceivedInstance],
        digest_of: Callable[[Location], str | None],
    ) -> None:
        self.new = self.repeated = self.conflicts = 0
        self._conn, self._items, self._digest_of = conn, items, digest_of
        # In the order of their UIDs, so that two recorders of one database never wait for each other.
        uids = sorted({tables.plain(item.study_uid) for item in items})
        first = {tables.plain(item.study_uid): item for item in reversed(items)}
        self._studies = {uid: _study_for(conn, first[uid]) for uid in uids}
        self._changed: dict[str, dict[str, Any]] = defaultdict(dict)
        self._series = self._known_series()
        self._known, self._elsewhere = self._known_instances()
        self._aside = self._known_conflicts()
        self._instance_rows: list[dict[str, Any]] = []
        self._conflict_rows: list[dict[str, Any]] = []

    def _known_series(self) -> dict[tuple[int, str], _OpenSeries]:
        columns = (SERIES.c.study_id, SERIES.c.series_uid, SERIES.c.id, SERIES.c.last_received_at)
        return {
            (row.study_id, row.series_uid): _OpenSeries(row.id, last_received_at=row.last_received_at)
            for ids in _chunks([study["id"] for study in self._studies.values()])
            for row in self._conn.execute(sa.select(*columns).where(SERIES.c.study_id.in_(ids)))
        }

    def _known_instances(self) -> tuple[dict[tuple[int, str], tuple[str, Location]], dict[str, set[int]]]:
        known: dict[tuple[int, str], tuple[str, Location]] = {}
        studies_of: dict[str, set[int]] = defaultdict(set)
        for uids in _chunks({tables.plain(item.sop_uid) for item in self._items}):
            for row in self._conn.execute(sa.select(INSTANCE).where(INSTANCE.c.sop_uid.in_(uids))).mappings():
                known[row["study_id"], row["sop_uid"]] = (row["sha256"], rows.location(row))
                studies_of[row["sop_uid"]].add(row["study_id"])
        return known, studies_of

    def _known_conflicts(self) -> set[tuple[int, str, str]]:
        columns = (CONFLICT.c.study_id, CONFLICT.c.sop_uid, CONFLICT.c.sha256)
        return {
            (row.study_id, row.sop_uid, row.sha256)
            for ids in _chunks([study["id"] for study in self._studies.values()])
            for row in self._conn.execute(sa.select(*columns).where(CONFLICT.c.study_id.in_(ids)))
        }

    def add(self, item: ReceivedInstance) -> None:
        """Decide what one instance is: new, sent again, or in conflict."""
        study = self._studies[tables.plain(item.study_uid)]
        sop_uid = tables.plain(item.sop_uid)
        key = (study["id"], sop_uid)
        if key not in self._known:
            self._add_new(study, sop_uid, item)
        elif self._known[key][1] == item.location:
            self.repeated += 1  # the same record once more: a replay
        else:
            self._add_again(study, sop_uid, item)

    def _add_again(self, study: dict[str, Any], sop_uid: str, item: ReceivedInstance) -> None:
        """The UID is known from another record: the same bytes, or a conflict."""
        key = (study["id"], sop_uid)
        digest, location = self._known[key]
        # Bytes that are gone equal nothing: what comes is kept, aside.
        kept, came = digest or self._digest_of(location), item.sha256 or self._digest_of(item.location)
        if came is not None and (came == kept or (*key, came) in self._aside):
            self._add_repeated(study, item)
        else:
            self._add_conflict(study, sop_uid, replace(item, sha256=came or ""))

    def _add_new(self, study: dict[str, Any], sop_uid: str, item: ReceivedInstance) -> None:
        self.new += 1
        opens = study["revision"] == 0 or (item.is_image and study["state"] != "receiving")
        if opens and not item.own:
            self._open_revision(study, item)
        if self._elsewhere[sop_uid] - {study["id"]}:
            self._note(
                study,
                kind="conflict",
                text=f"instance {sop_uid} has the UID of an instance of another study; both are kept",
                once=f"elsewhere:{sop_uid}",
                source=item.calling_ae,
            )
        series = self._series_for(study, item)
        series.added += 1
        series.last_received_at = max(series.last_received_at, item.received_at)
        if not item.own:
            self._count(study, item)
        self._known[study["id"], sop_uid] = (item.sha256, item.location)
        self._elsewhere[sop_uid].add(study["id"])
        self._instance_rows.append(
            {
                "study_id": study["id"],
                "series_id": series.id,
                "sop_uid": sop_uid,
                "sop_class": item.sop_class,
                "transfer_syntax": item.transfer_syntax,
                "revision": study["revision"],
                "instance_number": _integer(item.attributes.get("InstanceNumber")),
                "calling_ae": item.calling_ae,
                "called_ae": item.called_ae,
                "address": item.address,
                "received_at": item.received_at,
                "own": item.own,
                "is_image": item.is_image,
                **_bytes_of(item),
            }
        )

    def _open_revision(self, study: dict[str, Any], item: ReceivedInstance) -> None:
        revision = open_revision(self._conn, study, "image", source_ae=item.calling_ae)
        what = "image" if item.is_image else "object"
        modality = item.attributes.get("Modality", "")
        if revision == 1:
            kind, text = (
                "received",
                f"first {what} from {item.calling_ae}" + (f" ({modality})" if modality else ""),
            )
        else:
            kind, text = (
                "late",
                f"late {what} from {item.calling_ae}: revision {revision} of the study begins",
            )
        study.update(revision=revision, state="receiving", source_ae=item.calling_ae)
        self._note(study, kind=kind, text=text, once=f"first:{revision}", source=item.calling_ae)

    def _series_for(self, study: dict[str, Any], item: ReceivedInstance) -> _OpenSeries:
        key = (study["id"], tables.plain(item.series_uid))
        if key not in self._series:
            found = item.attributes
            inserted = sa.insert(SERIES).values(
                study_id=study["id"],
                series_uid=key[1],
                modality=_attribute(found.get("Modality")),
                description=_attribute(found.get("SeriesDescription")),
                number=_integer(found.get("SeriesNumber")),
                body_part=_attribute(found.get("BodyPartExamined")),
                instances=0,
                own=item.own,
                last_received_at=item.received_at,
            )
            self._series[key] = _OpenSeries(
                self._conn.execute(inserted.returning(SERIES.c.id)).scalar_one(),
                last_received_at=item.received_at,
            )
        return self._series[key]

    def _count(self, study: dict[str, Any], item: ReceivedInstance) -> None:
        """Columns of the study: counts and times, and what its first instance that says so says of it."""
        now = {
            "instances": study["instances"] + 1,
            "received_bytes": study["received_bytes"] + item.location.length,
            "first_received_at": min(study["first_received_at"], item.received_at),
            "last_received_at": max(study["last_received_at"], item.received_at),
        }
        for column, keyword in _STUDY_ATTRIBUTES.items():
            value = _attribute(item.attributes.get(keyword))
            if value and not study[column]:
                now[column] = value
        modality = _attribute(item.attributes.get("Modality")).replace("\\", "")
        if modality and modality not in rows.modalities(study["modalities"]):
            now["modalities"] = "\\".join((*rows.modalities(study["modalities"]), modality))
        study.update(now)
        self._changed[study["study_uid"]].update(now)

    def _add_repeated(self, study: dict[str, Any], item: ReceivedInstance) -> None:
        self.repeated += 1
        if not item.own:
            self._note(
                study,
                kind="repeated",
                text=f"{item.calling_ae} sent images again; they are the same, nothing changes",
                once=f"repeated:{study['revision']}:{item.calling_ae}",
                source=item.calling_ae,
            )

    def _add_conflict(self, study: dict[str, Any], sop_uid: str, item: ReceivedInstance) -> None:
        self.conflicts += 1
        self._aside.add((study["id"], sop_uid, item.sha256))
        self._conflict_rows.append(
            {
                "study_id": study["id"],
                "series_uid": item.series_uid,
                "sop_uid": sop_uid,
                "calling_ae": item.calling_ae,
                "address": item.address,
                "received_at": item.received_at,
                **_bytes_of(item),
            }
        )
        self._note(
            study,
            kind="conflict",
            text=f"{item.calling_ae} sent instance {sop_uid} again with other bytes; they are kept aside, "
            "the first stays",
            once=f"conflict:{sop_uid}:{item.sha256}",
            source=item.calling_ae,
        )

    def _note(self, study: dict[str, Any], *, kind: str, text: str, once: str, source: str) -> None:
        note(self._conn, study_id=study["id"], kind=kind, text=text, source=source, once=once)

    def write(self) -> None:
        """Write what was decided."""
        for table, found in ((INSTANCE, self._instance_rows), (CONFLICT, self._conflict_rows)):
            if found:
                self._conn.execute(sa.insert(table), found)
        for series in self._series.values():
            if series.added:
                self._conn.execute(
                    sa.update(SERIES)
                    .where(SERIES.c.id == series.id)
                    .values(
                        instances=SERIES.c.instances + series.added, last_received_at=series.last_received_at
                    )
                )
        for uid, values in self._changed.items():
            self._conn.execute(sa.update(STUDY).where(STUDY.c.study_uid == uid).values(values))
        use_segments(self._conn, (item.location for item in self._items))
        if self._changed:
            hint_on_commit(self._conn, "studies")


def _study_for(conn: sa.Connection, item: ReceivedInstance) -> dict[str, Any]:
    """The locked row of an instance's study; a new one has revision 0 until something of others is in it."""
    known = locked_study_by_uid(conn, item.study_uid)
    if known is not None:
        return dict(known)
    conn.execute(
        insert_once(conn, STUDY)
        .values(
            study_uid=item.study_uid,
            revision=0,
            state="done",
            partial=False,
            outcome="not_analysed",
            reason_code="OWN-RESULTS",
            reason=_ONLY_OWN,
            priority=0,
            urgency=0,
            headline="",
            source_ae=item.calling_ae,
            **dict.fromkeys(_STUDY_ATTRIBUTES, ""),
            modalities="",
            instances=0,
            received_bytes=0,
            first_received_at=item.received_at,
            last_received_at=item.received_at,
            done_at=now_in(conn),
        )
        .on_conflict_do_nothing()
    )
    row = locked_study_by_uid(conn, item.study_uid)
    assert row is not None
    return dict(row)


def _bytes_of(item: ReceivedInstance) -> dict[str, Any]:
    at = item.location
    return {
        "store": at.store,
        "segment": at.segment,
        "epoch": at.epoch,
        "offset": at.offset,
        "length": at.length,
        "sha256": item.sha256,
    }


def _attribute(value: str | None) -> str:
    return (value or "").strip(" \x00")[:ATTRIBUTE_LENGTH_MAX]


def _integer(value: str | None) -> int | None:
    """An integer string as a number; None when it is absent or no such thing."""
    try:
        number = int(_attribute(value)[:16])
    except ValueError:
        return None
    return number if abs(number) <= _INTEGER_MAX else None


def _chunks(values: Iterable[Any]) -> Iterable[list[Any]]:
    wanted = list(values)
    return (wanted[start : start + LOOKUP_MAX] for start in range(0, len(wanted), LOOKUP_MAX))
