"""Identity of results: the same for a repeat, another for anything else."""

from dataclasses import replace

import pytest

from config.identity import is_own_uid
from pipeline.results.uids import RunKey, device_uid, digest_inputs, frame_of_reference_uid

KEY = RunKey("1.2.3", (("1.2.3.1", 0, "aa"), ("1.2.3.2", 0, "bb")), "model", "1.0.0", "cc", 1)


@pytest.mark.parametrize(
    "change",
    [
        {"study_uid": "1.2.4"},
        {"inputs": KEY.inputs[:1]},
        {"inputs": (("1.2.3.1", 1, "aa"), KEY.inputs[1])},
        {"inputs": (("1.2.3.1", 0, "ab"), KEY.inputs[1])},
        {"model": "other"},
        {"version": "1.0.1"},
        {"digest": "cd"},
        {"revision": 2},
    ],
)
def test_instance_uid_changes_with_everything_that_decides_a_result(change):
    assert replace(KEY, **change).instance_uid("SEG") != KEY.instance_uid("SEG")


def test_instance_uid_does_not_change_with_the_order_of_the_inputs():
    assert replace(KEY, inputs=KEY.inputs[::-1]).instance_uid("SEG") == KEY.instance_uid("SEG")


def test_series_uid_is_the_same_for_every_revision_and_differs_by_kind_model_and_part():
    later = replace(KEY, revision=2, inputs=KEY.inputs[:1])
    assert later.series_uid("SEG") == KEY.series_uid("SEG")
    others = {
        KEY.series_uid("SEG"),
        KEY.series_uid("SR"),
        KEY.series_uid("SEG", "1.2.3.1"),
        replace(KEY, version="2.0.0").series_uid("SEG"),
        KEY.instance_uid("SEG"),
    }
    assert len(others) == 5


@pytest.mark.parametrize("root", [None, "1.2.826.0.1.3680043.10.999"])
def test_all_uids_are_recognised_as_ours(root):
    key = replace(KEY, root=root)
    for uid in (key.instance_uid("SR"), key.series_uid("SR"), key.tracking_uid("", 1), device_uid("a", root)):
        assert is_own_uid(uid, root=root)
        assert len(uid) <= 64


def test_derived_frame_of_reference_belongs_to_the_series():
    assert frame_of_reference_uid("1.2") == frame_of_reference_uid("1.2") != frame_of_reference_uid("1.3")


def test_digest_of_inputs_sees_every_pixel(sources):
    source = sources.series(sources.stack(3))
    array = source.volume.array.copy()
    array[1, 5, 5] += 1
    changed = replace(source, volume=replace(source.volume, array=array))
    one, other = digest_inputs(source), digest_inputs(changed)
    assert [a == b for a, b in zip(one, other, strict=True)] == [True, False, True]
