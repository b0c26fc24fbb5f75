"""A sorter's package is read by the rules of every package, and runs only where it computes the same."""

import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_sorter import QUESTIONS, write_sorter

from models.package import PackageError, hash_of, list_packages, load_package
from models.sorting import package
from models.sorting.manifest import SorterManifest
from models.sorting.package import SCHEMA_NAME, list_sorters, load_sorter, sorter_schema
from models.sorting.sorter import Sorter

ANSWERS = {"body_part": "head", "modality": "mr_t1", "contrast": "with", "quality": "fine"}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sorters") / "test-sorter"
    write_sorter(folder, ANSWERS)
    return folder


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "test-sorter")


def rewrite(folder, edit):
    content = json.loads((folder / "model.json").read_text())
    edit(content)
    (folder / "model.json").write_text(json.dumps(content))


def listed_again(folder, name):
    """The checksum of a changed file, as one who tampers with both would write it."""

    def edit(content):
        (item,) = [item for item in content["files"] if item["path"] == name]
        item.update(sha256=hash_of(folder / name), bytes=(folder / name).stat().st_size)

    rewrite(folder, edit)


def test_a_sorter_answers_and_its_golden_case_comes_out(original):
    sorter = Sorter(load_sorter(original))
    said = sorter.sort([np.random.default_rng(1).uniform(0, 1, (200, 200))])
    assert {one.question: one.name for one in said.given} == ANSWERS
    assert said.sorter == "test-sorter 1.0.0"
    assert sorter.verify_golden().passed


def test_heads_that_were_swapped_are_seen(folder):
    weights = load_file(folder / "weights.safetensors")
    bias, first = weights["head.5.bias"], QUESTIONS[0].outputs
    weights["head.5.bias"] = torch.cat([bias[first:], bias[:first]])
    save_file(weights, folder / "weights.safetensors")
    listed_again(folder, "weights.safetensors")
    report = Sorter(load_sorter(folder)).verify_golden()
    assert not report.passed
    assert "other answers" in report.message
    assert "probabilities differ" in report.message


def test_weights_of_another_network_are_refused(folder):
    weights = load_file(folder / "weights.safetensors")
    save_file({**weights, "head.5.bias": torch.zeros(3)}, folder / "weights.safetensors")
    listed_again(folder, "weights.safetensors")
    with pytest.raises(PackageError, match=r"head\.5\.bias"):
        Sorter(load_sorter(folder))


@pytest.mark.parametrize("name", ["weights.safetensors", "golden/input.npz", "CARD.md", "split.csv"])
def test_a_changed_file_is_refused_by_name(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(PackageError, match=f"{name} .* checksum"):
        load_sorter(folder)


def test_a_file_that_is_not_listed_and_a_link_are_refused(folder):
    (folder / "hook.py").write_text("print('never run')")
    with pytest.raises(PackageError, match=r"hook\.py is not listed"):
        load_sorter(folder)
    (folder / "hook.py").unlink()
    (folder / "CARD.md").unlink()
    (folder / "CARD.md").symlink_to("/etc/hostname")
    with pytest.raises(PackageError, match=r"CARD\.md is a link"):
        load_sorter(folder)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda c: c.update(format="preread-model/9"), "format"),
        (lambda c: c["network"].update(registry="os.system@1"), "network.registry"),
        (lambda c: c["network"].update(classes=3), "outputs"),
        (lambda c: c.update(hooks=["run.py"]), "hooks: Extra inputs"),
        (lambda c: c["files"][0].update(path="../weights.safetensors"), "files.0.path"),
        (lambda c: c["questions"][0].update(threshold=1.5), "questions.0.threshold"),
        (lambda c: c["questions"][0].update(sure=0.1), "sure must not lie below"),
        (lambda c: c["questions"][2]["asked_when"].update(answers=["pet"]), "earlier question"),
        (lambda c: c["questions"][0]["answers"][0].update(name="unknown"), "no answers of a list"),
        (
            lambda c: c["questions"][0]["answers"][0]["said_by"][0].update(value="("),
            "no regular expression",
        ),
        (
            lambda c: c["questions"][0]["answers"][0]["said_by"][0].update(unknown="accept"),
            "an absent attribute fails",
        ),
        (lambda c: c["golden"].update(answers=[["body_part", "knee"]]), "no answer knee"),
    ],
)
def test_a_manifest_that_breaks_the_schema_is_refused_by_field(folder, edit, words):
    rewrite(folder, edit)
    with pytest.raises(PackageError) as caught:
        load_sorter(folder)
    assert words in str(caught.value)
    assert caught.value.remedy


def test_a_sorter_is_no_package_that_reads_studies(original):
    assert [listing.folder.name for listing in list_packages([original.parent])] == []
    with pytest.raises(PackageError, match="sorts series"):
        load_package(original)


def test_sorters_are_listed_with_their_error_and_other_packages_are_not(folder, package_folder):
    shutil.copytree(package_folder, folder.parent / "lesions")
    (folder / "CARD.md").unlink()
    (listing,) = list_sorters([folder.parent])
    assert listing.package is None
    assert "CARD.md" in str(listing.error)


def test_the_shipped_schema_is_in_step_with_the_types(original):
    schema = json.loads((Path(package.__file__).parent / SCHEMA_NAME).read_text())
    assert schema == json.loads(json.dumps(sorter_schema())), (
        "run write_sorter_schema() and commit the result"
    )
    content = json.loads((original / "model.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(content)
    assert SorterManifest.model_validate_json(json.dumps(content)).id == "test-sorter"
    content["surprise"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(content)
