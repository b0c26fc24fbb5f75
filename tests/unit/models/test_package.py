import json
from pathlib import Path

import jsonschema
import pytest

import models.package
from models.package import (
    PackageError,
    digest_of,
    installed_packages_folder,
    list_packages,
    load_package,
    package_schema,
)


def test_a_package_as_made_is_loaded_with_a_digest_of_its_canonical_manifest(package_folder):
    package = load_package(package_folder)
    content = json.loads((package_folder / "model.json").read_text())
    assert package.digest == digest_of(dict(reversed(content.items())))
    assert package.path("weights").name == "weights.safetensors"


@pytest.mark.parametrize(
    "name", ["weights.safetensors", "golden/input.npz", "golden/expected.npz", "CARD.md"]
)
def test_a_changed_file_is_refused_by_name(package_folder, name):
    path = package_folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(PackageError, match=f"{name} .* checksum"):
        load_package(package_folder)


@pytest.mark.parametrize("name", ["weights.safetensors", "golden/input.npz", "CARD.md"])
def test_a_missing_file_is_refused_by_name(package_folder, name):
    (package_folder / name).unlink()
    with pytest.raises(PackageError, match=f"{name} .* missing"):
        load_package(package_folder)


def test_a_file_that_is_not_listed_is_refused_by_name(package_folder):
    (package_folder / "golden" / "hook.py").write_text("print('never run')")
    with pytest.raises(PackageError, match=r"golden/hook\.py is not listed"):
        load_package(package_folder)


def test_a_link_out_of_the_package_is_refused(package_folder):
    (package_folder / "CARD.md").unlink()
    (package_folder / "CARD.md").symlink_to("/etc/hostname")
    with pytest.raises(PackageError, match=r"CARD\.md is a link"):
        load_package(package_folder)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda c: c.update(format="preread-model/9"), "unknown format 'preread-model/9'"),
        (lambda c: c.pop("format"), "unknown format None"),
        (lambda c: c["network"].update(registry="os.system@1"), "network.registry"),
        (lambda c: c["network"].update(in_channels=10**9), "network.in_channels"),
        (lambda c: c.update(hooks=["run.py"]), "hooks: Extra inputs"),
        (lambda c: c["preprocess"].append({"step": "exec", "code": "1"}), "preprocess.4"),
        (lambda c: c["files"][0].update(path="../weights.safetensors"), "files.0.path"),
        (lambda c: c["files"][0].update(path="/etc/passwd"), "files.0.path"),
        (lambda c: c["files"].pop(1), "golden_in"),
        (lambda c: c["findings"]["classes"].pop(), "classes"),
        (lambda c: c["evaluation"][0].pop("ci95"), "evaluation.0.ci95"),
        (lambda c: c["evaluation"][0].pop("n"), "evaluation.0.n"),
        (lambda c: c.update(version=1), "version"),
        (
            lambda c: c["inputs"][0]["applicability"]["any"][0]["options"][0][0].update(value="("),
            "no regular expression",
        ),
    ],
)
def test_a_manifest_that_breaks_the_schema_is_refused_by_field(package_folder, rewrite, edit, words):
    rewrite(edit)
    with pytest.raises(PackageError) as caught:
        load_package(package_folder)
    assert words in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("text", ["", "[1, 2]", "{", "[" * 100_000, '{"format": "preread-model/1"}'])
def test_text_that_is_no_manifest_is_a_package_error_and_nothing_else(package_folder, text):
    (package_folder / "model.json").write_text(text)
    with pytest.raises(PackageError):
        load_package(package_folder)


def test_a_huge_manifest_is_refused_before_it_is_read(package_folder):
    (package_folder / "model.json").write_text(" " * (300 * 1024))
    with pytest.raises(PackageError, match="larger than"):
        load_package(package_folder)


def test_listing_shows_broken_packages_with_their_error_beside_whole_ones(package_folder):
    (package_folder.parent / "broken").mkdir()
    listings = list_packages([package_folder.parent, Path("/nowhere")])
    assert [listing.folder.name for listing in listings] == ["breast-us-lesion", "broken"]
    assert listings[0].package is not None
    assert "no model.json" in str(listings[1].error)


def test_the_shipped_schema_is_in_step_with_the_types_and_accepts_what_they_accept(package_folder):
    path = Path(models.package.__file__).parent / "package.schema.json"
    assert json.loads(path.read_text()) == json.loads(json.dumps(package_schema())), (
        "run models.package.write_schema() and commit the result"
    )
    schema = json.loads(path.read_text())
    content = json.loads((package_folder / "model.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(content)
    content["surprise"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(content)


def test_shipped_packages_lie_inside_the_models_package():
    assert installed_packages_folder() == Path(models.package.__file__).parent / "packages"
