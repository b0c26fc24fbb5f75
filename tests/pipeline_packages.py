"""Small packages for tests of the pipeline: a network that knows nothing and draws something all the same."""

from pathlib import Path
from typing import Any

import numpy as np
from narrow_package import write_narrow_package
from pipeline_node import BRAIN, BREAST

from models.package import Package
from models.predictor import Prediction
from models.steps import MinComponent, Threshold


def write_package(folder: Path, model: str, *, seed: int = 3) -> Package:
    """The package `test-<model>`.

    Its threshold is set so that about a tenth of its golden case is called lesion: there is something to
    write down.
    """

    def a_tenth(found: Prediction) -> tuple[Any, ...]:
        threshold = float(np.clip(np.quantile(found.probability, 0.9), 0.01, 0.99))
        # Noise has many small islands; a few are enough.
        few = {"minimum_ml": 3.0} if model == BRAIN else {"minimum_share": 0.01}
        return Threshold(step="threshold", probability=threshold), MinComponent(step="min_component", **few)

    # Far from the threshold on either side, so that rounding decides nothing.
    sharpness = 100.0 if model == BREAST else 300.0
    return write_narrow_package(
        folder, model, package_id=f"test-{model}", seed=seed, sharpness=sharpness, postprocess=a_tenth
    )
