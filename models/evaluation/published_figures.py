"""What others reported on the same data, and why most of it cannot be set beside our figures."""

from __future__ import annotations

from dataclasses import dataclass

from models.training.cases import DataKind


@dataclass(frozen=True)
class PublishedFigure:
    """A figure of others: who, on which split, how much, and whether it compares."""

    who: str
    split: str
    figure: str
    compares: str


PUBLISHED: dict[DataKind, tuple[PublishedFigure, ...]] = {
    "brain-flair": (
        PublishedFigure(
            "Buda, 2017 (project page of the data set)",
            "110 patients, 22 folds by patient, Dice per patient",
            "mean 0.836, median 0.873; two expert readers 0.84",
            "nearly: this copy has 94 of the patients, and one fold is scored",
        ),
        PublishedFigure(
            "public notebooks",
            "slices drawn at random, or empty slices scored 1",
            "Dice 0.86 to 0.90",
            "no: neighbouring slices of a patient stand on both sides",
        ),
    ),
    "breast-us": (
        PublishedFigure(
            "ten U-shaped networks (FengheTan9, Medical-Image-Segmentation-Benchmarks)",
            "647 lesion images, three random 70/30 splits",
            "F1 0.770 (U-Net) to 0.799 (best)",
            "no: near-duplicates cross a random split, which flatters",
        ),
        PublishedFigure(
            "nnU-Net trained on BUS-BRA, tested here (Diagnostics 2026, 16(8):1203)",
            "another hospital's images",
            "Dice 0.558, against 0.911 at home",
            "a warning: this is what another ultrasound system may do",
        ),
        PublishedFigure(
            "classifiers of the whole set (several)",
            "random splits, duplicates kept",
            "three-class accuracy 0.95 to 0.97",
            "no: the same image may be in training and test",
        ),
    ),
}

# Packages of one's own kind of data, by their id.
PUBLISHED_OF: dict[str, tuple[PublishedFigure, ...]] = {
    "hippocampus-volume": (
        PublishedFigure(
            "nnU-Net, 3D (El Jurdi, Varoquaux, Colliot, arXiv 2307.10926; each case published)",
            "110 held-out cases, named; 94 of them are in this copy",
            "Dice of label 1 0.897 (standard deviation 0.028, worst 0.799)",
            "yes, case by case: `--beside models/evaluation/published/nnunet_hippocampus.csv`",
        ),
        PublishedFigure(
            "nnU-Net trained on sparse patches (nnActive, arXiv 2511.19183)",
            "65 held-out cases",
            "mean Dice of both labels 0.868 to 0.885",
            "nearly: other cases are held out",
        ),
        PublishedFigure(
            "MONAI Auto3DSeg",
            "folds published, all 260 cases",
            "Dice 0.88 to 0.90",
            "nearly: other folds",
        ),
    ),
}
