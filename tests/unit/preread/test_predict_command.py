"""`preread models predict`: files in, labels, numbers and objects out, the same as the node makes."""

import json

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image
from typer.testing import CliRunner

from models.package import installed_packages_folder, load_package
from models.predictor import Predictor, read_golden_arrays
from models.training.readers import read_volume
from preread.commands.models import app
from preread.demo.phantom_dicom import brain_study, breast_study
from preread.demo.phantom_study import part10


def predict(name, *arguments):
    run = CliRunner().invoke(app, ["predict", name, *map(str, arguments), "--json"])
    return run.exit_code, json.loads(run.stdout)


@pytest.fixture(scope="module")
def breast():
    return Predictor(load_package(installed_packages_folder() / "breast-us-lesion"), device="cpu")


def write_study(folder, study):
    folder.mkdir(parents=True)
    for number, dataset in enumerate(study.datasets):
        (folder / f"{number:03d}").write_bytes(part10(dataset))


def test_a_study_gives_the_objects_that_the_node_would_send(tmp_path, breast):
    study = breast_study(3)
    write_study(tmp_path / "study", study)
    (tmp_path / "study" / "notes.txt").write_text("no image")
    code, rows = predict("breast-us-lesion", tmp_path / "study", "--out", tmp_path / "out")
    assert code == 0
    read, left_out = rows
    assert left_out["outcome"] == "left out: it is no DICOM file"
    assert any(one["taken"] for one in read["series"])
    objects = [pydicom.dcmread(tmp_path / "out" / name) for name in read["files"]]
    assert [one.Modality for one in objects] == ["SEG", "SR", "OT"]
    sources = {str(one.SOPInstanceUID): one for one in study.datasets}
    seg = objects[0]
    for frame, pixels in enumerate(np.atleast_3d(seg.pixel_array.T).T):
        group = seg.PerFrameFunctionalGroupsSequence[frame]
        source = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        volume = read_volume(picture_of(sources[str(source)], tmp_path))
        assert np.array_equal(pixels > 0, breast.predict(volume).labels[0] > 0)


def picture_of(dataset, folder):
    path = folder / "frame.png"
    array = dataset.pixel_array
    Image.fromarray(array if array.ndim == 2 else array[..., 0]).save(path)
    return path


def test_a_study_that_the_model_is_not_for_is_refused_with_the_reason(tmp_path):
    write_study(tmp_path / "study", brain_study(1, slices=4, rows=48, columns=48, pixel_spacing_mm=5.0))
    code, (row,) = predict("breast-us-lesion", tmp_path / "study", "--out", tmp_path / "out")
    assert code == 1
    assert "The model reads ultrasound" in row["outcome"]
    assert not (tmp_path / "out").exists()


def test_labels_of_a_nifti_file_lie_where_the_file_lies(tmp_path):
    package = load_package(installed_packages_folder() / "hippocampus-volume")
    array = read_golden_arrays(package)["image"]
    affine = np.array([[0, -1.0, 0, 12], [0, 0, -1.0, -7], [1.0, 0, 0, 3], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), affine), tmp_path / "case.nii.gz")
    code, (row,) = predict("hippocampus-volume", tmp_path / "case.nii.gz", "--out", tmp_path / "out")
    assert code == 0
    assert row["files"] == ["case.jpg", "case.json", "case.labels.nii.gz"]
    labels = nib.load(tmp_path / "out" / "case.labels.nii.gz")
    assert np.allclose(labels.affine, affine)
    found = np.asarray(labels.dataobj)
    assert found.shape == array.transpose(2, 1, 0).shape
    expected = Predictor(package, device="cpu").predict(read_volume(tmp_path / "case.nii.gz")).labels
    assert np.array_equal(found.transpose(2, 1, 0), expected)
    assert found.any()
    numbers = json.loads((tmp_path / "out" / "case.json").read_text())["findings"]
    assert [one["voxels"] for one in numbers] == np.bincount(expected.ravel(), minlength=3)[1:].tolist()
    assert numbers[0]["volume_ml"] == pytest.approx(numbers[0]["voxels"] / 1000, abs=1e-3)


def test_a_folder_without_images_is_a_failure(tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "notes.txt").write_text("no image")
    code, (row,) = predict("breast-us-lesion", tmp_path / "study", "--out", tmp_path / "out")
    assert (code, row["analysed"]) == (1, None)


def test_a_broken_file_is_named_and_the_others_are_read(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    grey = np.random.default_rng(1).integers(0, 255, (60, 80)).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "good.png")
    inputs = (tmp_path / "broken.png", tmp_path / "good.png")
    code, (broken, good) = predict("breast-us-lesion", *inputs, "--out", tmp_path / "out")
    assert code == 1
    assert "broken.png cannot be read as a picture" in broken["outcome"]
    assert good["files"] == ["good.jpg", "good.json", "good.labels.png"]
