"""A detector's package on simulated nodules in the lung of a real CT: CPM, sensitivity, and how much lung.

`scripts/bench nodules_in_real_lung --package FOLDER --ct FOLDER [--cases 20] [--seed 46] [--slices 32]`
CT: a folder of one DICOM series. Each case has other nodules in the same lung, so intervals say how much
hangs on the nodules, and nothing about other patients. `--picture FILE` writes what was found and missed.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray

from models.evaluation.detection_figures import sensitivities
from models.evaluation.evaluate import CaseResult, figures_of, judge
from models.evaluation.pictures import contact_sheet, outlined, save_jpeg
from models.package import load_package
from models.predictor import Predictor
from models.simulation.inserted import lung_ml, mirrored, with_nodules
from models.training.cases import Case
from models.volume import Volume

CELL = 360


def read_ct(folder: Path) -> Volume:
    """One axial series in HU."""
    found = [pydicom.dcmread(path, force=True) for path in sorted(folder.rglob("*.dcm"))]
    slices = [one for one in found if "PixelData" in one and "ImagePositionPatient" in one]
    slices.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    array = np.stack(
        [one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept) for one in slices]
    )
    heights = [float(one.ImagePositionPatient[2]) for one in slices]
    row, column = (float(one) for one in slices[0].PixelSpacing)
    between = float(np.median(np.diff(heights)))
    affine = np.diag([column, row, between, 1.0])
    affine[:3, 3] = [float(one) for one in slices[0].ImagePositionPatient]
    return Volume(np.round(array).astype(np.int16), affine, (row, column), between)


def pictured(case: Case, found: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The slice with most of the nodules; red found, green true."""
    index = int(case.mask.sum((1, 2)).argmax())
    plane = np.clip(case.volume.array[index].astype(np.float32), -1350, 150)
    return outlined(plane, found[index], case.mask[index], CELL)


def main() -> None:
    """Judge and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--ct", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--seed", type=int, default=46)
    parser.add_argument("--slices", type=int, default=32)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    scan = read_ct(given.ct)
    print(f"{scan.shape[0]} slices of {scan.slice_spacing_mm:g} mm with {lung_ml(scan):.0f} mL of aired lung")
    predictor = Predictor(load_package(given.package), device="auto")
    long = mirrored(scan, given.slices)
    results: list[CaseResult] = []
    pictures = []
    for number in range(given.cases):
        made = with_nodules(long, np.random.default_rng([given.seed, number]))
        case = Case(str(number), str(number), "", made.volume, made.labels, None, is_simulated=True)
        results.append(judge(predictor, case))
        if given.picture and len(pictures) < 6:
            pictures.append(pictured(case, predictor.predict(case.volume).labels > 0))
    for figure in figures_of("own", results, "scored", unit="images"):
        low, high = figure.ci95
        print(f"{figure.metric:28} {figure.value:.3f} [{low:.3f}, {high:.3f}] n={figure.n}")
    boxes = [one.boxes for one in results if one.boxes is not None]
    print(json.dumps({"sensitivity at false findings per case": sensitivities(boxes)}))
    if given.picture:
        save_jpeg(contact_sheet(pictures, 3), given.picture)


if __name__ == "__main__":
    main()
