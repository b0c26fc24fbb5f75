"""Small packages, made once, and a fresh node on SQLite for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pipeline_node import BRAIN, BREAST, REPOSITORY, Node, make_node
from pipeline_packages import write_package


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Small networks gain nothing from threads, and the machine that runs the tests may be busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both models with networks that know nothing."""
    folder = tmp_path_factory.mktemp("packages")
    for model in (BRAIN, BREAST):
        write_package(folder / model, model)
    return folder


@pytest.fixture
def node(tmp_path: Path, sqlite_url: str, packages: Path) -> Iterator[Node]:
    made = make_node(tmp_path, sqlite_url, package_folder=packages)
    yield made
    made.close()


@pytest.fixture(scope="session")
def odd_folder() -> Path:
    """The folder of awkward files beside the checkout; tests that need it are skipped where it is not."""
    folder = REPOSITORY.parent / "shared" / "data" / "odd-dicom"
    if not (folder / "index.csv").exists():
        pytest.skip(f"awkward files are not at {folder}")
    return folder
