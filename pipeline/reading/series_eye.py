"""A few images of a series in, what the sorter makes of them out; nothing where they cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from pydicom.dataset import Dataset

from models.manifest import Manifest, ModelInput
from models.sorting.answers import SeriesAnswers
from models.sorting.sorter import Sorter
from pipeline.assignment import StudyImages
from pipeline.reading.applicability import judge
from pipeline.reading.headers import read_header
from pipeline.reading.pixels import Plane, frames_of, read_pixels
from pipeline.reading.pixels_and_tags import Remarks, completed, remarks
from pipeline.reading.refusals import Refusal
from pipeline.reading.selection import SeriesHeaders, worth_a_look
from pipeline.reading.source_series import SourceSeries
from pipeline.reading.study_series import ReadBytes, images_of

LOOKS_MAX: Final = 12  # series of one study that are looked at while it is planned


@dataclass(frozen=True, eq=False)
class SeriesEye:
    """Looks at series with a sorter.

    Parameters
    ----------
    may_stand_in : whether very sure answers stand in for absent attributes, or only doubts are told
    bytes_max : most memory of what is decoded of one image
    """

    sorter: Sorter
    may_stand_in: bool
    bytes_max: int

    def looked_at(
        self,
        study: StudyImages,
        manifests: Sequence[Manifest],
        series: Sequence[SeriesHeaders],
        read_bytes: ReadBytes,
    ) -> list[SeriesHeaders]:
        """The series, with what was found in those that are worth a look."""
        questions = self.sorter.package.manifest.questions
        worth = set(worth_a_look(questions, manifests, series)[:LOOKS_MAX]) if self.may_stand_in else set()
        return [
            replace(one, found=self._found(self._of_series(study, one.series_uid, read_bytes), one.headers))
            if one.series_uid in worth
            else one
            for one in series
        ]

    def noted(self, source: SourceSeries, reading: ModelInput) -> SourceSeries:
        """What is about to be read, with notes on what pixels and header make of each other."""
        planes = [source.volume.array[index] for index in self.sorter.wanted(len(source.volume.array))]
        found = self._found(self.sorter.sort(planes), source.headers)
        is_needed = judge(reading.applicability, source.headers[0]).refusal is not None
        judged = [f"Series chosen by its pixels: {words}." for words in found.judged] if is_needed else []
        return replace(source, notes=(*source.notes, *found.doubts, *judged))

    def completed(self, header: Dataset, raw: bytes, transfer_syntax: str) -> Dataset:
        """The header of a still image with what its pixels say where it is silent."""
        if not self.may_stand_in:
            return header
        planes = read_pixels(raw, transfer_syntax, header, frame_indices=[0], bytes_max=self.bytes_max)
        if isinstance(planes, Refusal):
            return header
        return completed(header, self._found(self.sorter.sort(planes), [header]))

    def _found(self, answers: SeriesAnswers | None, headers: Sequence[Dataset]) -> Remarks:
        questions = self.sorter.package.manifest.questions
        found = remarks(questions, answers, headers[len(headers) // 2])
        return found if self.may_stand_in else Remarks(doubts=found.doubts)

    def _of_series(self, study: StudyImages, series_uid: str, read_bytes: ReadBytes) -> SeriesAnswers | None:
        """Answers from the wanted images in the order of their numbers; None where none can be read."""
        images = images_of(study, series_uid)
        planes: list[Plane] = []
        for index in self.sorter.wanted(len(images)):
            raw, syntax = read_bytes(images[index].location), images[index].transfer_syntax
            header = read_header(raw, syntax, sop_uid=images[index].sop_uid)
            if isinstance(header, Refusal):
                continue
            frames = frames_of(header)
            wanted = self.sorter.wanted(frames) if len(images) == 1 else [frames // 2]
            found = read_pixels(raw, syntax, header, frame_indices=wanted, bytes_max=self.bytes_max)
            planes += [] if isinstance(found, Refusal) else found
        return self.sorter.sort(planes) if planes else None
