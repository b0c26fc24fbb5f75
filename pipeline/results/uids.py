"""UIDs of results: digests of what they stand for, so that a repeat of a job makes the same objects.

An object's UID covers the study, the pixels of its inputs, the model with its weights and parameters and the
revision. A series UID leaves inputs and revision out: a revision lands in the same series with a later
instance number, and viewers that take the last instance show the right one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from config.identity import own_uid
from pipeline.reading.source_series import SourceSeries

_FORM = "v1"

InputDigest = tuple[str, int, str]


@dataclass(frozen=True)
class RunKey:
    """What decides the identity of a result set.

    Parameters
    ----------
    inputs : (SOP Instance UID, frame number or 0, digest of the pixels) of every slice read
    model, version, digest : of the package; the digest covers its weights and its declared parameters
    root : the site's UID root; None takes the shared block of the UUID arc
    """

    study_uid: str
    inputs: tuple[InputDigest, ...]
    model: str
    version: str
    digest: str
    revision: int
    root: str | None = None

    def instance_uid(self, kind: str, part: str = "") -> str:
        """SOP Instance UID of the result of `kind`; `part` tells several of one kind apart."""
        return own_uid(
            _canonical(kind, *self._model(), sorted(self.inputs), self.revision, part), root=self.root
        )

    def series_uid(self, kind: str, part: str = "") -> str:
        """Series Instance UID of the results of `kind`, the same for every revision."""
        return own_uid(_canonical(f"{kind} series", *self._model(), part), root=self.root)

    def tracking_uid(self, source_uid: str, label: int) -> str:
        """Tracking UID of a lesion seen for the first time; `source_uid` names where, `label` which."""
        return own_uid(_canonical("tracking", self.instance_uid("SEG", source_uid), label), root=self.root)

    def structure_uid(self, source_uid: str, number: int) -> str:
        """Tracking UID of a named structure: the same in every revision and version of the model."""
        return own_uid(
            _canonical("structure", self.study_uid, self.model, source_uid, number), root=self.root
        )

    def digest_of_run(self) -> str:
        """Sixteen hexadecimal digits that name this run in Contributing Equipment."""
        canonical = _canonical("run", *self._model(), sorted(self.inputs), self.revision)
        return hashlib.sha256(canonical).hexdigest()[:16]

    def _model(self) -> tuple[str, str, str, str]:
        return self.study_uid, self.model, self.version, self.digest


def digest_inputs(source: SourceSeries) -> tuple[InputDigest, ...]:
    """What was read from each slice: instance, frame and a sha256 of its pixel values."""
    return tuple(
        (frame.sop_uid, frame.frame_number or 0, hashlib.sha256(plane.tobytes()).hexdigest())
        for frame, plane in zip(source.frames, source.volume.array, strict=True)
    )


def frame_of_reference_uid(series_uid: str) -> str:
    """The frame of reference of a series whose images name none; the same for all its results."""
    return own_uid(_canonical("frame of reference", series_uid))


def device_uid(installation: str, root: str | None) -> str:
    """The observer of all reports of this installation."""
    return own_uid(_canonical("device", installation), root=root)


def dimension_uid(sop_uid: str, root: str | None) -> str:
    """Dimension Organization UID of an object of ours."""
    return own_uid(_canonical("dimensions", sop_uid), root=root)


def _canonical(*parts: object) -> bytes:
    return json.dumps([_FORM, *parts], ensure_ascii=True, separators=(",", ":")).encode("ascii")
