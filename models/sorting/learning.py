"""Several questions learnt at once by the head of a sorter: one cross-entropy for each question.

The encoder stays as ImageNet left it, so what it makes of every image, as it is and a few times changed, is
computed once; what is drawn while learning are rows of that table. A view that does not know the answer to a
question says nothing about it. Kinds of series are drawn by set shares: there are forty times as many breasts
as contrast-enhanced heads.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from models.networks.slim_classifier import EffNetLite0Slim
from models.sorting.cases import ONLY_JUDGED, OTHER, QUALITY, View
from models.sorting.manifest import Question
from models.training.augment import uniform
from models.training.objective import TOTAL, Judgement, ParameterGroup, all_weights

NOT_KNOWN = -1
ROTATION_DEGREES, SCALE, SHIFT = 15.0, 1.2, 0.06
CROP_CHANCE, CROP_ZOOM = 0.15, (1.8, 3.2)  # a piece of the image: heads come as crops, too
GAMMA_CHANCE, GAMMA = 0.5, 0.4
WINDOW_CHANCE = 0.25
NOISE = 0.008
FEATURE_BATCH = 16  # fits into the cache of a core: half the time of 64
IMAGES_REAL, IMAGES_GENERATED = 3, 2  # of a view that are used


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """What the encoder makes of images, one row an image as it is or changed.

    features : (N, F)
    truths : (N, questions) index of the answer, the last for other, -1 not known
    views : (N,) index of the view
    """

    features: Tensor
    truths: Tensor
    views: Tensor

    def rows_of(self, wanted: Sequence[bool]) -> FeatureTable:
        """Only the rows of the wanted views, each named by its place among all views."""
        kept = torch.tensor(list(wanted))[self.views]
        return FeatureTable(self.features[kept], self.truths[kept], self.views[kept])


class SortBatch(NamedTuple):
    """A batch."""

    features: Tensor  # (B, F)
    truths: Tensor  # (B, questions)


def truth_index(question: Question, truth: Mapping[str, str]) -> int:
    """The output that is right, among the question's own; -1 where the truth is not known."""
    said = truth.get(question.name)
    if said is None:
        return NOT_KNOWN
    if said == OTHER:
        return len(question.answers) if question.other else NOT_KNOWN
    return [answer.name for answer in question.answers].index(said)


def changes_each(views: Sequence[View], least: int, most: int) -> dict[str, int]:
    """How many changed copies each image of a kind gets: more of kinds with few images."""
    images: Counter[str] = Counter()
    for view in views:
        images[view.kind] += len(_used(view))
    return {kind: min(most, max(1, round(least / count))) for kind, count in images.items()}


def _used(view: View) -> NDArray[np.uint8]:
    """Some images of a view, evenly chosen: neighbouring slices teach little more."""
    most = IMAGES_GENERATED if view.is_generated else IMAGES_REAL
    count = len(view.canvases)
    return view.canvases[sorted({round(index) for index in np.linspace(0, count - 1, min(most, count))})]


def feature_table(
    network: EffNetLite0Slim,
    views: Sequence[View],
    questions: Sequence[Question],
    *,
    seed: int,
    rows_least: int,
    copies_max: int,
) -> FeatureTable:
    """Features of every image that may be trained on, as it is and changed.

    Parameters
    ----------
    rows_least : rows that a kind should come to, within `copies_max` changed copies of an image
    """
    generator = torch.Generator().manual_seed(seed)
    trained = [view for view in views if view.fold != ONLY_JUDGED]
    copies = changes_each(trained, rows_least, copies_max)
    quality = [index for index, question in enumerate(questions) if question.name == QUALITY]
    images, truths, owners = [], [], []
    for index, view in enumerate(views):
        if view.fold == ONLY_JUDGED:
            continue
        plain = torch.from_numpy(_used(view)).float()[:, None] / 255
        row = torch.tensor([truth_index(question, view.truth) for question in questions])
        for copy in range(copies[view.kind] + 1):
            cropped = torch.zeros(len(plain), dtype=torch.bool)
            image = plain
            if copy:
                cropped = uniform(0, 1, (len(plain),), generator) < CROP_CHANCE
                grid = F.affine_grid(
                    random_affine(len(plain), cropped, generator), list(plain.shape), align_corners=False
                )
                image = changed_greys(F.grid_sample(plain, grid, align_corners=False), generator)
            truth = row.repeat(len(plain), 1)
            for column in quality:  # a magnified image is blurred
                truth[cropped, column] = NOT_KNOWN
            images.append((image.clamp(0, 1) * 255).round().to(torch.uint8))
            truths.append(truth)
            owners.append(torch.full((len(plain),), index))
    found = []
    network.eval()
    with torch.inference_mode():
        for part in torch.cat(images).split(FEATURE_BATCH):  # type: ignore[no-untyped-call]
            batch = part.float() / 255 * 2 - 1
            found.append(network.at_all_scales(batch.contiguous(memory_format=torch.channels_last)))
    return FeatureTable(torch.cat(found), torch.cat(truths), torch.cat(owners))


def row_chances(table: FeatureTable, views: Sequence[View], shares: Mapping[str, float]) -> Tensor:
    """(N,) chance of each row: a kind is drawn by its share, its views alike, whatever rows they have.

    Raises
    ------
    KeyError
        A kind without a share.
    """
    rows = table.views.bincount(minlength=len(views))
    present = Counter(view.kind for view, count in zip(views, rows.tolist(), strict=True) if count)
    each = [
        shares[view.kind] / present[view.kind] / count if count else 0.0
        for view, count in zip(views, rows.tolist(), strict=True)
    ]
    return torch.tensor(each)[table.views]


@dataclass(eq=False)
class SortingObjective:
    """See the top of the page; `network` is the head: (B, F) -> (B, all outputs), question after question."""

    network: nn.Module
    table: FeatureTable
    chances: Tensor
    questions: Sequence[Question]
    batch: int
    label_smoothing: float

    @property
    def module(self) -> nn.Module:
        """What is called."""
        return self.network

    def groups(self) -> list[ParameterGroup]:
        """All weights of the head."""
        return all_weights(self.network)

    def draw(self, generator: Generator) -> SortBatch:
        """Rows of the table."""
        chosen = torch.multinomial(self.chances, self.batch, replacement=True, generator=generator)
        return SortBatch(self.table.features[chosen], self.table.truths[chosen])

    def forward(self, module: nn.Module, batch: SortBatch) -> Tensor:
        """(B, all outputs) logits."""
        logits: Tensor = module(batch.features)
        return logits

    def terms(self, outputs: Tensor, batch: SortBatch) -> dict[str, Tensor]:
        """The cross-entropy of each question over the images that know its answer, and their sum."""
        found: dict[str, Tensor] = {}
        start = 0
        for column, question in enumerate(self.questions):
            logits = outputs[:, start : start + question.outputs].float()
            start += question.outputs
            truth = batch.truths[:, column]
            loss = F.cross_entropy(
                logits,
                truth,
                ignore_index=NOT_KNOWN,
                label_smoothing=self.label_smoothing,
                reduction="sum",
            )
            found[question.name] = loss / (truth != NOT_KNOWN).sum().clamp(min=1)
        return {TOTAL: torch.stack(list(found.values())).sum(), **found}

    def judge(self, network: nn.Module) -> Judgement | None:
        """Nothing is held back: the length of the run is fixed."""
        return None


def random_affine(count: int, cropped: Tensor, generator: Generator) -> Tensor:
    """(count, 2, 3) as `affine_grid` takes it: turned, scaled, shifted, mirrored; some magnified."""
    angle = uniform(-1, 1, (count,), generator) * math.radians(ROTATION_DEGREES)
    scale = torch.exp(uniform(-1, 1, (count,), generator) * math.log(SCALE))
    zoom = uniform(1 / CROP_ZOOM[1], 1 / CROP_ZOOM[0], (count,), generator)
    scale = torch.where(cropped, zoom, scale)
    shift = uniform(-1, 1, (count, 2), generator) * torch.where(cropped, 0.4, SHIFT)[:, None]
    flips = torch.where(uniform(0, 1, (count, 2), generator) < 0.5, -1.0, 1.0)
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    rows = torch.stack(
        [cosine * flips[:, 0], -sine * flips[:, 1], sine * flips[:, 0], cosine * flips[:, 1]], 1
    )
    return torch.cat([rows.view(count, 2, 2), shift[:, :, None]], 2)


def changed_greys(image: Tensor, generator: Generator) -> Tensor:
    """(B, 1, side, side), 0 to 1: bent, seen through a window, with grain too fine to be called noise."""
    count = len(image)
    shape = (count, 1, 1, 1)
    power = torch.exp(uniform(-GAMMA, GAMMA, shape, generator))
    bent = uniform(0, 1, shape, generator) < GAMMA_CHANCE
    image = torch.where(bent, image.clamp(min=0) ** power, image)
    low = uniform(0, 0.12, shape, generator)
    high = uniform(0.65, 1.0, shape, generator)
    windowed = uniform(0, 1, shape, generator) < WINDOW_CHANCE
    image = torch.where(windowed, ((image - low) / (high - low)).clamp(0, 1), image)
    grain = torch.randn(image.shape, generator=generator, device=image.device)
    return image + grain * uniform(0, NOISE, shape, generator)
