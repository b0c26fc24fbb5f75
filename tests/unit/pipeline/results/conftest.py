"""Sources in every form a PACS sends, for each test by name or by table."""

import pytest
from result_sources import Sources


@pytest.fixture
def sources() -> type[Sources]:
    """Builders of sources and findings."""
    return Sources


@pytest.fixture(scope="session")
def sources_class() -> type[Sources]:
    """The same for property tests, which need a fixture of the session."""
    return Sources


def pytest_generate_tests(metafunc):
    """Parametrise tests over the matrix and the quirk table by the name of their argument."""
    for argument, table in (
        ("source_name", Sources.matrix()),
        ("mended_name", Sources.mended),
        ("refused_name", Sources.refused),
    ):
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, list(table))
