"""The real path: a study in, a heat map kept with its geometry and shown, where the package passed."""

import io
import json
import shutil

import numpy as np
import pytest
from heat_maps import LAYER, declare
from PIL import Image
from pipeline_node import BREAST, TEST_BREAST, breast_image, make_node
from pipeline_packages import write_package
from pydicom import dcmread
from starlette.testclient import TestClient

from config.settings import PeerSettings
from db.instances import ByteStore
from models.explanation.attending import Recipe, attend
from models.explanation.attention import CAPTION
from models.package import load_package
from models.predictor import Predictor
from models.volume import Volume
from pipeline.results.heat_map import decode
from pipeline.worker import run_worker
from preread.web.app import create_app

ARCHIVE = PeerSettings(name="PACS1", ae_title="PACS1", host="127.0.0.1", port=9, addresses=("127.0.0.1",))
STUDY = "1.2.77"


@pytest.fixture(scope="module")
def explained_package(tmp_path_factory):
    """A network that knows nothing, in a package that says it passed; to it each class is a finding."""
    folder = tmp_path_factory.mktemp("explained") / BREAST
    write_package(folder, BREAST)
    path = folder / "model.json"
    content = json.loads(path.read_text())
    for item in content["findings"]["classes"]:
        item["negative"] = False
    path.write_text(json.dumps(content))
    return declare(folder).folder


def read_by(package_folder, folder, sqlite_template):
    """A node that has read one breast image with the package."""
    (folder / "state").mkdir(parents=True)
    shutil.copy(sqlite_template, folder / "state" / "preread.db")
    url = f"sqlite:///{folder / 'state' / 'preread.db'}"
    node = make_node(folder, url, package_folder=package_folder.parent, peers=(ARCHIVE,))
    node.receive([breast_image(STUDY)], source_ae="PACS1")
    assert run_worker(node.settings, name="w", once=True) == 0
    return node


@pytest.fixture(scope="module")
def template(_sqlite_template):
    return _sqlite_template


@pytest.fixture(scope="module")
def node(explained_package, tmp_path_factory, template):
    made = read_by(explained_package, tmp_path_factory.mktemp("explaining") / "node", template)
    yield made
    made.close()


@pytest.fixture(scope="module")
def kept(node):
    (one,) = [result for result in node.view(STUDY).results if result.kind == "HEAT"]
    return one


def heat_map_of(node, kept):
    return decode(ByteStore(node.settings.spool_folder).read(kept.location))


def analysis_of(node):
    (job,) = [job for job in node.view(STUDY).jobs if job.kind == "analyse"]
    return job


def picture_of(node) -> np.ndarray:
    (capture,) = [result for result in node.view(STUDY).results if result.kind == "SC"]
    stored = ByteStore(node.settings.spool_folder).read(capture.location)
    return np.asarray(dcmread(io.BytesIO(stored)).pixel_array)


def test_the_map_is_kept_on_the_grid_of_the_image_and_said_in_the_findings(node, kept) -> None:
    findings = analysis_of(node).findings
    assert findings["attention"] == {
        "class": findings["class"],
        "method": "grad-cam",
        "caption": CAPTION,
        "uid": kept.sop_uid,
    }
    found, image = heat_map_of(node, kept), breast_image(STUDY)
    assert found.levels.shape == (1, image.Rows, image.Columns)
    assert found.levels.max() == 255
    assert found.places == ((str(image.SOPInstanceUID), None),)
    assert found.spacing_mm[1] == pytest.approx(10 * image.SequenceOfUltrasoundRegions[0].PhysicalDeltaY)
    assert found.model == TEST_BREAST


def test_the_kept_map_is_that_of_the_class_that_was_found(node, kept, explained_package) -> None:
    predictor = Predictor(load_package(explained_package), device="cpu")
    manifest, found = predictor.package.manifest, heat_map_of(node, kept)
    image = breast_image(STUDY)
    pixels = np.frombuffer(image.PixelData, np.uint8)[: image.Rows * image.Columns]
    volume = Volume(pixels.reshape(1, image.Rows, image.Columns).astype(np.float32))
    recipe = Recipe("grad-cam", LAYER)
    apart = {}
    for item in manifest.findings.classes:
        made = attend(predictor.network, predictor.device, manifest, volume, item.name, recipe)
        apart[item.name] = float(np.abs(made.heat - found.heat).max())
    assert apart.pop(found.class_name) < 0.01
    assert min(apart.values()) > 0.05


def test_dicom_objects_are_queued_for_the_archive_and_the_map_is_not(node, kept) -> None:
    view = node.view(STUDY)
    sent = {delivery.result_id for delivery in view.deliveries}
    assert sent == {result.id for result in view.results if result.kind != "HEAT"}
    assert kept.id not in sent


def test_the_page_shows_the_map_with_its_words(node, kept) -> None:
    app = create_app(node.settings, node.database)
    with TestClient(app, base_url="http://127.0.0.1:8042", headers={"accept": "text/html"}) as page:
        study_id = node.view(STUDY).study.id
        text = page.get(f"/studies/{study_id}").text
        answer = page.get(f"/studies/{study_id}/results/{kept.id}/attention.png")
    assert CAPTION in text
    assert f"/results/{kept.id}/attention.png" in text
    pixels = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(int)
    assert np.ptp(pixels, axis=2).max() > 60


def test_a_package_without_the_block_keeps_and_shows_nothing(
    node, explained_package, tmp_path, template
) -> None:
    plain = shutil.copytree(explained_package, tmp_path / "plain" / BREAST)
    content = json.loads((plain / "model.json").read_text())
    del content["explain"]
    (plain / "model.json").write_text(json.dumps(content))
    without = read_by(plain, tmp_path / "node", template)
    try:
        assert {result.kind for result in without.view(STUDY).results} == {"SEG", "SR", "SC"}
        assert "attention" not in analysis_of(without).findings
        explained, silent = picture_of(node), picture_of(without)
        assert np.array_equal(explained[:860, :840], silent[:860, :840])
        assert not np.array_equal(explained[:860, 868:], silent[:860, 868:])
    finally:
        without.close()
