"""Which packages run: intact, enabled, and accepted when they are not shipped."""

import shutil

import pytest
from pipeline_node import BRAIN, TEST_BRAIN, TEST_BREAST

from config.errors import PrereadError
from config.settings import PackageSettings, Settings
from models.package import load_package
from pipeline.packages import offer_of


def settings(**packages):
    return Settings(packages=PackageSettings(**packages))


@pytest.fixture
def digests(packages):
    found = [load_package(folder) for folder in sorted(packages.iterdir())]
    return {package.manifest.id: package.digest for package in found}


def reasons(offer):
    return {folder: error.what for folder, error in offer.refused}


def test_accepted_packages_run_and_have_a_place(packages, digests):
    enabled = tuple(digests)
    offer = offer_of(settings(folders=(packages,), accepted=digests, enabled=enabled))
    assert [p.manifest.id for p in offer.runs] == [TEST_BRAIN, TEST_BREAST]
    assert offer.slot(TEST_BREAST) == 1
    assert offer.package(TEST_BRAIN).digest == digests[TEST_BRAIN]


def test_package_of_ones_own_runs_only_when_its_digest_is_accepted(packages, digests):
    offer = offer_of(settings(folders=(packages,), accepted={TEST_BRAIN: "0" * 64}, enabled=tuple(digests)))
    assert offer.runs == ()
    assert "digest is not accepted" in reasons(offer)[BRAIN]


def test_package_that_is_not_enabled_does_not_run_and_says_so(packages, digests):
    offer = offer_of(settings(folders=(packages,), accepted=digests, enabled=(TEST_BRAIN,)))
    assert [p.manifest.id for p in offer.runs] == [TEST_BRAIN]
    with pytest.raises(PrereadError, match="does not run on this node"):
        offer.package(TEST_BREAST)


def test_second_package_with_an_id_is_refused(tmp_path, packages, digests):
    copies = tmp_path / "copies"
    shutil.copytree(packages / BRAIN, copies / "again")
    offer = offer_of(settings(folders=(packages, copies), accepted=digests, enabled=tuple(digests)))
    assert "another package" in reasons(offer)["again"]


def test_changed_package_is_refused(tmp_path, packages, digests):
    copies = tmp_path / "copies"
    shutil.copytree(packages / BRAIN, copies / BRAIN)
    (copies / BRAIN / "CARD.md").write_text("Sees everything.\n")
    offer = offer_of(settings(folders=(copies,), accepted=digests, enabled=tuple(digests)))
    assert offer.runs == ()
    assert "CARD.md" in reasons(offer)[BRAIN]
