"""Packages of structures: what a manifest may say, how maps become labels, how each structure is cleaned."""

import copy
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from two_ranges import PACKAGE_ID, manifest_of, set_by_hand, truth_of, two_parts, write_two_ranges

from models.inference.wanted import Wanted, decided_map, labels_of, probabilities_of
from models.manifest import Manifest
from models.package import PackageError, parse_manifest
from models.predictor import Predictor, read_golden
from models.steps import FillHoles, KeepLargest, MinComponent
from models.structure_labels import cleaned, mean_probabilities
from models.structure_prediction import predict_structures
from models.volume import Volume

FILES = [
    {"path": f"{role}.bin", "role": role, "bytes": 1, "sha256": "0" * 64}
    for role in ("weights", "golden_in", "golden_out", "card")
]


def parsed(**changes) -> Manifest:
    return parse_manifest(manifest_of(files=FILES, **changes), "model.json")


def changed(edit) -> dict:
    content = copy.deepcopy(manifest_of(files=FILES))
    edit(content)
    return content


def volume_of(image: np.ndarray, spacing=(1.0, 1.0, 1.0)) -> Volume:
    affine = np.diag([spacing[2], spacing[1], spacing[0], 1.0])
    return Volume(image.astype(np.float32), affine, (spacing[1], spacing[2]), spacing[0])


def predicted(image, manifest=None, **options):
    volume = image if isinstance(image, Volume) else volume_of(image)
    return predict_structures(volume, manifest or parsed(), set_by_hand(), torch.device("cpu"), **options)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return write_two_ranges(tmp_path_factory.mktemp("packages") / PACKAGE_ID)


def test_the_network_set_by_hand_outlines_its_ranges_exactly():
    image = two_parts()
    found = predicted(image, with_maps=True)
    assert np.array_equal(found.structures.labels, truth_of(image))
    assert found.structures.voxels == tuple(np.bincount(truth_of(image).ravel())[1:])
    assert found.maps.shape == (2, *image.shape)
    for number, score in enumerate(found.structures.scores, start=1):
        inside = truth_of(image) == number
        assert score == pytest.approx(found.maps[number - 1][inside].mean(), abs=1e-5)
        assert score > 0.9
        assert np.allclose(found.decided[inside], found.maps[number - 1][inside])
    assert not found.decided[truth_of(image) == 0].any()


def test_a_turned_volume_gives_the_turned_outline():
    image = two_parts()
    turned = Volume(
        np.ascontiguousarray(image[::-1, :, ::-1]).astype(np.float32),
        np.array([[-1.0, 0, 0, 35], [0, 1, 0, 0], [0, 0, -1, 9], [0, 0, 0, 1]]),
        (1.0, 1.0),
        1.0,
    )
    found = predicted(turned).structures.labels
    assert np.array_equal(found, truth_of(image)[::-1, :, ::-1])


def test_a_prediction_of_structures_says_what_was_not_found(package):
    predictor = Predictor(package, device="cpu")
    found = predictor.predict(volume_of(two_parts(posterior=False)))
    assert found.structure_scores[0] is not None
    assert found.structure_scores[1] is None
    assert found.lesion_scores == ()
    assert found.class_name is None
    assert set(np.unique(found.labels)) == {0, 1}


def test_golden_case_passes_and_holds_a_map_for_each_structure(package):
    assert Predictor(package, device="cpu").verify_golden().passed
    volume, expected, _ = read_golden(package)
    assert expected.shape == (2, *volume.shape)


def test_sigmoid_maps_take_a_threshold_and_the_strongest_wins():
    def edit(content):
        content["grid"]["tiling"]["activation"] = "sigmoid"
        content["postprocess"] = [{"step": "threshold", "probability": 0.7}]

    manifest = parse_manifest(changed(edit), "model.json")
    image = two_parts()
    found = predicted(image, manifest, with_maps=True)
    strongest = np.where(found.maps.max(0) >= 0.7, found.maps.argmax(0) + 1, 0)
    assert np.array_equal(found.structures.labels, strongest)
    assert np.array_equal(found.structures.labels, truth_of(image))


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.float32, (5, 4, 3), elements=st.floats(-8, 8, width=32)), st.booleans())
def test_the_probability_that_was_decided_on_is_that_of_the_label(logits, several):
    wanted = Wanted(5, "softmax", ((1, 3), (2,)) if several else ((3,), (1,)), decided=True)
    values = torch.from_numpy(logits)
    labels = labels_of(values, wanted, are_probabilities=False)
    likely = probabilities_of(values, wanted)
    found = decided_map(likely, wanted, labels)
    for label, heads in enumerate(wanted.structures, start=1):
        chosen = labels == label
        assert torch.allclose(found[chosen], likely[list(heads)].sum(0)[chosen], atol=1e-6)
    assert not found[labels == 0].any()


def test_each_structure_is_cleaned_by_itself():
    labels = np.zeros((1, 12, 12), np.uint16)
    labels[0, 1:6, 1:6] = 1
    labels[0, 3, 3] = 0  # a hole
    labels[0, 9, 9] = 1  # an island
    labels[0, 8:11, 1:4] = 2
    labels[0, 1, 10] = 2  # an island of the other
    largest = cleaned(labels, [KeepLargest(step="keep_largest", segments=(1,))], count=2, voxel_ml=None)
    assert largest[0, 9, 9] == 0
    assert largest[0, 1, 10] == 2
    both = cleaned(labels, [KeepLargest(step="keep_largest")], count=2, voxel_ml=None)
    assert both[0, 1, 10] == 0
    small = MinComponent(step="min_component", minimum_ml=0.002)
    assert cleaned(labels, [small], count=2, voxel_ml=0.001)[0, 9, 9] == 0
    assert cleaned(labels, [small], count=2, voxel_ml=0.002)[0, 9, 9] == 1
    filled = cleaned(labels, [FillHoles(step="fill_holes", segments=(1,))], count=2, voxel_ml=None)
    assert filled[0, 3, 3] == 1
    assert (filled != labels).sum() == 1
    assert labels[0, 3, 3] == 0  # the original is left alone


def test_a_structure_inside_another_one_is_no_hole():
    labels = np.zeros((1, 9, 9), np.uint16)
    labels[0, 1:8, 1:8] = 1
    labels[0, 3:6, 3:6] = 2
    labels[0, 4, 4] = 0
    filled = cleaned(labels, [FillHoles(step="fill_holes")], count=2, voxel_ml=None)
    # The hole in the middle lies in both, and belongs to the one around it.
    assert (filled == 2).sum() == 9
    assert (filled == 1).sum() == 49 - 9


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.uint16, (2, 6, 6), elements=st.integers(0, 3)))
def test_cleaning_never_turns_one_structure_into_another(labels):
    steps = [
        FillHoles(step="fill_holes"),
        MinComponent(step="min_component", minimum_share=0.1),
        KeepLargest(step="keep_largest"),
    ]
    after = cleaned(labels, steps, count=3, voxel_ml=None)
    assert np.array_equal(after[(labels > 0) & (after > 0)], labels[(labels > 0) & (after > 0)])
    untouched = cleaned(labels, [FillHoles(step="fill_holes")], count=3, voxel_ml=None)
    assert np.array_equal(untouched[labels > 0], labels[labels > 0])
    dropped = cleaned(labels, steps[1:], count=3, voxel_ml=None)
    assert np.isin(dropped[dropped != labels], 0).all()


def test_mean_probability_is_of_voxels_the_network_gave_and_that_were_kept():
    labels = np.array([[[1, 1, 2, 0, 1]]], np.uint16)
    decided = np.array([[[0.5, 0.9, 0.6, 0.8, 0.0]]], np.float32)  # the fourth dropped, the fifth filled
    assert mean_probabilities(labels, decided, count=3) == (pytest.approx(0.7), pytest.approx(0.6), None)


REFUSED = {
    "no heads": (lambda c: c["findings"]["segments"][1].update(heads=[]), "heads of its own"),
    "one head twice": (lambda c: c["findings"]["segments"][1].update(heads=[1]), "heads of its own"),
    "a head that is not there": (lambda c: c["findings"]["segments"][1].update(heads=[3]), "has 3 heads"),
    "numbers with a gap": (lambda c: c["findings"]["segments"][1].update(number=3), "numbered 1, 2, 3"),
    "one label twice": (
        lambda c: c["findings"]["segments"][1].update(label="Hippocampus anterior"),
        "one label",
    ),
    "a negative statement": (
        lambda c: c["findings"].update(negative_statement="No lesion."),
        "no negative_statement",
    ),
    "a volume that is urgent": (lambda c: c["findings"].update(urgent_ml=3.0), "no negative_statement"),
    "a total of what is not there": (
        lambda c: c["findings"]["totals"][0].update(segments=[1, 4]),
        "totals names a segment",
    ),
    "diameters": (
        lambda c: c["findings"]["measurements"][0].update(name="long_axis_mm"),
        "structures are measured by",
    ),
    "lesion heads": (lambda c: c["grid"]["tiling"].update(lesion_heads=[1]), "names the maps of lesions"),
    "argmax of sigmoid": (lambda c: c["grid"]["tiling"].update(activation="sigmoid"), "argmax for softmax"),
    "no argmax": (
        lambda c: c.update(postprocess=[{"step": "threshold", "probability": 0.5}]),
        "argmax for softmax",
    ),
    "a peak": (
        lambda c: c["postprocess"].append({"step": "min_peak", "probability": 0.5}),
        "fill_holes, min_component and keep_largest",
    ),
    "a step for what is not there": (
        lambda c: c["postprocess"].append({"step": "keep_largest", "segments": [3]}),
        "there are 2 segments",
    ),
    "a golden case without sizes": (
        lambda c: c["golden"].update(structure_voxels=[]),
        "one number for each structure",
    ),
    "structures said to be lesions": (
        lambda c: c["findings"].update(kind="lesions"),
        "need a negative_statement",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_manifest_that_contradicts_itself_is_refused(name):
    edit, words = REFUSED[name]
    parse_manifest(manifest_of(files=FILES), "model.json")
    with pytest.raises(PackageError, match=words):
        parse_manifest(changed(edit), "model.json")


def test_lesions_keep_their_rules(package):
    """The steps and fields of structures are refused where lesions are meant."""

    def lesions(**findings):
        content = changed(lambda _: None)
        content["findings"] |= {"kind": "lesions", "negative_statement": "Nothing.", "totals": []} | findings
        for segment in content["findings"]["segments"]:
            segment["heads"] = []
        content["grid"]["tiling"]["lesion_heads"] = [1, 2]
        content["postprocess"] = [{"step": "threshold", "probability": 0.5}]
        content["golden"]["structure_voxels"] = []
        return content

    assert parse_manifest(lesions(), "x").findings.kind == "lesions"
    for step in ({"step": "argmax"}, {"step": "keep_largest"}, {"step": "fill_holes", "segments": [1]}):
        with pytest.raises(PackageError, match="are for structures"):
            parse_manifest(lesions() | {"postprocess": [*lesions()["postprocess"], step]}, "x")


def test_the_schema_and_a_round_trip_keep_every_field(package):
    text = (package.folder / "model.json").read_text()
    assert Manifest.model_validate_json(text).findings.segments[1].modifier.meaning == "Posterior"
    assert json.loads(text)["findings"]["totals"][0]["segments"] == [1, 2]
