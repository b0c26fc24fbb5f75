"""Blocks of model.json about heat maps, for tests: one that passed, and packages that declare it."""

from pathlib import Path
from typing import Any

from models.explanation.block import Explain, ExplainSanity
from models.explanation.packing import write_block
from models.package import Package, load_package

LAYER = "encoder.blocks.10"


def sanity(**figures: Any) -> ExplainSanity:
    """Figures that pass; each may be given otherwise."""
    passing: dict[str, Any] = {
        "tried": "grad-cam",
        "layer": LAYER,
        "dataset": "generated",
        "split_sha256": "0" * 64,
        "subset": "scored",
        "n": 40,
        "n_lesions": 30,
        "ssim_randomised": 0.2,
        "ssim_random_pairs": 0.5,
        "ssim_difference_ci95": (-0.4, -0.2),
        "energy_ratio": 4.0,
        "energy_ratio_ci95": (3.0, 5.0),
        "shift_ssim": 0.95,
        "shift_ssim_ci95": (0.93, 0.97),
    }
    return ExplainSanity(**(passing | figures))


def passed_block() -> Explain:
    """A block that shows Grad-CAM."""
    return Explain(method="grad-cam", layer=LAYER, sanity=sanity())


def declare(folder: Path) -> Package:
    """The package in a folder, with the block that passed."""
    return write_block(load_package(folder), passed_block())
