"""Which versions run here, for the Node page and for whoever reports a fault."""

import platform
from importlib.metadata import PackageNotFoundError, version

from config.identity import IMPLEMENTATION_UID, VERSION
from db.views import NodeStatus

_LIBRARIES = ("pydicom", "pynetdicom", "highdicom", "torch", "SQLAlchemy")


def versions_of(status: NodeStatus) -> list[tuple[str, str]]:
    """(name, version) of what a fault may depend on; nothing is imported for it."""
    database = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[status.dialect]
    schema = status.schema_revision + ("" if status.schema_is_current else ", not the one of this version")
    return [
        ("preread", VERSION),
        (database, f"{status.database_version}, schema {schema}"),
        ("Python", f"{platform.python_version()} on {platform.system()} {platform.release()}"),
        *((name, _installed(name)) for name in _LIBRARIES),
        ("Implementation UID", IMPLEMENTATION_UID),
    ]


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
