"""Checks of the input itself: what they see, and what they must not be misled by."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.ood.inputs import described, ranges_of, unusual
from models.volume import Volume


def volume(*, shape=(6, 40, 50), spacing=(0.9, 0.9), step=5.0, power=1.0, seed=0):
    values = np.random.default_rng(seed).uniform(size=shape) ** power
    return Volume((1000 * values).astype(np.int16), None, spacing, step)


@given(factor=st.floats(0.1, 50), offset=st.floats(-500, 500))
def test_grey_quantities_do_not_change_with_the_scale_of_the_scanner(factor, offset):
    one = volume()
    other = Volume(one.array.astype(np.float64) * factor + offset, None, (0.9, 0.9), 5.0)
    assert described(other) == pytest.approx(described(one), abs=1e-6)


def test_quartiles_of_even_grey_values_are_a_quarter_a_half_and_three_quarters():
    even = Volume(np.arange(10_001, dtype=np.float64).reshape(1, 1, -1))
    found = described(even)
    wanted = [(q - 0.01) / 0.98 for q in (0.25, 0.5, 0.75)]
    assert [found[name] for name in ("grey_25", "grey_50", "grey_75")] == pytest.approx(wanted)


def test_ranges_hold_all_cases_and_a_tenth_more_on_either_side():
    cases = [described(volume(shape=(slices, 40, 50))) for slices in (10, 20, 30)]
    (slices,) = [one for one in ranges_of(cases) if one.name == "slices"]
    assert (slices.low, slices.high) == (8, 32)


def test_what_is_the_same_in_all_cases_or_unknown_in_one_is_not_checked():
    cases = [described(volume(shape=(slices, 40, 50))) for slices in (10, 20)]
    cases.append(described(volume(shape=(12, 40, 50), spacing=None)))
    names = {one.name for one in ranges_of(cases)}
    assert "slices" in names
    assert not names & {"rows", "columns", "slice_spacing_mm", "row_spacing_mm", "column_spacing_mm"}


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"shape": (90, 40, 50)}, "number of slices 90"),
        ({"step": 1.0}, "distance of slices in mm 1,"),
        ({"spacing": (3.0, 0.9)}, "distance of rows in mm 3,"),
        ({"power": 6.0}, "median of the grey values"),
    ],
    ids=["slices", "slice distance", "pixel spacing", "grey values"],
)
def test_an_input_outside_a_range_is_named_with_its_value(other, words):
    rng = np.random.default_rng(3)
    usual = [
        volume(
            shape=(int(rng.integers(5, 20)), 40, 50),
            spacing=(float(rng.uniform(0.8, 1)),) * 2,
            step=float(rng.uniform(4, 6)),
            power=float(rng.uniform(0.8, 1.2)),
            seed=index,
        )
        for index in range(20)
    ]
    ranges = ranges_of([described(one) for one in usual])
    assert all(unusual(one, ranges) == () for one in usual)
    assert any(words in clause for clause in unusual(volume(**other), ranges))
