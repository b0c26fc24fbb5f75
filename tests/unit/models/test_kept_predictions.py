import numpy as np
import pytest

from models.evaluation.kept_predictions import KeptPredictions
from models.predictor import Predictor
from models.volume import Volume


@pytest.fixture
def volume() -> Volume:
    return Volume(np.random.default_rng(1).integers(0, 255, (1, 40, 52)).astype(np.uint8))


def same(one, other) -> bool:
    return (
        bool((one.levels == other.levels).all())
        and bool((one.labels == other.labels).all())
        and (one.lesion_scores, one.class_scores, one.class_name)
        == (other.lesion_scores, other.class_scores, other.class_name)
    )


def test_what_was_said_once_is_read_and_not_said_again(package, volume, tmp_path) -> None:
    first = KeptPredictions(Predictor(package, device="cpu"), tmp_path)
    said = first.of(volume)
    assert np.abs(said.probability - first.predictor.predict(volume).probability).max() <= 0.5 / 255 + 1e-6
    second = KeptPredictions(Predictor(package, device="cpu"), tmp_path)
    assert same(second.of(volume), said)
    assert (first.computed, second.computed) == (1, 0)


def test_a_file_cut_off_in_the_middle_is_predicted_again(package, volume, tmp_path) -> None:
    kept = KeptPredictions(Predictor(package, device="cpu"), tmp_path)
    said = kept.of(volume)
    (path,) = tmp_path.glob("*.npz")
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert same(kept.of(volume), said)
    assert kept.computed == 5


def test_other_pixels_spacings_and_packages_have_other_names(package, volume) -> None:
    kept = KeptPredictions(Predictor(package, device="cpu"), None)
    changed = volume.array.copy()
    changed[0, 0, 0] ^= 1
    names = {
        kept.key(volume),
        kept.key(Volume(changed)),
        kept.key(Volume(volume.array.copy(), pixel_spacing_mm=(0.5, 0.5))),
        kept.key(Volume(volume.array.reshape(1, 52, 40))),
    }
    from dataclasses import replace

    kept.predictor.package = replace(package, digest="0" * 64)
    names.add(kept.key(volume))
    assert len(names) == 5
