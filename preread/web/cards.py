"""Model packages as cards: what each is for, how well it did, its limits, whether it runs here."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from config.settings import Settings
from models.evaluation.structure_metrics import structure_words
from models.manifest import Evaluation, Manifest, OperatingPoint
from models.package import MANIFEST_NAME, installed_packages_folder, list_packages
from pipeline.packages import offer_of

METRIC_WORDS = {
    "dice_per_patient_mean": "Dice per patient, mean",
    "dice_per_patient_median": "Dice per patient, median",
    "dice_per_lesion_image_mean": "Dice per image with a lesion, mean",
    "dice_per_lesion_image_mean_without_axilla": "the same without images of the axilla",
    "accuracy_three_classes": "accuracy over three classes",
    "auc_malignant": "AUC of malignant",
    "normals_drawn_on": "part of normal images drawn on",
}


def figure_words(metric: str) -> str:
    """What a figure is called on the page."""
    return METRIC_WORDS.get(metric) or structure_words(metric) or metric.replace("_", " ")


@dataclass(frozen=True)
class Card:
    """One folder that holds a package, or claims to.

    Parameters
    ----------
    is_on : whether it runs at this site
    standing : why it runs or not, one sentence
    """

    name: str
    manifest: Manifest | None
    digest: str | None
    is_on: bool
    standing: str

    @property
    def operating_point(self) -> OperatingPoint | None:
        """The operating point in use."""
        if self.manifest is None:
            return None
        return next(point for point in self.manifest.operating_points if point.default)

    @property
    def figures(self) -> tuple[Evaluation, ...]:
        """Figures on cases kept apart. The frozen subset is for checks of changes, a naive split no claim."""
        if self.manifest is None:
            return ()
        return tuple(row for row in self.manifest.evaluation if row.subset not in ("frozen", "naive"))


class Shelf:
    """Reads the packages again when one of them changed. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folders = (installed_packages_folder(), *settings.packages.folders)
        self._lock = threading.Lock()
        self._seen: tuple[object, ...] | None = None
        self._cards: tuple[Card, ...] = ()

    def cards(self) -> tuple[Card, ...]:
        """One card per package, those that run first."""
        with self._lock:
            seen = tuple(_stamp(folder) for folder in self._folders)
            if seen != self._seen:
                self._cards = _cards(self._settings, self._folders)
                self._seen = seen
            return self._cards


def _stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    found = sorted(folder.glob(f"*/{MANIFEST_NAME}")) if folder.is_dir() else []
    return tuple(
        (str(path), status.st_mtime_ns, status.st_size) for path in found for status in [path.stat()]
    )


def _cards(settings: Settings, folders: Sequence[Path]) -> tuple[Card, ...]:
    offer = offer_of(settings)
    runs = {package.folder: "Runs on this node; its checksums are verified." for package in offer.runs}
    why_not = dict(offer.refused)
    cards = []
    for listing in list_packages(folders):
        package, folder = listing.package, listing.folder
        standing = runs.get(folder) or f"Does not run: {why_not.get(folder.name) or listing.error}"
        if package is None:
            cards.append(Card(folder.name, None, None, False, standing))
        else:
            cards.append(
                Card(package.manifest.title, package.manifest, package.digest, folder in runs, standing)
            )
    return tuple(sorted(cards, key=lambda card: not card.is_on))
