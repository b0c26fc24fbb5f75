"""A seeded node for each test, and a browser without a screen: Starlette's client on the real application."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from starlette.testclient import TestClient

from preread.web.app import create_app


def _seeded() -> ModuleType:
    name = "seeded_page"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / "seeded.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture
def seeded() -> ModuleType:
    """The builder's module."""
    return _seeded()


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Closed nodes to copy: without studies, and with one brain study that was delivered."""
    empty = _seeded().SeededNode(tmp_path_factory.mktemp("template") / "empty")
    empty.close()
    brain = _seeded().SeededNode(tmp_path_factory.mktemp("template") / "brain", template=empty)
    brain.brain()
    brain.close()
    return {"empty": empty, "brain": brain}


@pytest.fixture
def make_node(tmp_path: Path, templates: dict) -> Iterator[Callable]:
    """A node with settings of one's choice, empty or with one brain study."""
    made = []

    def make(template: str = "empty", **settings):
        folder = tmp_path / f"node{len(made)}"
        made.append(_seeded().SeededNode(folder, template=templates[template], **settings))
        return made[-1]

    yield make
    for node in made:
        node.close()


@pytest.fixture
def node(make_node):
    """A node of its own without studies."""
    return make_node()


@pytest.fixture
def brain_node(make_node):
    """A node of its own with one brain study, number 1."""
    return make_node("brain")


@pytest.fixture
def browse() -> Iterator[Callable]:
    """A client of a node's page, on 127.0.0.1 unless another host is asked for."""
    opened, apps = [], {}

    def open_page(node, host: str = "127.0.0.1:8042", **options) -> TestClient:
        if id(node) not in apps:
            apps[id(node)] = create_app(node.settings, node.db)
        client = TestClient(
            apps[id(node)],
            base_url=f"http://{host}",
            headers={"accept": "text/html"},
            follow_redirects=False,
            **options,
        )
        opened.append(client)
        return client

    yield open_page
    for client in opened:
        client.close()


@pytest.fixture
def page(node, browse) -> TestClient:
    """The page of `node`."""
    return browse(node)


@pytest.fixture
def brain_page(brain_node, browse) -> TestClient:
    """The page of `brain_node`."""
    return browse(brain_node)


@pytest.fixture
def token() -> Callable[[TestClient], str]:
    """The token that forms of a client's session carry, read off a page."""

    def read(client: TestClient, path: str = "/") -> str:
        text = client.get(path).text
        return text.split('name="token" value="', 1)[1].split('"', 1)[0]

    return read
