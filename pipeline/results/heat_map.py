"""A heat map with its geometry as bytes: kept beside the other results of an analysis, sent to nobody.

The form is a NumPy archive (.npz) that holds no code:

levels    uint8 (slices, rows, columns), the heat in 255ths of its strongest place, on the grid of the source
affine    float64 (4, 4), (column, row, slice, 1) to LPS mm; left out where the source has no coordinates
spacing   float64 (3,), between slices, rows and columns in mm; 0 where unknown
words     JSON: form, caption, model, version, digest, class, method, layer, and of each slice the SOP
          Instance UID and the frame number (or null) that it lies on

A Parametric Map (PS3.3 A.75) would say the same of volumes; images without coordinates cannot have one.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from config.errors import PrereadError
from models.explanation.attention import CAPTION, LEVELS, Attention
from models.resample import FloatArray
from pipeline.reading.source_series import SourceSeries
from pipeline.results.findings import ModelIdentity

FORM: Final = "preread-heat/1"


@dataclass(frozen=True, eq=False)
class HeatMap:
    """A heat map as it was kept.

    Parameters
    ----------
    levels : (slices, rows, columns), 0 to 255
    places : SOP Instance UID and frame number (None: a single-frame image) of each slice
    """

    levels: NDArray[np.uint8]
    affine: NDArray[np.float64] | None
    spacing_mm: tuple[float | None, float | None, float | None]
    places: tuple[tuple[str, int | None], ...]
    class_name: str
    method: str
    model: str
    version: str

    @property
    def heat(self) -> FloatArray:
        """0 to 1."""
        return np.divide(self.levels, LEVELS, dtype=np.float32)

    @property
    def strongest_slice(self) -> int:
        """The slice with the most heat; of equals the first."""
        return int(self.levels.sum((1, 2), dtype=np.int64).argmax())


def encode(attention: Attention, source: SourceSeries, model: ModelIdentity) -> bytes:
    """The map of one source; the same arguments give the same bytes."""
    volume = source.volume
    if attention.heat.shape != volume.shape:
        raise ValueError(f"a heat map of {attention.heat.shape} does not lie on a volume of {volume.shape}")
    pixel = volume.pixel_spacing_mm or (0.0, 0.0)
    words = {
        "form": FORM,
        "caption": CAPTION,
        "model": model.id,
        "version": model.version,
        "digest": model.digest,
        "class": attention.class_name,
        "method": attention.method,
        "layer": attention.layer,
        "places": [[frame.sop_uid, frame.frame_number] for frame in source.frames],
    }
    arrays: dict[str, Any] = {
        "levels": attention.levels,
        "spacing": np.array([volume.slice_spacing_mm or 0.0, *pixel]),
        "words": np.array(json.dumps(words, sort_keys=True)),
    }
    if volume.affine is not None:
        arrays["affine"] = volume.affine
    stream = BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def decode(stored: bytes) -> HeatMap:
    """A kept map.

    Raises
    ------
    PrereadError
        The bytes are not one.
    """
    try:
        with np.load(BytesIO(stored), allow_pickle=False) as arrays:
            words = json.loads(str(arrays["words"]))
            levels, spacing = arrays["levels"], arrays["spacing"]
            affine = arrays["affine"] if "affine" in arrays.files else None
        places = tuple((str(uid), None if number is None else int(number)) for uid, number in words["places"])
        if (
            words["form"] != FORM
            or levels.dtype != np.uint8
            or levels.ndim != 3
            or len(places) != len(levels)
        ):
            raise ValueError(words["form"])
        down, rows, columns = (float(one) or None for one in spacing)
        return HeatMap(
            levels,
            affine,
            (down, rows, columns),
            places,
            str(words["class"]),
            str(words["method"]),
            str(words["model"]),
            str(words["version"]),
        )
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise PrereadError(
            "the stored heat map cannot be read",
            where=FORM,
            remedy="Analyse the study again.",
        ) from error
