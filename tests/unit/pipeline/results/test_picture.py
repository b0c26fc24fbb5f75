"""The summary picture: what it shows, and that it shows nobody."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.screen_colours import to_rgb
from models.volume import Volume
from pipeline.results.canvas import spelled, wrapped
from pipeline.results.colours import lesion_colour
from pipeline.results.picture import draw_picture, image_words, key_slice, strip_slices
from pipeline.results.slice_panel import body_view, close_view, grey_window, patient_side, whole_view


def near(picture, colour, tolerance=40):
    return np.abs(picture.astype(int) - colour).max(axis=2) < tolerance


def test_picture_is_the_same_every_time_and_never_depends_on_the_patient(sources):
    pictures = []
    for name in ("Doe^Jane", "Roe^Richard"):
        source = sources.series(sources.stack(PatientName=name, PatientID=name, StudyDate="20200101"))
        pictures.append(draw_picture(source, sources.findings_of(source, sources.lesion_labels(source))))
    assert pictures[0].shape == (960, 1280, 3)
    assert pictures[0].dtype == np.uint8
    assert np.array_equal(*pictures)


def test_lesions_are_outlined_in_the_colour_of_the_package(sources):
    source = sources.series(sources.stack())
    labels = sources.lesion_labels(source)
    colour = to_rgb(sources.model.segment.colour)
    with_lesion = near(draw_picture(source, sources.findings_of(source, labels)), colour)
    without = near(draw_picture(source, sources.findings_of(source, labels * 0)), colour)
    assert with_lesion[128:680, 28:840].sum() > 300
    assert without[128:680, 28:840].sum() == 0


def test_research_sentence_stands_on_every_picture_in_amber(sources):
    source = sources.series(sources.stack())
    for labels in (sources.lesion_labels(source), np.zeros(source.volume.shape, np.uint16)):
        picture = draw_picture(source, sources.findings_of(source, labels))
        assert near(picture[868:910], (232, 170, 80)).sum() > 500


def test_bars_are_as_long_as_the_scores(sources):
    source = sources.series([sources.header("US")], placed=False)
    scores = {"benign": 0.25, "malignant": 0.5, "normal": 0.25}
    findings = sources.findings_of(
        source, np.zeros(source.volume.shape, np.uint16), sources.breast, "malignant", scores
    )
    picture = draw_picture(source, findings)
    lengths = [near(picture[128 + 64 * i + 38, 868:1252][None], (52, 60, 69), 3).sum() for i in range(3)]
    assert [round(1 - length / 384, 2) for length in lengths] == [0.25, 0.5, 0.25]


@settings(max_examples=200)
@given(st.data())
def test_strip_shows_up_to_six_slices_rising_and_the_key_slice_among_them(data):
    slices = data.draw(st.integers(1, 60))
    index = st.integers(0, slices - 1)
    key, wanted = data.draw(index), tuple(data.draw(st.lists(index, max_size=9)))
    first, last = sorted((data.draw(index), data.draw(index)))
    shown = strip_slices(slices, key, wanted, (first, last))
    assert len(shown) == min(6, slices)
    assert shown == sorted(set(shown))
    assert key in shown
    assert set(shown) <= set(range(slices))
    assert set(dict.fromkeys([key, *wanted][:3])) <= set(shown) or slices < 6


@pytest.mark.parametrize(
    ("direction", "letters"),
    [((1, 0, 0), "L"), ((-1, 0, 0), "R"), ((0, 1, 0), "P"), ((0, 0, 1), "H"), ((0, -0.8, 0.6), "AH")],
)
def test_sides_of_the_patient_are_named_by_direction(direction, letters):
    assert patient_side(np.array(direction, float)) == letters


def test_views_keep_the_aspect_of_the_pixels(sources):
    source = sources.series(sources.stack(), spacing=(2.0, 1.0), step=5.0)
    view = whole_view(source, 800, 800)
    assert view.width / view.height == pytest.approx(40 * 1.0 / (48 * 2.0), rel=0.01)
    close = close_view(source, (20, 20), 10, 200, 200)
    assert close.width == close.height == 200
    assert (close.bottom - close.top) * 2.0 == (close.right - close.left) * 1.0


@given(st.floats(0, 47), st.floats(0, 39), st.floats(1, 80))
def test_close_view_stays_inside_the_image(sources_class, row, column, side):
    source = sources_class.series([sources_class.header("US")], placed=False)
    view = close_view(source, (row, column), side, 200, 200)
    assert 0 <= view.top < view.bottom <= 48 + 1e-9
    assert 0 <= view.left < view.right <= 40 + 1e-9


def test_body_view_leaves_out_air_and_keeps_the_tissue(sources):
    source = sources.series(sources.stack())
    array = np.zeros(source.volume.shape, np.float32)
    array[2:6, 10:30, 8:20] = 100
    volume = Volume(array, source.volume.affine, source.volume.pixel_spacing_mm, 5.0)
    view = body_view(replace(source, volume=volume), (0.0, 100.0), 400, 400)
    assert 5 <= view.top <= 10
    assert 30 <= view.bottom <= 35
    assert 4 <= view.left <= 8
    assert 20 <= view.right <= 24


def test_grey_window_of_a_uniform_image_is_not_empty(sources):
    source = sources.series([sources.header("US")], placed=False)
    flat = replace(source, volume=Volume(np.full((1, 48, 40), 7, np.float32)))
    dark, bright = grey_window(flat)
    assert bright > dark


def test_key_slice_is_that_of_the_largest_lesion_and_the_middle_without(sources):
    source = sources.series(sources.stack())
    labels = sources.lesion_labels(source)
    labels[6:8, 30:48, 0:25] = 3
    findings = sources.findings_of(source, labels)
    assert key_slice(source, findings.lesions) == findings.lesions[2].lesion.key_slice
    assert key_slice(source, ()) == 4


def test_image_is_named_by_the_numbers_a_viewer_shows(sources):
    assert image_words(sources.series(sources.stack(4, SeriesNumber=7)), 2) == (
        "Series 7 · image 3 · slice 3 of 4"
    )
    enhanced = sources.series([sources.enhanced()], frames=(5, 4, 3))
    assert image_words(enhanced, 0) == "frame 5 · slice 1 of 3"


@pytest.mark.parametrize(
    ("words", "shown"),
    [("18 × 11 mm²", "18 x 11 mm2"), ("Jörg – ñ", "Jorg - n"), ("山", "?"), ("a · b…", "a · b…")],
)
def test_words_are_spelled_with_the_characters_of_the_font(words, shown):
    assert spelled(words) == shown


@given(st.lists(st.text(alphabet="abcdefg", min_size=1, max_size=12), max_size=40), st.integers(1, 4))
def test_wrapped_text_loses_words_only_at_the_end_and_says_so(words, lines_max):
    lines = wrapped(" ".join(words), 18, width=300, lines_max=lines_max)
    assert len(lines) <= lines_max
    shown = " ".join(lines).split()
    if shown and shown[-1] == "…":
        assert words[: len(shown) - 1] == shown[:-1]
    else:
        assert shown == words


def test_colours_of_lesions_differ_and_keep_the_lightness():
    colours = [lesion_colour((70.0, 40.0, 60.0), number) for number in range(1, 9)]
    assert {round(light, 6) for light, _, _ in colours} == {70.0}
    assert len({to_rgb(colour) for colour in colours}) == 8


@pytest.mark.parametrize(
    ("lab", "rgb"),
    [((0, 0, 0), (0, 0, 0)), ((100, 0, 0), (255, 255, 255)), ((53.24, 80.09, 67.2), (255, 0, 0))],
)
def test_known_colours_are_converted_to_the_screen(lab, rgb):
    assert np.allclose(to_rgb(lab), rgb, atol=1)
