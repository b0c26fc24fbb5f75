"""The distance of features: against closed forms and scikit-learn, and a file nobody can trick it with."""

import numpy as np
import pytest
from safetensors.numpy import load, save
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA

from models.ood.block import COMPONENTS_MAX, FILE_BYTES_MAX, Ood, OodAction, OodLimits
from models.ood.fitting import (
    CASES_MIN,
    TooFewCases,
    cross_fitted_distances,
    fit_statistics,
    limits_of,
)
from models.ood.statistics import FeatureStatistics, StatisticsError, read_statistics, to_bytes


def drawn(count, features=60, rank=40, seed=0):
    """Vectors whose spread falls from direction to direction."""
    rng = np.random.default_rng([7, seed])
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(features, features)))[0]
    spread = np.r_[np.geomspace(5, 0.5, rank), np.full(features - rank, 0.05)]
    return rng.normal(size=(count, features)) * spread @ turn + 3


def block_of(statistics, **changes):
    values = {
        "layer": "bottleneck",
        "file": "ood.safetensors",
        "features": statistics.axes.shape[1],
        "components": statistics.axes.shape[0],
        "shrinkage": 0.1,
        "limits": OodLimits(near=1.5, far=2.0),
        "inputs": (),
        "action": OodAction(),
        "n": 100,
        "n_generated": 0,
        "n_unseen": 100,
        "split_sha256": None,
    }
    return Ood(**(values | changes))


def test_distance_of_a_round_cloud_is_that_of_pythagoras():
    statistics = FeatureStatistics(np.array([1.0, 2, 3]), np.eye(2, 3), np.eye(2), 1.0)
    assert statistics.distance(np.array([[1.0, 2, 3], [4, 6, 3], [1, 2, 15]])) == pytest.approx([0, 5, 12])


def test_what_no_training_case_varied_in_counts_in_units_of_the_little_it_did():
    statistics = FeatureStatistics(np.zeros(3), np.eye(2, 3), np.eye(2), 0.01)
    along, beside = statistics.distance(np.array([[1.0, 0, 0], [0, 0, 1.0]]))
    assert (along, beside) == pytest.approx((1, 10))


def test_inside_the_components_it_is_ledoit_and_wolfs_distance():
    vectors = drawn(80)
    statistics, shrinkage = fit_statistics(vectors)
    scores = PCA(COMPONENTS_MAX, svd_solver="full").fit_transform(vectors)
    theirs = LedoitWolf(assume_centered=True).fit(scores)
    assert shrinkage == pytest.approx(theirs.shrinkage_)
    inside = vectors.mean(0) + (vectors - vectors.mean(0)) @ statistics.axes.T @ statistics.axes
    assert statistics.distance(inside) == pytest.approx(np.sqrt(theirs.mahalanobis(scores)), rel=1e-6)


def test_a_new_unit_divides_every_distance():
    vectors = drawn(50)
    statistics, _ = fit_statistics(vectors)
    assert statistics.in_units_of(4.0).distance(vectors) == pytest.approx(statistics.distance(vectors) / 4)


def test_a_case_has_no_part_in_the_statistics_it_is_measured_by():
    vectors, folds = drawn(60), np.arange(60) % 5
    before = cross_fitted_distances(vectors, folds)
    changed = vectors.copy()
    changed[5] += 50  # fold 0
    after = cross_fitted_distances(changed, folds)
    same = (folds == 0) & (np.arange(60) != 5)
    assert after[same] == pytest.approx(before[same])
    assert after[5] > 5 * before[5]


def test_without_cross_fitting_new_cases_would_pass_the_limit_far_too_often():
    vectors, new = drawn(60), drawn(2000, seed=1)
    statistics, _ = fit_statistics(vectors)
    own = limits_of(statistics.distance(vectors), np.zeros(60, bool))
    crossed = limits_of(cross_fitted_distances(vectors, np.arange(60) % 5), np.zeros(60, bool))
    beyond = statistics.distance(new)
    assert (beyond > own.near).mean() > 0.3
    assert (beyond > crossed.near).mean() < 0.12


def test_limits_are_the_two_percentiles_of_the_unseen_cases_and_of_all_where_those_are_few():
    distances = np.exp(np.random.default_rng(1).normal(0, 0.2, 4000))
    wanted = np.exp(0.2 * np.array([1.645, 2.576]))
    limits = limits_of(distances, np.zeros(4000, bool))
    assert (limits.near, limits.far) == pytest.approx(wanted, rel=0.03)
    nearer = np.r_[distances[:2000] / 2, distances[2000:]]
    limits = limits_of(nearer, np.arange(4000) < 2000)
    assert (limits.near, limits.far) == pytest.approx(wanted / 2, rel=0.05)
    limits = limits_of(nearer, np.arange(4000) < CASES_MIN - 1)
    assert limits.near > wanted[0] * 0.85


def test_few_cases_do_not_make_the_far_limit_pass_one_new_case_in_twenty():
    rng = np.random.default_rng(2)
    beyond = [
        (
            np.exp(rng.normal(0, 0.2, 400)) > limits_of(np.exp(rng.normal(0, 0.2, 20)), np.ones(20, bool)).far
        ).mean()
        for _ in range(200)
    ]
    assert np.mean(beyond) < 0.008


@pytest.mark.parametrize("vectors", [drawn(CASES_MIN - 1), np.ones((50, 8))], ids=["few", "all one"])
def test_cases_that_do_not_say_what_usual_is_are_refused(vectors):
    with pytest.raises(TooFewCases):
        fit_statistics(vectors)


def test_the_file_gives_the_same_distances(tmp_path):
    vectors = drawn(50)
    statistics, _ = fit_statistics(vectors)
    path = tmp_path / "ood.safetensors"
    path.write_bytes(to_bytes(statistics))
    again = read_statistics(path, block_of(statistics))
    assert again.distance(vectors) == pytest.approx(statistics.distance(vectors), rel=1e-4)


def changed(**arrays):
    def change(content):
        return save(load(content) | {name: np.asarray(value, np.float32) for name, value in arrays.items()})

    return change


HOSTILE = {
    "not safetensors": (lambda c: b"\x80\x04pickle", "not readable"),
    "cut off": (lambda c: c[:-20], "not readable"),
    "empty": (lambda c: b"", "not readable"),
    "header larger than the file": (lambda c: (1 << 40).to_bytes(8, "little") + c[8:], "not readable"),
    "too large": (lambda c: c + bytes(FILE_BYTES_MAX), "at most"),
    "another array": (changed(more=[1]), "holds"),
    "other shape": (changed(mean=np.zeros(61)), "mean is"),
    "other numbers": (lambda c: save(load(c) | {"mean": np.zeros(60, np.float64)}), "mean is float64"),
    "not a number": (changed(mean=np.full(60, np.nan)), "not finite"),
    "axes that are not orthonormal": (changed(axes=np.zeros((32, 60))), "orthonormal"),
    "no weight inside": (changed(whitening=np.zeros((32, 32))), "counts nothing"),
    "no weight outside": (changed(rest_variance=[0]), "counts nothing"),
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_a_hostile_file_is_refused_by_what_is_wrong(tmp_path, name):
    change, words = HOSTILE[name]
    statistics, _ = fit_statistics(drawn(50))
    path = tmp_path / "ood.safetensors"
    path.write_bytes(change(to_bytes(statistics)))
    with pytest.raises(StatisticsError, match=words):
        read_statistics(path, block_of(statistics))
