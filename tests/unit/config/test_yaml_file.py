"""Files that people write: numbers as they are meant, lines that are right, nothing but plain values."""

from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError

from config.yaml_file import FileProblems, place_of, plain_value, read_tree, reason_of, written


def read(path, text):
    path.write_text(text, encoding="utf-8")
    return read_tree(path, first_words="a:")


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 1e-3), ("2.5E4", 2.5e4), ("-1e2", -100.0), ("1e", "1e"), ("'1e-3'", "1e-3")]
)
def test_a_number_with_an_exponent_is_a_number(text, value):
    assert plain_value(text) == value
    assert type(plain_value(text)) is type(value)


_PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text("ab1e-.: #'\"", max_size=8)
)


@given(st.dictionaries(st.text("abc", min_size=1), _PLAIN | st.lists(_PLAIN), max_size=5))
def test_what_is_written_reads_back_the_same(tmp_path_factory, tree):
    path = tmp_path_factory.mktemp("tree") / "x.yaml"
    path.write_text(written({"a": 0, **tree}), encoding="utf-8")
    assert read_tree(path, first_words="a:")[0] == {"a": 0, **tree}


def test_every_place_has_its_line(tmp_path):
    tree, lines = read(tmp_path / "x.yaml", "a:\n  - b: 1\n    c: 2\n  - d: {e: 3}\n")
    assert tree == {"a": [{"b": 1, "c": 2}, {"d": {"e": 3}}]}
    assert (lines["a", 0, "c"], lines["a", 1, "d", "e"]) == (3, 4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\na: 2\n", "line 2: a: stands twice, first on line 1"),
        ("- 1\n", "line 1: the file is not a mapping. Begin with `a:`"),
        ("a: [\n", "not valid YAML"),
        ("a: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
    ],
    ids=["twice", "list", "broken", "object"],
)
def test_a_file_that_cannot_be_used_says_where_and_why(tmp_path, text, words):
    with pytest.raises(FileProblems) as caught:
        read(tmp_path / "x.yaml", text)
    assert words in str(caught.value)


class Circle(BaseModel):
    kind: Literal["radius"]
    radius: float


class Box(BaseModel):
    kind: Literal["box"]
    side: float | str


class Drawing(BaseModel):
    shape: Annotated[Circle | Box, Field(discriminator="kind")]
    more: tuple[Annotated[Circle | Box, Field(discriminator="kind")], ...] = ()


@pytest.mark.parametrize(
    ("tree", "place", "reason"),
    [
        ({"shape": {"kind": "radius", "radius": "x"}}, ("shape", "radius"), "found 'x'"),
        ({"shape": {"kind": "radius"}}, ("shape", "radius"), "is required"),
        ({"shape": {"kind": "box", "side": []}}, ("shape", "side"), "found []"),
        ({"shape": {"kind": "ball"}}, ("shape", "kind"), "there is no kind 'ball'. Known: 'radius', 'box'"),
        ({"shape": {}}, ("shape", "kind"), "is required"),
        (
            {"more": [{"kind": "box", "side": []}], "shape": {"kind": "box", "side": 1}},
            ("more", 0, "side"),
            "[]",
        ),
    ],
    ids=["key-like-the-alternative", "missing", "one-of-two-types", "unknown", "unnamed", "in-a-list"],
)
def test_names_of_alternatives_are_no_part_of_a_place(tree, place, reason):
    with pytest.raises(ValidationError) as caught:
        Drawing.model_validate(tree)
    detail = caught.value.errors()[0]
    assert place_of(detail, Drawing) == place
    assert reason in reason_of(detail, detail["loc"], Drawing)
