"""`preread models import` and `finish`: what they say, and how wrong use ends."""

import json
from pathlib import Path

import pytest
from onnx_file import small_network
from typer.testing import CliRunner

from config.errors import PrereadError
from preread.commands.models import app


def run(*arguments: object) -> tuple[int, str, str, BaseException | None]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.stdout, done.stderr, done.exception


def test_import_says_what_was_read_and_guessed_and_where_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(small_network(sizes=(1, 1, "h", "w"))[0])
    given = ("--out", tmp_path / "my-net", "--window", "32x48", "--orientation", "RAH")
    code, out, _, _ = run("import", tmp_path / "net.onnx", *given)
    assert code == 0
    assert "Read:" in out
    assert "Guessed:" in out
    assert "is a draft and does not run" in out
    draft = json.loads((tmp_path / "my-net/draft.json").read_text())
    assert draft["id"] == "my-net"
    assert draft["grid"]["tiling"]["window"] == [32, 48]
    notes = (tmp_path / "my-net/IMPORT.md").read_text()
    assert "What a person must fill" in notes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--id", "Not An Id"), "is no id"),
        (("--orientation", "LLH"), "is no orientation"),
        (("--window", "12"), "is no window"),
    ],
)
def test_a_wrong_option_is_named(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    code, _, err, _ = run("import", tmp_path / "net.onnx", "--out", tmp_path / "my-net", *arguments)
    assert code == 1
    assert words in err


def test_a_refusal_reaches_the_person_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"PK")
    _, _, _, error = run("import", tmp_path / "model.keras", "--out", tmp_path / "my-net")
    assert isinstance(error, PrereadError)
    assert "tf2onnx" in str(error)
    folder = tmp_path / "empty"
    folder.mkdir()
    _, _, _, error = run("finish", folder, "--golden-input", "a.npz", "--golden-expected", "b.npz")
    assert "no draft.json" in str(error)
