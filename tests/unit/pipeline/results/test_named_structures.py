"""Named structures in result objects: still images, gaps in the numbers, one line of words."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydicom import dcmread
from two_ranges import manifest_of

from config.settings import NodeSettings
from models.package import Package, parse_manifest
from models.predictor import Prediction
from pipeline.results.result_set import build_result_set
from pipeline.results.structures import without_gaps
from pipeline.results.words import short_names

FILES = [
    {"path": f"{role}.bin", "role": role, "bytes": 1, "sha256": "0" * 64}
    for role in ("weights", "golden_in", "golden_out", "card")
]


def package_of(count: int = 2, **changes) -> Package:
    """A package of so many structures, without its files."""
    content = manifest_of(files=FILES, **changes)
    first = content["findings"]["segments"][0]
    if count != 2:
        content["findings"]["segments"] = [
            {**first, "number": n, "label": f"Organ {n}", "heads": [n]} for n in range(1, count + 1)
        ]
        content["findings"]["totals"] = []
        content["golden"]["structure_voxels"] = [0] * count
        content["network"]["heads"] = count + 1
    return Package(parse_manifest(content, "test"), Path(), "ab" * 32)


def told(labels: np.ndarray, count: int) -> Prediction:
    """What a model of structures says: the labels given."""
    scores = tuple(0.9 if (labels == number).any() else None for number in range(1, count + 1))
    return Prediction((labels > 0).astype(np.float32), labels, (), None, None, (), structure_scores=scores)


def built(sources, all_sources, labels, count=2, **options):
    return build_result_set(
        all_sources,
        [told(one, count) for one in labels],
        package_of(count),
        node=NodeSettings(),
        revision=1,
        job_created_at=sources.created,
        **options,
    )


def bars(source, count: int, leave_out=()) -> np.ndarray:
    """A bar of each structure across the middle slice."""
    labels = np.zeros(source.volume.shape, np.uint16)
    for number in range(1, count + 1):
        if number not in leave_out:
            labels[source.volume.shape[0] // 2, 4 * number : 4 * number + 3, 5:20] = number
    return labels


@settings(max_examples=100)
@given(arrays.arrays(np.uint16, (2, 3, 4), elements=st.integers(0, 9)))
def test_labels_without_gaps_are_the_same_structures_in_the_same_order(labels):
    dense, numbers = without_gaps(labels)
    assert sorted(set(np.unique(dense)) - {0}) == list(range(1, len(numbers) + 1))
    assert np.array_equal(np.array([0, *numbers])[dense], labels)
    assert list(numbers) == sorted(numbers)


def test_a_missing_number_leaves_no_gap_in_the_segmentation_and_keeps_its_name(sources):
    source = sources.series(sources.stack())
    found = built(sources, [source], [bars(source, 5, leave_out=(2, 4))], count=5)
    seg = dcmread(BytesIO(found.objects[0].part10))
    assert [(item.SegmentNumber, item.SegmentLabel) for item in seg.SegmentSequence] == [
        (1, "Organ 1"),
        (2, "Organ 3"),
        (3, "Organ 5"),
    ]
    parts = found.findings["structures"]["parts"]
    assert [part["number"] for part in parts if part["found"]] == [1, 3, 5]
    assert [part["number"] for part in parts if not part["found"]] == [2, 4]


def test_the_line_names_a_few_structures_and_counts_the_others(sources):
    source = sources.series(sources.stack())
    found = built(sources, [source], [bars(source, 6, leave_out=(2,))], count=6)
    line = found.findings["headline"]
    assert line.startswith("Organ 1 ")
    assert ", 2 not outlined, 3 " in line
    assert line.endswith("and 2 more")


@pytest.mark.parametrize(
    ("labels", "short"),
    [
        (["Hippocampus anterior", "Hippocampus posterior"], ["anterior", "posterior"]),
        (["Left kidney", "Left kidney cyst"], ["Left kidney", "Left kidney cyst"]),
        (["Liver", "Spleen"], ["Liver", "Spleen"]),
        (["Liver"], ["Liver"]),
    ],
)
def test_words_that_all_labels_begin_with_are_said_once(labels, short):
    assert short_names(labels) == short


def test_still_images_have_a_segmentation_each_and_identities_of_their_own(sources):
    images = [sources.series([sources.header("US", index=index)], placed=False) for index in range(2)]
    found = built(sources, images, [bars(images[0], 2), bars(images[1], 2, leave_out=(1,))])
    segs = [dcmread(BytesIO(one.part10)) for one in found.objects if one.kind == "SEG"]
    assert [[item.SegmentLabel for item in seg.SegmentSequence] for seg in segs] == [
        ["Hippocampus anterior", "Hippocampus posterior"],
        ["Hippocampus posterior"],
    ]
    tracked = [item.TrackingUID for seg in segs for item in seg.SegmentSequence]
    assert len(set(tracked)) == 3
    parts = found.findings["structures"]["parts"]
    assert [part["found"] for part in parts] == [True, True, False, True]
    assert "volume_ml" not in parts[0]


def test_a_repeat_gives_the_same_bytes(sources):
    source = sources.series(sources.stack())
    first, again = (built(sources, [source], [bars(source, 2)]) for _ in range(2))
    assert [one.part10 for one in first.objects] == [one.part10 for one in again.objects]


def test_nothing_outlined_gives_an_empty_segmentation_where_the_site_wants_one(sources):
    source = sources.series(sources.stack())
    nothing = np.zeros(source.volume.shape, np.uint16)
    found = built(sources, [source], [nothing], empty_segmentation=True)
    assert [one.kind for one in found.objects] == ["SEG", "SR", "SC"]
    (item,) = dcmread(BytesIO(found.objects[0].part10)).SegmentSequence
    assert item.SegmentLabel == "No structure outlined"


def test_a_large_structure_is_no_urgent_finding(sources):
    source = sources.series(sources.stack())
    found = built(sources, [source], [bars(source, 2)])
    assert found.findings["urgent"] is False
    assert found.findings["lesions"] == []


def test_scores_that_are_unknown_are_left_out(sources):
    source = sources.series(sources.stack())
    prediction = replace(told(bars(source, 2), 2), structure_scores=None)
    found = build_result_set(
        [source],
        [prediction],
        package_of(),
        node=NodeSettings(),
        revision=1,
        job_created_at=sources.created,
    )
    assert [part["score"] for part in found.findings["structures"]["parts"]] == [None, None]
