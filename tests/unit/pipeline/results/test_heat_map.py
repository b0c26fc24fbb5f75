"""Heat maps as they are kept, and as the summary picture shows them."""

from dataclasses import replace

import numpy as np
import pytest

from config.errors import PrereadError
from models.explanation.attention import Attention
from pipeline.results.heat_map import decode, encode
from pipeline.results.picture import draw_picture


def attention(source, class_name="malignant") -> Attention:
    """Heat in one corner of the third slice, or of the only one."""
    heat = np.zeros(source.volume.shape, np.float32)
    heat[min(2, len(heat) - 1), :12, :10] = np.linspace(0.5, 1, 10)
    return Attention(heat, class_name, "grad-cam", "encoder.blocks.10")


def test_a_kept_map_lies_where_the_volume_lies(sources) -> None:
    source = sources.series(sources.stack())
    made = attention(source)
    kept = decode(encode(made, source, sources.model))
    assert np.abs(kept.heat - made.heat).max() <= 0.5 / 255 + 1e-6
    assert np.array_equal(kept.affine, source.volume.affine)
    assert kept.spacing_mm == (source.volume.slice_spacing_mm, *source.volume.pixel_spacing_mm)
    assert kept.places == tuple((frame.sop_uid, frame.frame_number) for frame in source.frames)
    assert kept.strongest_slice == made.strongest_slice == 2
    assert (kept.class_name, kept.method, kept.model) == ("malignant", "grad-cam", sources.model.id)


def test_a_map_of_an_image_without_coordinates_has_none(sources) -> None:
    source = sources.series([sources.header("US")], placed=False)
    kept = decode(encode(attention(source), source, sources.model))
    assert kept.affine is None
    assert kept.spacing_mm[0] is None


def test_the_same_map_is_kept_as_the_same_bytes(sources) -> None:
    source = sources.series(sources.stack())
    first, again = (encode(attention(source), source, sources.model) for _ in range(2))
    assert first == again


def test_a_map_of_another_grid_is_refused(sources) -> None:
    source = sources.series(sources.stack())
    other = replace(attention(source), heat=np.zeros((1, 4, 4), np.float32))
    with pytest.raises(ValueError, match="does not lie on"):
        encode(other, source, sources.model)


@pytest.mark.parametrize("cut", [0, 20, 300])
def test_bytes_that_are_no_map_are_told_in_words(sources, cut) -> None:
    source = sources.series(sources.stack())
    with pytest.raises(PrereadError, match="cannot be read"):
        decode(encode(attention(source), source, sources.model)[:cut])


def with_map(findings, made):
    return replace(findings, sources=(replace(findings.sources[0], attention=made),))


@pytest.mark.parametrize("lesions", [True, False])
def test_the_picture_shows_the_heat_in_its_column_and_nothing_else_of_the_image_changes(
    sources, lesions
) -> None:
    source = sources.series([sources.header("US")], placed=False)
    labels = sources.lesion_labels(source) if lesions else np.zeros(source.volume.shape, np.uint16)
    scores = {"benign": 0.1, "malignant": 0.85, "normal": 0.05}
    findings = sources.findings_of(source, labels, sources.breast, "malignant", scores)
    without = draw_picture(source, findings).astype(int)
    found = draw_picture(source, with_map(findings, attention(source))).astype(int)
    assert np.array_equal(found[:, :840], without[:, :840])
    column = found[:, 868:]
    warm = (column[..., 0] > 150) & (column[..., 1] > 150) & (column[..., 2] < 140)
    assert warm.sum() > 50
    cold = draw_picture(
        source, with_map(findings, replace(attention(source), heat=np.zeros(source.volume.shape, np.float32)))
    )
    assert not np.array_equal(found, cold)


def test_a_picture_without_a_map_is_what_it_was(sources) -> None:
    source = sources.series(sources.stack())
    findings = sources.findings_of(source, sources.lesion_labels(source))
    assert np.array_equal(draw_picture(source, findings), draw_picture(source, with_map(findings, None)))
