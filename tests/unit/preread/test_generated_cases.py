"""Generated training cases are labelled, marked as generated, and the same for the same seed."""

import numpy as np
import pytest

from models.training.cases import Case
from preread.demo.generated_cases import generated_cases


@pytest.fixture(scope="module")
def breasts() -> list[Case]:
    return list(generated_cases("breast-us", 3, seed=7))


def test_every_class_of_breast_comes_in_turn_with_its_outline(breasts: list[Case]) -> None:
    assert [case.class_name for case in breasts] == ["benign", "malignant", "normal"]
    assert [bool(case.mask.any()) for case in breasts] == [True, True, False]
    assert all(case.mask.shape == case.volume.shape for case in breasts)


def test_heads_without_a_lesion_come_first_and_carry_the_assumed_spacing() -> None:
    quiet, ill = generated_cases("brain-flair", 2, seed=7)
    assert not quiet.mask.any()
    assert ill.mask.any()
    assert quiet.volume.pixel_spacing_mm == (0.94, 0.94)
    assert quiet.volume.slice_spacing_mm == 5.0


def test_cases_are_marked_as_generated_and_have_names_of_their_own(breasts: list[Case]) -> None:
    assert all(case.is_simulated for case in breasts)
    assert len({case.group for case in breasts}) == 3


def test_the_same_seed_gives_the_same_cases_and_another_seed_others(breasts: list[Case]) -> None:
    [again] = generated_cases("breast-us", 1, seed=7)
    [other] = generated_cases("breast-us", 1, seed=8)
    assert np.array_equal(again.volume.array, breasts[0].volume.array)
    assert not np.array_equal(other.volume.array, breasts[0].volume.array)
