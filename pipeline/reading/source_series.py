"""SourceSeries: a volume together with the images it was made from, so that results can cite them."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset

from models.volume import Volume


@dataclass(frozen=True, eq=False)
class SourceFrame:
    """The image one slice of a volume came from.

    Parameters
    ----------
    sop_uid, sop_class : of the instance as received
    frame_number : 1-based within a multi-frame instance; None for a single-frame instance
    header : the dataset of the instance without pixel data (shared by all frames of a multi-frame instance)
    """

    sop_uid: str
    sop_class: str
    frame_number: int | None
    header: Dataset


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """One volume of one series: `frames[i]` is where slice i of `volume` came from.

    Parameters
    ----------
    volume : float32, rescaled values, bright is bright (MONOCHROME1 inverted, colour as luminance)
    frames : one per slice, in the order of the slices
    headers : datasets of the instances without pixel data, each once, in the order of the slices
    notes : what a reader of the result should know about how the volume was made, one sentence each
    """

    volume: Volume
    frames: tuple[SourceFrame, ...]
    headers: tuple[Dataset, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.frames) != self.volume.shape[0]:
            raise ValueError(f"{len(self.frames)} frames for {self.volume.shape[0]} slices")

    @property
    def series_uid(self) -> str:
        """Series Instance UID of the images."""
        return str(self.headers[0].SeriesInstanceUID)
