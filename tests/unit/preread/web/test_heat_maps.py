"""The heat map on a study page: over the image, with its words, and only where one was kept."""

import io

import numpy as np
import pytest
from PIL import Image

from models.explanation.attention import CAPTION
from pipeline.results.heat_map import decode

ROWS, COLUMNS = 80, 100


def spot() -> np.ndarray:
    """Heat at the upper right of the image."""
    r, c = np.mgrid[:ROWS, :COLUMNS]
    return np.exp(-((r - 20) ** 2 + (c - 75) ** 2) / 60).astype(np.float32)[None]


def picture(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


@pytest.fixture
def shown(node, page):
    """A breast study with a heat map: its view, and its page."""
    study_uid = node.breast(heat=spot())
    view = node.view(study_uid)
    (kept,) = [result for result in view.results if result.kind == "HEAT"]
    return view, kept, page.get(f"/studies/{view.study.id}").text


def test_the_page_shows_the_map_and_says_what_it_is_not(shown) -> None:
    view, kept, text = shown
    assert f"/studies/{view.study.id}/results/{kept.id}/attention.png" in text
    assert CAPTION in text
    assert "What spoke for <b>malignant</b>" in text


def test_the_picture_is_the_image_with_colour_where_the_heat_is(shown, page) -> None:
    view, kept, _ = shown
    answer = page.get(f"/studies/{view.study.id}/results/{kept.id}/attention.png")
    assert answer.headers["content-type"] == "image/png"
    pixels = picture(answer.content)
    assert pixels.shape == (512, 640, 3)
    colour = np.ptp(pixels, axis=2)
    row, column = np.unravel_index(int(colour.argmax()), colour.shape)
    assert np.hypot(row - 20.5 * 6.4, column - 75.5 * 6.4) < 60
    assert colour[300:, :300].max() <= 2


def test_the_map_is_downloaded_with_its_geometry_and_is_no_dicom_object(shown, page) -> None:
    view, kept, text = shown
    base = f"/studies/{view.study.id}/results/{kept.id}"
    assert f"{base}/heat.npz" in text
    found = decode(page.get(f"{base}/heat.npz").content)
    assert np.abs(found.heat - spot()).max() <= 0.5 / 255 + 1e-6
    (findings,) = [job.findings for job in view.jobs if job.kind == "analyse"]
    assert found.places[0][0] == findings["lesions"][0]["key_sop_uid"]
    assert page.get(f"{base}/heat.dcm").status_code == 404
    assert page.get(f"{base}/picture.png").status_code == 404


def test_the_map_is_sent_to_nobody(shown) -> None:
    view, kept, _ = shown
    assert view.deliveries
    assert kept.id not in {delivery.result_id for delivery in view.deliveries}


def test_a_study_without_a_map_shows_none(node, page) -> None:
    view = node.view(node.breast())
    text = page.get(f"/studies/{view.study.id}").text
    assert CAPTION not in text
    assert "attention.png" not in text
    assert {result.kind for result in view.results} == {"SEG", "SR", "SC"}
    other = view.results[0]
    assert page.get(f"/studies/{view.study.id}/results/{other.id}/attention.png").status_code == 404
    assert page.get(f"/studies/{view.study.id}/results/{other.id}/heat.npz").status_code == 404
