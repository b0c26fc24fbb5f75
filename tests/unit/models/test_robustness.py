"""Drops of figures: what they are, whom they hold to the limit, and how the report draws them."""

import numpy as np
import pytest

from models.evaluation.robustness_charts import attack_charts, natural_charts
from models.manifest import ClassFinding, Code
from models.package import load_package
from models.predictor import Predictor
from models.robustness.adversarial import GREY_LEVELS, Adversarial, AttackRow
from models.robustness.answers import Answer, AnswerBook
from models.robustness.corruptions import CORRUPTIONS, SEVERITIES, Corruption
from models.robustness.document import Robustness, read_robustness, write_robustness
from models.robustness.drops import Judged, drops_between
from models.robustness.natural import Curve, Natural, Step, measure_natural
from models.training.cases import Case
from models.volume import Volume

CODE = Code(value="1", scheme="99TEST", meaning="test")
CLASSES = (
    ClassFinding(index=0, name="benign", concept=CODE, negative=False, urgent=False),
    ClassFinding(index=1, name="malignant", concept=CODE, negative=False, urgent=True),
)


def answer(dice: float | None, malignant: float) -> Answer:
    name = "malignant" if malignant >= 0.5 else "benign"
    return Answer(dice, name, {"benign": 1 - malignant, "malignant": malignant})


def judged(count: int) -> list[Judged]:
    return [Judged(f"c{k}", f"g{k}", "malignant" if k % 2 else "benign") for k in range(count)]


def drops(before, after, cases=None, classes=CLASSES) -> dict:
    found = drops_between(cases or judged(len(before)), before, after, classes)
    return {drop.metric: drop for drop in found}


def test_the_same_answers_lose_nothing() -> None:
    same = [answer(0.5 + 0.04 * k, 0.9 if k % 2 else 0.1) for k in range(10)]
    for drop in drops(same, same).values():
        assert drop.points == 0
        assert drop.ci95 == (0, 0)
        assert drop.n == 10


def test_a_drop_is_in_points_and_its_interval_is_paired() -> None:
    rng = np.random.default_rng(1)
    level = rng.uniform(0.2, 0.95, 40)
    before = [answer(float(one), 0.9 if k % 2 else 0.1) for k, one in enumerate(level)]
    after = [answer(float(one) - 0.05, 0.9 if k % 2 else 0.1) for k, one in enumerate(level)]
    found = drops(before, after)["dice"]
    assert found.points == pytest.approx(5)
    # Every case lost the same, so nothing is uncertain, however different the cases are.
    assert found.ci95 == pytest.approx((5, 5))


def test_classes_that_turn_lower_accuracy_and_auc() -> None:
    before = [answer(None, 0.9 if k % 2 else 0.1) for k in range(10)]
    after = [answer(None, 0.05 if k in (1, 3) else 0.9 if k % 2 else 0.1) for k in range(10)]
    found = drops(before, after)
    assert "dice" not in found
    assert found["accuracy"].points == pytest.approx(20)
    assert found["auc"].before == 1
    assert found["auc"].points == pytest.approx(100 * 2 / 5)


def test_a_refused_image_is_counted_and_in_no_figure() -> None:
    before = [answer(0.8, 0.9 if k % 2 else 0.1) for k in range(8)]
    after = [Answer(is_refused=True), *before[1:]]
    found = drops(before, after)["dice"]
    assert (found.n, found.refused, found.points) == (7, 1, 0)


def test_no_class_and_no_lesion_give_no_figure() -> None:
    before = [Answer(0.5)] * 6
    assert set(drops(before, before, classes=())) == {"dice"}
    assert drops([Answer()] * 6, [Answer()] * 6, classes=()) == {}


def darkened(volume, mask, severity, rng):
    """A corruption whose harm is known."""
    return Volume(volume.array // np.uint8(1 + severity)), mask


def cases(count=6) -> list[Case]:
    made = []
    for number in range(count):
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 255, (1, 40, 50)).astype(np.uint8)
        mask = np.zeros(pixels.shape, bool)
        mask[0, 10:30, 10:40] = True
        made.append(Case(f"case_{number}", f"group_{number}", "", Volume(pixels), mask, "benign"))
    return made


@pytest.fixture(scope="module")
def predictor(original_package):
    return Predictor(load_package(original_package), device="cpu")


def test_every_case_is_asked_once_per_corruption_and_severity_and_never_again(predictor, tmp_path) -> None:
    path = tmp_path / "answers.jsonl"
    book = AnswerBook(predictor, path)
    classes = predictor.package.manifest.findings.classes
    some = [one for one in CORRUPTIONS if one.name in ("noise", "missing_slices")]
    first = measure_natural(book, cases(2), classes, corruptions=some)
    assert [curve.corruption for curve in first.curves] == ["noise"]  # an image has no slices to lose
    assert book.computed == 2 + 2 * len(SEVERITIES)
    with path.open("a") as stream:
        stream.write('["cut off in')
    again = AnswerBook(predictor, path)
    assert measure_natural(again, cases(2), classes, corruptions=some) == first
    assert again.computed == 0


def test_a_volume_that_the_network_cannot_take_is_a_refusal(predictor) -> None:
    book = AnswerBook(predictor, None)
    flat = Volume(np.full((1, 30, 30), 7, np.uint8))
    assert book.of(flat, np.zeros(flat.shape, bool)).is_refused


class Reader:
    """Answers from the brightness of the image: something that a corruption harms by a known amount."""

    def of(self, volume: Volume, truth: np.ndarray) -> Answer:
        return Answer(float(volume.array.mean()) / 255)


def test_what_is_harmed_too_much_at_severity_two_fails_the_limit() -> None:
    found = measure_natural(Reader(), cases(), (), corruptions=[Corruption("dark", "darkness", darkened)])
    (curve,) = found.curves
    assert curve.faults == ("dice",)
    assert not found.passed
    lost = [step.drops[0].points for step in curve.steps]
    assert lost == sorted(lost)
    mild = Corruption("mild", "mild", lambda v, m, s, r: (v if s <= 2 else darkened(v, m, s, r)[0], m))
    kept = measure_natural(Reader(), cases(), (), corruptions=[mild])
    assert kept.passed
    assert kept.curves[0].steps[4].drops[0].points > 3


@pytest.fixture(scope="module")
def robustness() -> Robustness:
    before = [answer(0.8, 0.9 if k % 2 else 0.1) for k in range(10)]
    steps = []
    for severity in SEVERITIES:
        after = [answer(0.8 - 0.1 * severity, one.class_scores["malignant"]) for one in before]
        steps.append(Step(severity, drops_between(judged(10), before, after, CLASSES, draws=50)))
    rows = tuple(
        AttackRow("class", "PGD", level, 10, 0.2, 0.2 + level, 1.0, steps[k].drops)
        for k, level in enumerate(GREY_LEVELS)
    )
    natural = Natural((Curve("noise", "noise", 10, tuple(steps)),))
    return Robustness("ab" * 32, "scored", "cd" * 32, 10, natural, Adversarial(10, rows))


def test_what_was_measured_is_read_back_for_the_same_package_and_part_only(robustness, tmp_path) -> None:
    path = tmp_path / "robustness.json"
    write_robustness(robustness, path)
    same = {"package_digest": "ab" * 32, "subset": "scored", "split_sha256": "cd" * 32}
    assert read_robustness(path, **same) == robustness
    for change in ({"package_digest": "00" * 32}, {"subset": "frozen"}, {"split_sha256": "00" * 32}):
        assert read_robustness(path, **(same | change)) is None
    path.write_text("{")
    assert read_robustness(path, **same) is None
    assert read_robustness(tmp_path / "nothing.json", **same) is None


def test_curves_are_drawn_where_their_numbers_are(robustness) -> None:
    import re

    (chart,) = natural_charts(robustness.natural)
    assert chart.words == "noise"
    (line,) = re.findall(r'<polyline points="([^"]+)" class="curve"', chart.drawing)
    heights = [float(place.split(",")[1]) for place in line.split()]
    steps = np.diff(heights)
    assert len(heights) == 6
    assert steps == pytest.approx([steps[0]] * 5, abs=0.11)
    assert steps[0] > 10
    (attack,) = attack_charts(robustness.adversarial)
    assert attack.drawing.count("<polyline") >= 3
