import numpy as np
import pytest
from scipy import stats

from models.evaluation.bootstrap import drawn, interval, paired, widened
from models.evaluation.classification import auc


def test_the_interval_of_a_mean_is_that_of_scipy() -> None:
    values = np.random.default_rng(3).normal(10, 2, 60)
    ours = interval(lambda i: float(values[i].mean()), [str(k) for k in range(60)], draws=1500)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=1500, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.08)


def test_every_draw_keeps_the_number_of_groups_of_each_stratum() -> None:
    strata = ["yes"] * 3 + ["no"] * 17
    groups = [str(k) for k in range(20)]
    stratified = [int((i < 3).sum()) for i in drawn(groups, strata, seed=1, draws=50)]
    assert set(stratified) == {3}
    assert len({int((i < 3).sum()) for i in drawn(groups, None, seed=1, draws=50)}) > 1


def test_a_stratum_keeps_a_rare_kind_in_every_draw() -> None:
    positive = np.array([True] * 2 + [False] * 30)
    scores = np.linspace(1, 0, 32)
    calls = []

    def area(indices):
        calls.append(positive[indices].any())
        return auc(scores[indices], positive[indices])

    interval(
        area, [str(k) for k in range(32)], strata=["yes" if flag else "no" for flag in positive], draws=60
    )
    assert all(calls)


def test_a_draw_holds_whole_groups_of_any_size() -> None:
    groups = ["a", "b", "a", "c", "b", "a"]
    for indices in drawn(groups, None, seed=2, draws=40):
        counts = np.bincount(indices, minlength=6)
        assert counts[0] == counts[2] == counts[5]
        assert counts[1] == counts[4]
        assert counts[0] + counts[1] + counts[3] == 3


def test_groups_of_one_case_are_drawn_as_those_of_more() -> None:
    for strata in (None, ["yes", "no", "no", "yes", "no"]):
        alone = list(drawn(["b", "a", "c", "e", "d"], strata, seed=2, draws=20))
        twice = drawn(
            [one for one in "baced" for _ in "12"], strata and list(np.repeat(strata, 2)), seed=2, draws=20
        )
        for one, two in zip(alone, twice, strict=True):
            assert np.array_equal(np.repeat(one, 2), two // 2)


def test_a_group_in_two_strata_is_refused() -> None:
    with pytest.raises(ValueError, match="group one lies in the strata a, b"):
        interval(lambda i: 0.0, ["one", "one"], strata=["a", "b"])


def test_pairs_show_a_difference_that_single_intervals_hide() -> None:
    generator = np.random.default_rng(5)
    hardness = generator.normal(0.7, 0.15, 60)
    first, second = hardness, hardness + 0.02 + generator.normal(0, 0.01, 60)
    groups = [str(k) for k in range(60)]

    def mean_of(values):
        return lambda i: float(values[i].mean())

    alone = [interval(mean_of(values), groups, draws=400) for values in (first, second)]
    difference = paired(mean_of(first), mean_of(second), groups, draws=400)
    assert alone[0][1] > alone[1][0]
    assert difference.ci95[0] > 0
    assert difference.value == pytest.approx(second.mean() - first.mean())
    assert difference.share_above == 1
    backwards = paired(mean_of(second), mean_of(first), groups, draws=400)
    assert backwards.ci95 == pytest.approx((-difference.ci95[1], -difference.ci95[0]))


def test_a_model_against_itself_differs_by_nothing() -> None:
    values = np.random.default_rng(6).random(30)
    same = paired(*[lambda i: float(values[i].mean())] * 2, [str(k) for k in range(30)], draws=100)
    assert (same.value, same.ci95, same.share_above) == (0, (0, 0), 0.5)


def test_all_of_a_few_is_not_certain() -> None:
    exact = stats.binomtest(21, 21).proportion_ci(0.95, method="exact")
    flat = interval(lambda i: 1.0, [str(k) for k in range(21)], draws=10)
    assert widened(flat, 21) == pytest.approx((exact.low, exact.high))
    assert widened((0.0, 0.0), 21) == pytest.approx((1 - exact.high, 1 - exact.low))
    assert widened((0.9, 1.0), 21) == (0.9, 1.0)
