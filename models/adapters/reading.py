"""What an adapter found in a foreign model: everything a draft needs, and what it had to guess."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from models.grid_steps import Grid, OrientGrid
from models.networks.registry import GridNetworkSpec

STRUCTURES_GUESSED: Final = (
    "Each label is a structure that is looked for in every study: sizes are reported and nothing is called a "
    "lesion. For a lesion choose its label with --label."
)
Format = Literal["nnunet-v2", "monai-bundle", "onnx"]


# As the slices of an axial DICOM series lie.
_AXIAL: Final = OrientGrid(step="orient_grid", columns="L", rows="P", slices="H")


@dataclass(frozen=True)
class Wishes:
    """What the person who imports says about the model, because its files do not.

    Parameters
    ----------
    labels : which of the model's labels are the finding, drawn as one; empty: the only one, or each of
    several as a structure
    structures : the chosen labels are structures, each with a segment of its own
    folds : of nnU-Net; empty: all
    orient : how the model's volumes lie
    window : of an ONNX graph whose sizes are not fixed
    """

    labels: tuple[str, ...] = ()
    folds: tuple[str, ...] = ()
    orient: OrientGrid = _AXIAL
    window: tuple[int, ...] = ()
    structures: bool = False

    def outlines_structures(self, labels: int) -> bool:
        """Whether a model of so many labels becomes a package of structures."""
        return self.structures or (not self.labels and labels > 1)


@dataclass(frozen=True)
class NamedMaps:
    """A structure as the source calls it, and the maps of the network that are it."""

    label: str
    heads: tuple[int, ...]


@dataclass(frozen=True)
class Reading:
    """A foreign model in our words; sentences in `read` and `guessed` go to IMPORT.md."""

    format: Format
    name: str
    sha256: str
    title: str
    finding: str  # the label that is drawn
    network: GridNetworkSpec
    grid: Grid
    steps_known: bool  # False: a person must write grid.steps
    unit: Literal["series", "image"]
    weights: Path  # in a scratch folder
    weights_name: str  # in the package
    parameters: int
    bytes_per_pixel: int  # of a window, while the network runs; an estimate
    trained_on: tuple[str, ...]
    read: tuple[str, ...]
    guessed: tuple[str, ...]
    structures: tuple[NamedMaps, ...] = ()  # empty: `finding` is drawn as lesions


def plain_words(text: object, most: int = 1000) -> str:
    """A foreign text on one line, without characters that a terminal or a page could take for orders."""
    line = " ".join(str(text)[:most].split())
    return "".join(one if one.isprintable() and one not in "<>`" else "?" for one in line)


def digest_of_files(hashes: Mapping[str, str]) -> str:
    """One sha256 over the names and checksums of the files that were read."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
