"""Order, window and sides of slices; masks read back from the SEG; what is drawn over a slice."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset

from config.errors import PrereadError
from db.instances import instances_of
from pipeline.reading.image_planes import planes_of
from pipeline.reading.refusals import Refusal
from preread.web.overlay import SegmentMask, overlay_png, read_segmentation
from preread.web.recent import Recent
from preread.web.slices import SliceReader, default_window, edges_of, slice_png


def picture(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def segment(mask: np.ndarray, colour=(255, 0, 0)) -> SegmentMask:
    return SegmentMask(1, colour, "", mask.shape, np.packbits(mask))


def read(node, images):
    """The slices of images that came to a node, and their reader."""
    study_uid = node.receive(images)
    reader = SliceReader(node.store)
    return reader, reader.series(instances_of(node.db, node.id_of(study_uid)))


def test_slices_stand_in_the_order_of_their_positions_not_their_numbers(node, seeded) -> None:
    images = seeded.mr_series(np.arange(5.0)[:, None, None] * 50 + np.full((5, 32, 32), 100.0))
    for image, number in zip(images, (3, 1, 5, 2, 4), strict=True):
        image.InstanceNumber = number
    reader, slices = read(node, images[::-1])
    assert [reader.plane(ref).mean() for ref in slices.slices] == [100, 150, 200, 250, 300]
    assert slices.note is None


def test_a_series_with_a_gap_is_shown_by_number_with_a_word_about_why(node, seeded) -> None:
    images = seeded.mr_series(np.full((8, 32, 32), 100.0))
    del images[4]
    _, slices = read(node, images)
    assert [ref.instance.instance_number for ref in slices.slices] == [1, 2, 3, 4, 6, 7, 8]
    assert "apart" in slices.note
    assert "Instance Number" in slices.note


def test_an_image_without_position_is_shown(node, seeded) -> None:
    plane, _ = seeded.small_breast()
    reader, slices = read(node, [seeded.us_image(plane)])
    assert np.array_equal(reader.plane(slices.slices[0]), plane)
    assert slices.edges is None


def test_the_height_of_a_pixel_is_kept_when_it_is_not_square(node, seeded) -> None:
    _, slices = read(node, seeded.mr_series(np.full((3, 32, 32), 100.0), spacing=(1.5, 0.75)))
    assert slices.aspect == 2.0


def test_a_slice_that_cannot_be_decoded_is_a_refusal_that_says_why(node, seeded) -> None:
    images = seeded.mr_series(np.full((3, 32, 32), 100.0))
    images[1].PixelData = images[1].PixelData[:64]
    reader, slices = read(node, images)
    answer = reader.plane(slices.slices[1])
    assert isinstance(answer, Refusal)
    assert answer.code == "PIXELS-UNREADABLE"


def test_the_devices_own_window_is_taken_first_of_several(seeded) -> None:
    image = seeded.mr_series(np.full((1, 8, 8), 100.0))[0]
    image.WindowCenter, image.WindowWidth = [40, 300], [400, 1500]
    assert default_window(image, 0, np.zeros((8, 8), np.float32)) == (40.0, 400.0)


@pytest.mark.parametrize("width", [0, -5, None])
def test_a_window_that_shows_nothing_is_replaced_by_one_of_the_values(seeded, width) -> None:
    image = seeded.mr_series(np.full((1, 8, 8), 100.0))[0]
    image.WindowWidth = width
    center, found = default_window(image, 0, np.linspace(0, 1000, 64, dtype=np.float32).reshape(8, 8))
    assert 400 < center < 600
    assert 900 < found < 1000


def test_the_devices_window_is_not_used_for_inverted_values(seeded) -> None:
    image = seeded.mr_series(np.full((1, 8, 8), 100.0))[0]
    image.PhotometricInterpretation = "MONOCHROME1"
    image.WindowCenter, image.WindowWidth = 40, 400
    assert default_window(image, 0, np.full((8, 8), 7.0, np.float32)) != (40.0, 400.0)


@given(st.floats(-2000, 2000, width=32), st.floats(-1000, 1000), st.floats(0.01, 5000))
def test_a_window_maps_its_ends_to_black_and_white(value: float, center: float, width: float) -> None:
    grey = picture(slice_png(np.full((2, 2), value, np.float32), center=center, width=width))[0, 0]
    expected = (np.float32(value) - (center - width / 2)) / width * 255
    assert abs(float(grey) - float(np.clip(expected, 0, 255))) <= 0.6


def test_a_large_picture_is_reduced_and_a_small_one_is_not() -> None:
    assert picture(slice_png(np.zeros((3200, 800), np.float32), center=0, width=1)).shape == (1600, 400)
    assert picture(slice_png(np.zeros((90, 120), np.float32), center=0, width=1)).shape == (90, 120)


@pytest.mark.parametrize(
    ("orientation", "left", "right", "top", "bottom"),
    [
        ([1, 0, 0, 0, 1, 0], "R", "L", "A", "P"),  # axial
        ([1, 0, 0, 0, 0, -1], "R", "L", "H", "F"),  # coronal
        ([0, 1, 0, 0, 0, -1], "A", "P", "H", "F"),  # sagittal
        ([0.8, 0.6, 0, -0.6, 0.8, 0], "RA", "LP", "AL", "PR"),  # oblique
    ],
)
def test_the_sides_of_a_picture_are_named_as_radiologists_do(orientation, left, right, top, bottom) -> None:
    header = Dataset()
    header.SOPInstanceUID, header.Rows, header.Columns = "1.2", 4, 4
    header.ImageOrientationPatient, header.ImagePositionPatient = orientation, [0, 0, 0]
    (plane,) = planes_of([header])
    edges = edges_of(plane)
    assert (edges.left, edges.right, edges.top, edges.bottom) == (left, right, top, bottom)


def test_the_mask_read_from_the_seg_is_the_mask_the_model_gave(brain_node, seeded) -> None:
    view = brain_node.view(brain_node.uid_of(1))
    (stored,) = [result for result in view.results if result.kind == "SEG"]
    masks = read_segmentation(brain_node.store.read(stored.location))
    reader = SliceReader(brain_node.store)
    slices = reader.series(instances_of(brain_node.db, 1))
    labels = seeded.small_brain()[1]
    for index, ref in enumerate(slices.slices):
        found = np.zeros(labels.shape[1:], np.uint16)
        for part in masks.get(ref.key, ()):
            found[part.mask] = part.segment_number
        assert np.array_equal(found, labels[index]), index


def test_frames_of_a_seg_are_laid_by_their_reference_whatever_their_order(brain_node) -> None:
    view = brain_node.view(brain_node.uid_of(1))
    (stored,) = [result for result in view.results if result.kind == "SEG"]
    raw = brain_node.store.read(stored.location)
    seg = dcmread(io.BytesIO(raw))
    frames, rows, columns = len(seg.PerFrameFunctionalGroupsSequence), seg.Rows, seg.Columns
    bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")
    planes = bits[: frames * rows * columns].reshape(frames, rows * columns)[::-1]
    seg.PerFrameFunctionalGroupsSequence = list(seg.PerFrameFunctionalGroupsSequence)[::-1]
    seg.PixelData = np.packbits(planes.ravel(), bitorder="little").tobytes()
    turned = io.BytesIO()
    dcmwrite(turned, seg)

    def seen(content: bytes) -> dict:
        return {
            (key, part.segment_number): part.mask.tobytes()
            for key, parts in read_segmentation(content).items()
            for part in parts
        }

    assert seen(turned.getvalue()) == seen(raw)


def test_a_seg_whose_bits_are_missing_is_not_drawn(brain_node) -> None:
    view = brain_node.view(brain_node.uid_of(1))
    (stored,) = [result for result in view.results if result.kind == "SEG"]
    seg = dcmread(io.BytesIO(brain_node.store.read(stored.location)))
    seg.PixelData = seg.PixelData[:10]
    cut = io.BytesIO()
    dcmwrite(cut, seg)
    with pytest.raises(PrereadError, match="cannot be drawn"):
        read_segmentation(cut.getvalue())


def test_an_outline_lies_on_the_border_and_leaves_the_inside_clear() -> None:
    mask = np.zeros((64, 64), bool)
    mask[20:40, 10:30] = True
    drawn = picture(overlay_png([(1, segment(mask))], shape=(64, 64), filled=False))
    scale = drawn.shape[0] / 64
    at = lambda row, column: drawn[round((row + 0.5) * scale), round((column + 0.5) * scale), 3]  # noqa: E731
    assert at(30, 20) == 0
    assert at(30, 50) == 0
    assert at(30, 9.5) == 255
    assert at(19.5, 20) == 255


def test_a_fill_covers_the_lesion_but_not_its_holes_and_not_an_island_in_one() -> None:
    mask = np.zeros((64, 64), bool)
    mask[10:50, 10:50] = True
    mask[20:40, 20:40] = False
    mask[28:32, 28:32] = True
    drawn = picture(overlay_png([(1, segment(mask))], shape=(64, 64), filled=True))
    scale = drawn.shape[0] / 64
    at = lambda row, column: drawn[round((row + 0.5) * scale), round((column + 0.5) * scale)]  # noqa: E731
    assert 40 < at(14, 14)[3] < 200
    assert at(24, 24)[3] == 0
    assert 40 < at(29.5, 29.5)[3] < 200
    assert at(14, 14)[0] > 200


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31))
@settings(deadline=None, max_examples=40)
def test_any_mask_can_be_drawn(rows: int, columns: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((rows, columns)) < 0.4
    mask[0, 0] = True
    for filled in (False, True):
        drawn = picture(overlay_png([(12, segment(mask))], shape=mask.shape, filled=filled))
        assert drawn.ndim == 3
        assert drawn[..., 3].max() > 0


def test_what_was_asked_for_longest_ago_goes_first() -> None:
    kept: Recent[int] = Recent(10, lambda value: value)
    for value in (4, 5):
        kept.put(value, value)
    kept.peek(4)
    kept.put(3, 3)
    assert (kept.peek(4), kept.peek(5), kept.peek(3)) == (4, None, 3)


def test_what_is_too_heavy_is_handed_out_and_not_kept() -> None:
    kept: Recent[int] = Recent(10, lambda value: value)
    assert kept.get("big", lambda: 11) == 11
    assert kept.peek("big") is None
