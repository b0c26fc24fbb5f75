"""Another method's figure of each case: the file, the paired difference, what cannot be compared."""

import json
from pathlib import Path
from statistics import mean, stdev

import pytest

from models.evaluation import beside as module
from models.evaluation.beside import Beside, BesideError, Theirs, read_others, read_theirs, set_beside
from models.evaluation.case_result import CaseResult, plain_result
from models.evaluation.structures import StructureCase
from models.training.cases import Listed
from models.training.split import Split

PUBLISHED = Path(module.__file__).parent / "published" / "nnunet_hippocampus.csv"


def result(name: str, *dices: float | None, group: str = "") -> CaseResult:
    structures = tuple(
        StructureCase(label, dice, 1.0, 1.0, "mL")
        for label, dice in zip(("Front", "Back"), dices, strict=True)
    )
    known = [one for one in dices if one is not None]
    return CaseResult(
        name, group or name, mean(known) if known else None, True, 0, 1, 1, 1, None, None, None, structures
    )


RESULTS = [result(f"c{k}", 0.80 + 0.01 * k, 0.70) for k in range(10)]


def theirs(metric: str, less: float, cases=RESULTS, names=None) -> Theirs:
    figures = module.case_figures(cases)[metric]
    return Theirs((), {metric: {name: figures[name] - less for name in names or figures}})


@pytest.mark.parametrize("metric", ["dice", "dice_front", "dice_1", "dice_back", "dice_2"])
@pytest.mark.parametrize("less", [0.02, -0.006, -0.004])
def test_a_method_that_is_off_by_the_same_everywhere_differs_by_that_and_nothing_else(metric, less):
    (row,) = set_beside(theirs(metric, less), RESULTS, over="cases")
    assert row.difference == pytest.approx(less)
    assert row.ci95 == (pytest.approx(less), pytest.approx(less))
    assert row.ours - row.theirs == pytest.approx(less)
    assert row.is_not_worse == (less > -0.005)


def test_differences_are_paired_by_case_whatever_the_order_of_the_file():
    """Figures that vary between cases, and not between methods, leave no width."""
    backwards = [f"c{k}" for k in reversed(range(10))]
    (row,) = set_beside(theirs("dice_1", 0.01, names=backwards), RESULTS, over="cases")
    assert row.ci95 == (pytest.approx(0.01), pytest.approx(0.01))
    figures = module.case_figures(RESULTS)["dice_1"]
    mirrored = {name: figures[f"c{9 - k}"] for k, name in enumerate(figures)}
    (row,) = set_beside(Theirs((), {"dice_1": mirrored}), RESULTS, over="cases")
    assert row.difference == pytest.approx(0)
    assert row.ci95[0] < -0.02 < 0.02 < row.ci95[1]
    assert not row.is_not_worse


def test_cases_that_one_side_lacks_count_nowhere_but_are_counted():
    cases = [*RESULTS, result("c10", None, 0.7), result("c11", 0.1, 0.7)]
    others = theirs("dice_1", 0.01)
    others.values["dice_1"] |= {"c10": 0.9, "x": 0.9}
    (row,) = set_beside(others, cases, over="cases")
    assert (row.n, row.theirs_only, row.ours_only) == (10, 2, 1)
    assert row.difference == pytest.approx(0.01)


def test_cases_of_one_patient_are_drawn_together():
    spread = Theirs((), {"dice_2": {f"c{k}": 0.5 if k < 5 else 0.9 for k in range(10)}})
    alone = set_beside(spread, RESULTS, over="cases")[0].ci95
    grouped = [result(f"c{k}", 0.8, 0.7, group=f"g{k // 2}") for k in range(10)]
    together = set_beside(spread, grouped, over="cases")[0].ci95
    assert together[1] - together[0] > 1.2 * (alone[1] - alone[0])


def test_too_few_groups_have_no_interval_and_show_nothing():
    (row,) = set_beside(theirs("dice_1", 0.2), RESULTS[:4], over="cases")
    assert row.ci95 is None
    assert not row.is_not_worse


def test_results_of_other_folds_join_in_a_row_of_their_own(tmp_path):
    folds = {one.name: int(k >= 6) for k, one in enumerate(RESULTS)}
    split = Split(folds, {name: Listed(name, name, "", name) for name in folds}, "0" * 64)
    file = tmp_path / "results.json"
    file.write_text(json.dumps([plain_result(one) for one in RESULTS[6:]]))
    others = read_others([file], split)
    assert others == tuple(RESULTS[6:])
    rows = Beside(theirs("dice_1", 0.01), others).report(RESULTS[:6]).rows
    assert [(row.n, row.over) for row in rows] == [(6, "cases judged here"), (10, "cases of all folds")]
    with pytest.raises(BesideError, match="case c6 is there twice"):
        read_others([file, file], split)
    file.write_text(json.dumps([plain_result(one) for one in RESULTS]))
    with pytest.raises(BesideError, match="case c0 is there twice, or is none of another fold"):
        read_others([file], split)
    file.write_text("[1]")
    with pytest.raises(BesideError, match="no file of results"):
        read_others([file], split)


def test_what_cannot_be_compared_is_refused_before_anything_is_predicted():
    labels, names = ("Front", "Back"), [one.name for one in RESULTS]
    Beside(theirs("dice_2", 0.0)).check(names, labels)
    with pytest.raises(BesideError, match="hd95_1 is no figure") as refused:
        Beside(Theirs((), {"hd95_1": {"c0": 0.5}})).check(names, labels)
    assert "Known: dice, dice_front, dice_1, dice_back, dice_2." in str(refused.value)
    with pytest.raises(BesideError, match="dice_1 is no figure"):
        Beside(theirs("dice_1", 0.0)).check(names, ())
    with pytest.raises(BesideError, match="none of their cases"):
        Beside(Theirs((), {"dice": {"x": 0.5}})).check(names, labels)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,metric,value\n", "does not begin with case,metric,value"),
        ("", "does not begin with"),
        ("# x\ncase,metric,value\n", "holds no figure"),
        ("case,metric,value\n\na,dice,92.7\n", r"line 3.*92.7 is not between 0 and 1"),
        ("case,metric,value\na,dice,nan\n", "not between"),
        ("case,metric,value\na,dice,good\n", "'good' is no number"),
        ("case,metric,value\na,dice\n", "has 2 columns"),
        ("# x\ncase,metric,value\na,dice,1\na,dice,0.5\n", r"line 4.*dice of a is there twice"),
    ],
    ids=["header", "nothing", "no rows", "percent", "no figure", "words", "columns", "twice"],
)
def test_a_file_that_does_not_follow_the_form_is_refused_with_its_line(tmp_path, text, words):
    file = tmp_path / "theirs.csv"
    file.write_text(text)
    with pytest.raises(BesideError, match=words) as refused:
        read_theirs(file)
    assert str(file) in str(refused.value)
    with pytest.raises(BesideError, match="cannot be read"):
        read_theirs(tmp_path / "nowhere.csv")


def test_the_published_figures_of_nnunet_are_those_that_were_published():
    published = read_theirs(PUBLISHED)
    values = list(published.values["dice_1"].values())
    assert len(values) == 110
    assert mean(values) == pytest.approx(0.8971, abs=1e-4)
    assert stdev(values) == pytest.approx(0.0280, abs=1e-4)
    assert min(values) == 0.7988
    assert published.words[0].startswith("nnU-Net")
