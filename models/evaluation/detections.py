"""PURE which of a detector's boxes found which true lesion, by the rule of models.evaluation.lesions.

A box counts as the ellipsoid that is drawn in it. Unlike drawn lesions, boxes may lie in each other: every
candidate is judged by itself, far below the operating point too, which a curve needs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.ellipsoids import Boxes, ellipsoid
from models.evaluation.lesions import IOU_MIN, Labels


def hits_of_boxes(
    boxes: Boxes, truth: Labels, *, iou_min: float = IOU_MIN, by_centre: bool = True
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each box, the surest first, the number of the lesion it found (0: false, or found before) and IoU.

    Parameters
    ----------
    truth : (slices, rows, columns) 0 background, 1 .. n one lesion each
    by_centre : whether a centre inside is enough; average precision asks for IoU alone
    """
    sizes = np.bincount(truth.ravel(), minlength=2)
    found, ious = np.zeros(len(boxes), np.int64), np.zeros(len(boxes))
    free = np.ones(len(sizes), bool)
    free[0] = False
    for index, box in enumerate(boxes):
        place, inside = ellipsoid(box, truth.shape)
        overlap = np.bincount(truth[place][inside], minlength=len(sizes))
        share = overlap / (sizes + int(inside.sum()) - overlap)
        may_hit = share >= iou_min
        if by_centre:
            middle = (box[:3] + box[3:]) / 2
            at = np.clip(np.floor(middle).astype(int), 0, np.array(truth.shape) - 1)
            may_hit[truth[tuple(at)]] = True
        choice = np.flatnonzero(may_hit & free)
        if len(choice):
            best = int(choice[np.argmax(share[choice])])
            free[best] = False
            found[index], ious[index] = best, share[best]
    return found, ious
