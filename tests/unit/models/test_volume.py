import numpy as np
import pytest

from models.volume import Volume, VolumeError


def test_voxel_volume_is_the_product_of_its_spacings():
    volume = Volume(np.zeros((3, 4, 5), np.int16), np.diag([0.5, 2.0, 4.0, 1.0]), (2.0, 0.5), 4.0)
    assert volume.voxel_ml == pytest.approx(0.004)
    assert volume.shape == (3, 4, 5)


@pytest.mark.parametrize(("pixel", "slices"), [(None, 5.0), ((1.0, 1.0), None)])
def test_voxel_volume_is_unknown_when_any_spacing_is(pixel, slices):
    assert Volume(np.zeros((1, 2, 2)), None, pixel, slices).voxel_ml is None


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"array": np.zeros((4, 4))}, "shape"),
        ({"array": np.zeros((0, 4, 4))}, "empty"),
        ({"array": np.full((1, 2, 2), np.nan)}, "finite"),
        ({"array": np.zeros((1, 2, 2), bool)}, "integers or floats"),
        ({"array": np.zeros((1, 2, 2)), "pixel_spacing_mm": (0.0, 1.0)}, "pixel_spacing_mm"),
        ({"array": np.zeros((1, 2, 2)), "slice_spacing_mm": -1.0}, "slice_spacing_mm"),
        ({"array": np.zeros((1, 2, 2)), "affine": np.eye(3)}, r"\(4, 4\)"),
        ({"array": np.zeros((1, 2, 2)), "affine": np.diag([1.0, 1.0, 0.0, 1.0])}, "singular"),
        ({"array": np.zeros((1, 2, 2)), "affine": np.eye(4), "pixel_spacing_mm": (1.0, 2.0)}, "contradict"),
    ],
)
def test_what_does_not_describe_a_volume_is_refused_by_name(arguments, word):
    with pytest.raises(VolumeError, match=word):
        Volume(**arguments)


def test_a_volume_cannot_be_written_to():
    volume = Volume(np.zeros((1, 2, 2)))
    with pytest.raises(ValueError, match="read-only"):
        volume.array[0, 0, 0] = 1
