"""What a sorter learns from, how its thresholds are chosen and how it is judged."""

import numpy as np
import pytest
import torch
from tiny_sorter import QUESTIONS, RECIPE
from torch import nn

from models.networks.building import build_own_network
from models.sorting.cases import (
    ALWAYS_TRAINED,
    ONLY_JUDGED,
    OTHER,
    SortingCase,
    leaks,
    prepare,
    views_of,
    write_split,
)
from models.sorting.judging import (
    DEGRADED,
    ELSEWHERE,
    GENERATED,
    ODD,
    REAL,
    chosen_threshold,
    confusion,
    figures,
    judge,
    share_by_group,
    source_of,
)
from models.sorting.learning import (
    NOT_KNOWN,
    FeatureTable,
    SortBatch,
    SortingObjective,
    feature_table,
    row_chances,
    truth_index,
)
from models.sorting.making import SorterError, make_sorter
from models.sorting.odd_ones import MAKERS, odd_cases
from models.sorting.real_cases import sector, turned_over
from models.training.checkpoint import RunIdentity
from models.training.clock import LoopLimits
from models.training.loop import train

READING = RECIPE.input
BODY, MODALITY, CONTRAST, QUALITY = QUESTIONS


def case(name="a", *, group="p", fold=1, kind="brain-flair", generated=False, seed=1, **truth):
    rng = np.random.default_rng(seed)
    array = rng.uniform(0, 1, (9, 40, 50)).cumsum(1)
    return SortingCase(name, group, kind, fold, generated, array, truth or {"quality": "fine"})


def test_a_series_is_seen_as_it_is_and_once_degraded_in_a_way_that_is_named():
    plain, worse = views_of(case(body_part="head", quality="fine"), READING, seed=1)
    assert plain.truth == {"body_part": "head", "quality": "fine"}
    assert worse.truth["quality"] in ("noisy", "blurred")
    assert worse.truth["body_part"] == "head"
    assert not np.array_equal(plain.canvases[: plain.judged], worse.canvases[: worse.judged])
    assert plain.judged == 3
    assert len(plain.canvases) > 3


@pytest.mark.parametrize("seed", range(6))
def test_noise_makes_neighbours_differ_more_and_blur_less(seed):
    rows, columns = np.indices((60, 60)) / 60
    smooth = np.tile(np.sin(rows * 9) + np.cos(columns * 7) + (rows > 0.5), (5, 1, 1))
    plain, worse = views_of(
        SortingCase("x", "p", "k", 1, False, smooth, {"quality": "fine"}), READING, seed=seed
    )
    steps = [np.abs(np.diff(view.canvases[0].astype(float), axis=0)).max() for view in (plain, worse)]
    assert steps[1] > steps[0] if worse.truth["quality"] == "noisy" else steps[1] < steps[0]


def test_a_series_whose_quality_is_not_known_is_not_degraded():
    assert len(views_of(case(body_part="head"), READING, seed=1)) == 1


def test_a_patient_or_a_picture_in_two_folds_is_named():
    first = views_of(case("a", body_part="head"), READING, seed=1)
    same_patient = views_of(case("b", fold=2, seed=2, body_part="head"), READING, seed=1)
    same_pixels = views_of(case("c", group="q", fold=2, body_part="head"), READING, seed=1)
    assert leaks(first) == []
    assert "share one group" in leaks([*first, *same_patient])[0]
    assert "share one content" in leaks([*first, *same_pixels])[0]


def test_nothing_is_made_from_series_that_leak(tmp_path):
    views = prepare([case("a"), case("b", fold=2, seed=2)], READING, seed=1)
    with pytest.raises(SorterError, match="share one group"):
        make_sorter(RECIPE, views, [], tmp_path, released="2026-11-22", progress=lambda fold, line: None)


def test_the_split_lists_every_view_with_fold_and_truth(tmp_path):
    views = prepare([case("a", body_part="head", quality="fine")], READING, seed=1)
    write_split(tmp_path / "split.csv", views)
    lines = (tmp_path / "split.csv").read_text().splitlines()
    assert len(lines) == 1 + len(views)
    assert "body_part=head quality=fine" in lines[1]


def test_truths_are_outputs_and_what_is_not_known_is_none():
    assert truth_index(BODY, {"body_part": "trunk"}) == 2
    assert truth_index(BODY, {"body_part": OTHER}) == 3
    assert truth_index(BODY, {}) == NOT_KNOWN
    assert truth_index(CONTRAST, {"contrast": OTHER}) == NOT_KNOWN


def table(rows, truths, owners):
    return FeatureTable(torch.zeros(rows, 3), torch.tensor(truths), torch.tensor(owners))


def test_a_question_without_truth_teaches_nothing_and_each_head_only_its_own():
    head = nn.Linear(3, 14)
    objective = SortingObjective(head, table(1, [[0, -1, -1, 1]], [0]), torch.ones(1), QUESTIONS, 1, 0.0)
    batch = SortBatch(torch.ones(1, 3), torch.tensor([[0, NOT_KNOWN, NOT_KNOWN, 1]]))
    terms = objective.terms(objective.forward(head, batch), batch)
    terms["total"].backward()
    moved = head.weight.grad.abs().sum(1) > 0
    assert moved.tolist() == [True] * 4 + [False] * 7 + [True] * 3
    assert terms["modality"] == 0
    assert terms["contrast"] == 0
    swapped = batch._replace(truths=torch.tensor([[1, NOT_KNOWN, NOT_KNOWN, 0]]))
    assert objective.terms(objective.forward(head, swapped), swapped)["body_part"] != terms["body_part"]


def test_kinds_are_drawn_by_their_shares_whatever_their_numbers():
    views = [
        *views_of(case("a", body_part="head"), READING, seed=1),
        *views_of(case("b", kind="breast-us", group="q", seed=2, body_part="breast"), READING, seed=1),
        *views_of(case("c", kind="breast-us", group="r", seed=3, body_part="breast"), READING, seed=1),
    ]
    chances = row_chances(
        table(5, [[0] * 4] * 5, [0, 0, 0, 1, 2]), views, {"brain-flair": 0.3, "breast-us": 0.7}
    )
    assert chances.tolist() == pytest.approx([0.1, 0.1, 0.1, 0.35, 0.35])


def test_a_head_learns_what_its_features_say(tmp_path):
    truths = torch.stack([torch.arange(60) % 3, *[torch.full((60,), -1)] * 2, torch.zeros(60)])
    truths = truths.T.long()
    features = torch.nn.functional.one_hot(truths[:, 0], 3).float()
    head = nn.Linear(3, 14)
    objective = SortingObjective(
        head,
        FeatureTable(features, truths, torch.arange(60)),
        torch.ones(60),
        QUESTIONS,
        16,
        0.0,
    )
    settings = RECIPE.training.model_copy(
        update={"steps": 60, "batch": 16, "rate": 0.2, "warm_up_steps": 1, "ema_decay": 0.5}
    ).settings()
    identity = RunIdentity(1, "0" * 64, "1" * 64)
    limits = LoopLimits(60)
    train(
        objective, settings, tmp_path, identity=identity, limits=limits, resume=False, progress=lambda _: None
    )
    assert torch.equal(head(features)[:, :4].argmax(1), truths[:, 0])


@pytest.mark.parametrize(
    ("scores", "right", "wrong_max", "expected"),
    [
        ([0.9, 0.8, 0.7], [True, True, True], 0.0, 0.7),
        ([0.9, 0.8, 0.7], [True, True, False], 0.0, 0.8),
        ([0.9, 0.8, 0.7], [True, False, True], 0.34, 0.7),
        ([0.9, 0.8, 0.7], [False, True, True], 0.1, 1.0),
        ([0.9, 0.9, 0.8], [True, False, True], 0.0, 1.0),  # equal scores share a fate
        ([0.4, 0.3], [True, True], 0.0, 0.5),  # never below the least
        ([], [], 0.0, 1.0),
    ],
)
def test_a_threshold_is_the_lowest_score_with_few_enough_wrong(scores, right, wrong_max, expected):
    assert chosen_threshold(scores, right, wrong_max=wrong_max, least=0.5) == expected


def test_a_patient_with_many_series_counts_once():
    value, ci95, patients = share_by_group([True, True, True, False], ["a", "a", "a", "b"])
    assert (value, patients) == (0.5, 2)
    assert ci95 == (0.0, 1.0)


@pytest.mark.parametrize(
    ("kind", "fold", "generated", "truth", "question", "expected"),
    [
        ("brain-flair", 0, False, {"quality": "fine"}, "body_part", REAL),
        ("brain-flair", 0, False, {"quality": "noisy"}, "body_part", DEGRADED),
        ("brain-flair", 0, False, {"quality": "noisy"}, "quality", REAL),
        ("phantom-t1", 0, True, {"quality": "fine"}, "body_part", GENERATED),
        ("ct-real", ONLY_JUDGED, False, {"quality": "fine"}, "body_part", ELSEWHERE),
        ("ct-real", ALWAYS_TRAINED, False, {"quality": "fine"}, "body_part", REAL),
        ("odd-dicom", ONLY_JUDGED, False, {}, "body_part", ODD),
    ],
)
def test_real_generated_and_foreign_series_are_told_apart(kind, fold, generated, truth, question, expected):
    (view, *_) = views_of(case(kind=kind, fold=fold, generated=generated, body_part="head"), READING, seed=1)
    view = view.__class__(**{**view.__dict__, "truth": truth})
    assert source_of(view, question) == expected


def test_unknown_is_right_of_what_is_not_on_the_list_and_wrong_of_nothing():
    views = [
        *views_of(case("a", fold=0, body_part="head"), READING, seed=1),
        *views_of(case("b", group="q", fold=0, seed=2, body_part=OTHER), READING, seed=1),
        *views_of(case("c", group="r", fold=0, seed=3, body_part="trunk"), READING, seed=1),
    ]
    level = np.full(4, 0.25)
    sure = np.array([0.97, 0.01, 0.01, 0.01])
    judged = judge(QUESTIONS, views, [{"body_part": sure}, {"body_part": level}, {"body_part": sure}])
    assert [(one.is_right, one.is_wrong) for one in judged] == [(True, False), (True, False), (False, True)]
    rows = {row.metric: row.value for row in figures(judged, "scored", "0" * 64, QUESTIONS)}
    assert rows == {
        "accuracy_body_part_real": pytest.approx(2 / 3, abs=1e-4),
        "wrong_body_part_real": pytest.approx(1 / 3, abs=1e-4),
        "missed_body_part_real": 0.0,
    }
    assert confusion(judged, "body_part", REAL) == {
        ("head", "head"): 1,
        (OTHER, "unknown"): 1,
        ("trunk", "head"): 1,
    }


def test_odd_pictures_show_something_are_repeated_by_their_seed_and_fill_all_folds():
    cases = list(odd_cases(9 * 5, seed=3))
    again = list(odd_cases(9 * 5, seed=3))
    assert all(np.array_equal(a.array, b.array) for a, b in zip(cases, again, strict=True))
    assert {one.name.split("-")[1] for one in cases} == set(MAKERS)
    assert {one.fold for one in cases} == set(range(5))
    assert all(len(views_of(one, READING, seed=1)) == 1 for one in cases)


def test_greys_are_turned_over_in_tissue_and_air_stays_black():
    head = np.zeros((3, 40, 40))
    head[:, 8:32, 8:32] = 0.9
    head[:, 14:20, 14:20] = 0.3
    turned = turned_over(head)
    assert turned[1, 16, 16] > turned[1, 26, 26]
    assert turned[:, :5].max() == 0


def test_a_sector_is_black_beside_its_beam_and_shows_the_image_within():
    bent = sector(np.full((80, 100), 50.0), np.random.default_rng(1))
    assert bent.shape == (100, 100)
    assert bent[2, 2] == 0
    assert bent[2, -3] == 0
    assert bent[50, 50] == pytest.approx(50, abs=1)


def test_features_of_plain_and_changed_images_are_kept_with_their_truth():
    views = [
        *views_of(case("a", body_part="head", quality="fine"), READING, seed=1),
        *views_of(case("b", group="q", fold=ONLY_JUDGED, seed=2, body_part="head"), READING, seed=1),
    ]
    network = build_own_network(RECIPE.network)
    found = feature_table(network, views, QUESTIONS, seed=1, rows_least=24, copies_max=4)
    again = feature_table(network, views, QUESTIONS, seed=1, rows_least=24, copies_max=4)
    assert torch.equal(found.features, again.features)
    # Two views of one series, three images each, as they are and four times changed; none of the other.
    assert found.features.shape == (2 * 3 * 5, 384)
    assert set(found.views.tolist()) == {0, 1}
    plain = torch.from_numpy(views[0].canvases[:1]).float()[:, None] / 255 * 2 - 1
    network.eval()
    with torch.inference_mode():
        assert torch.allclose(found.features[:1], network.at_all_scales(plain), atol=1e-4)
    assert set(found.truths[:, 3].tolist()) <= {NOT_KNOWN, 0, 1, 2}
    assert set(found.truths[:, 0].tolist()) == {0}
