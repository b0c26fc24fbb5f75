"""A whole package with a narrow network and random weights, made once; tests copy it before they break it."""

import json
import shutil

import pytest
import torch
from narrow_package import write_narrow_package

from models.package import load_package


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Small networks gain nothing from threads, and the machine that runs the tests may be busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def original_package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages") / "breast-us-lesion"
    write_narrow_package(folder, "breast-us-lesion", package_id="breast-us-lesion")
    return folder


@pytest.fixture
def package_folder(original_package, tmp_path):
    return shutil.copytree(original_package, tmp_path / "packages" / original_package.name)


@pytest.fixture
def package(original_package):
    return load_package(original_package)


@pytest.fixture
def rewrite(package_folder):
    """Change model.json by a function of its decoded content."""

    def change(edit):
        path = package_folder / "model.json"
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))

    return change
