"""Programs of real peers and validators that tests run."""

import os
import shutil

import pytest


def tool(name: str) -> str:
    """The path of a program; its absence is a failure in CI and a named skip elsewhere."""
    found = shutil.which(name)
    if found is None:
        package = {"dciodvfy": "dicom3tools"}.get(name, "dcmtk")
        message = f"{name} is not installed (apt install {package})"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found
