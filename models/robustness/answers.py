"""What a package answers to one labelled image, in the few numbers that a drop is measured by, remembered."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.evaluation.kept_predictions import KeptPredictions
from models.evaluation.overlap import dice
from models.memory import TooLarge
from models.postprocess import Labels
from models.predictor import Predictor
from models.preprocess import PreprocessError
from models.volume import Volume


@dataclass(frozen=True)
class Answer:
    """One answer.

    Parameters
    ----------
    dice : None where nothing is to be outlined
    class_name, class_scores : None where the package has no classes
    is_refused : the image could not be brought to the network; nothing else is known then
    """

    dice: float | None = None
    class_name: str | None = None
    class_scores: dict[str, float] | None = None
    is_refused: bool = False


def answer_of(
    labels: Labels, truth: NDArray[np.bool_], class_name: str | None, class_scores: dict[str, float] | None
) -> Answer:
    """The numbers of a prediction; labels and truth (slices, rows, columns)."""
    return Answer(dice(labels > 0, truth), class_name, class_scores)


class AnswerBook:
    """Answers of one package, kept as lines of JSON, so that a run that was ended goes on where it was.

    Parameters
    ----------
    path : made when it is missing; None keeps nothing. It holds no pixels and no names
    """

    def __init__(self, predictor: Predictor, path: Path | None) -> None:
        self._predictor, self._path = predictor, path
        self._keys = KeptPredictions(predictor, None)
        self._known: dict[str, Answer] = {}
        self.computed = 0  # answers that were not in the book
        if path is not None and path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                self._remember(line)

    def of(self, volume: Volume, truth: NDArray[np.bool_]) -> Answer:
        """What the package answers; `truth` belongs to the volume and decides the Dice."""
        key = f"{self._keys.key(volume)}-{int(truth.sum())}"
        if key not in self._known:
            self._known[key] = self._ask(volume, truth)
            self.computed += 1
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps([key, asdict(self._known[key])]) + "\n")
        return self._known[key]

    def _ask(self, volume: Volume, truth: NDArray[np.bool_]) -> Answer:
        try:
            found = self._predictor.predict(volume)
        except (PreprocessError, TooLarge):
            return Answer(is_refused=True)
        return answer_of(found.labels, truth, found.class_name, found.class_scores)

    def _remember(self, line: str) -> None:
        try:
            key, content = json.loads(line)
        except ValueError:
            return  # cut off in the middle of writing
        self._known[key] = Answer(**content)
