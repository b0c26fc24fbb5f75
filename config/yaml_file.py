"""A YAML file as a tree that knows its lines, and a model's refusal of it as problems a person can mend.

Shared by everything that people write by hand: the settings of a node, the recipe of a model. Each problem
names file, line, place, reason and remedy. Nothing but plain values is read: no tags, no objects.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic_core import ErrorDetails

from config.errors import PrereadError

Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a file."""

    where: str  # "config.yaml line 12" or "environment PREREAD_LISTENER__PORT"
    setting: str  # "peers[1].ae_title", empty when the file itself cannot be read
    reason: str  # what is wrong and the remedy

    def __str__(self) -> str:
        return f"{self.where}: {self.setting + ': ' if self.setting else ''}{self.reason}"


class FileProblems(PrereadError):
    """A file that cannot be used; `problems` lists every reason found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


class _Loader(yaml.SafeLoader):
    """YAML's plain values, with 1e-3 a number as everybody means it (YAML 1.1 wants 1.0e-3)."""


class _Dumper(yaml.SafeDumper):
    """Quotes the text 1e-3, since our loader takes it for a number."""


_EXPONENT = re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))


def read_tree(file: Path, *, first_words: str) -> tuple[dict[str, Any], dict[Place, int]]:
    """The mapping in a file, and the line on which each place of it stands.

    Parameters
    ----------
    first_words : what such a file begins with, for the remedy: "node:"

    Raises
    ------
    FileProblems
        It cannot be read, is not UTF-8 or not YAML, is no mapping, or says something twice.
    """
    lines: dict[Place, int] = {}
    problems: list[Problem] = []
    try:
        text = file.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=_Loader)
        tree = yaml.load(text, Loader=_Loader)  # a SafeLoader with one more form of number
    except OSError as error:
        raise FileProblems(
            [Problem(str(file), "", f"cannot be read: {error.strerror}. Correct its rights.")]
        ) from None
    except UnicodeDecodeError as error:
        raise FileProblems(
            [Problem(str(file), "", f"is not UTF-8 at byte {error.start}. Save it as UTF-8.")]
        ) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file} line {mark.line + 1}" if mark else str(file)
        reason = f"not valid YAML: {getattr(error, 'problem', error)}. Correct the indentation or quoting."
        raise FileProblems([Problem(where, "", reason)]) from None
    if root is None:
        return {}, {}
    _walk(root, (), lines, problems, file)
    if not isinstance(tree, dict):
        reason = f"the file is not a mapping. Begin with `{first_words}`."
        problems.append(Problem(f"{file} line 1", "", reason))
    if problems:
        raise FileProblems(problems)
    return tree, lines


def _walk(
    node: yaml.Node, place: Place, lines: dict[Place, int], problems: list[Problem], file: Path
) -> None:
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                reason = f"stands twice, first on line {seen[key.value]}. Remove one."
                problems.append(Problem(f"{file} line {line}", spelled((*place, key.value)), reason))
            seen[key.value] = line
            lines[(*place, key.value)] = line
            _walk(value, (*place, key.value), lines, problems, file)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _walk(value, (*place, index), lines, problems, file)


def plain_value(text: str) -> Any:
    """A value as it would be read from a file; raises yaml.YAMLError."""
    return yaml.load(text, Loader=_Loader)  # a SafeLoader, as above


def written(tree: Mapping[str, Any]) -> str:
    """A tree as a file that reads back the same, in the order of its keys."""
    return yaml.dump(dict(tree), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested mappings as one; `above` wins."""
    result = dict(below)
    for name, value in above.items():
        old = result.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            result[name] = merged(old, value)
        else:
            result[name] = value
    return result


def spelled(place: Place) -> str:
    """A place as people write it: peers[1].ae_title."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def line_of(place: Place, lines: Mapping[Place, int]) -> int:
    """The line of a place, or of the nearest thing around it."""
    return next((lines[place[:n]] for n in range(len(place), -1, -1) if place[:n] in lines), 1)


def as_written(loc: Place, model: type[BaseModel]) -> Place:
    """The place of a fault in `model`'s tree, without the names of alternatives that pydantic adds."""
    return _walked(loc, model)[0]


def model_at(loc: Place, model: type[BaseModel]) -> type[BaseModel]:
    """The model that holds the settings of a place in `model`'s tree."""
    return _walked(loc, model)[1]


def _walked(loc: Place, model: type[BaseModel]) -> tuple[Place, type[BaseModel]]:
    place: Place = ()
    inner: list[type[BaseModel]] = [model]
    holder = model
    for part in loc:
        if isinstance(part, int):
            place = (*place, part)
        elif len(inner) > 1:  # of several models the next part names one
            inner = [one for one in inner if part in _tags_of(one)][:1]
        elif inner:
            place, holder = (*place, part), inner[0]
            field = holder.model_fields.get(part)
            inner = [] if field is None else _models_in(field.annotation)
        holder = inner[0] if len(inner) == 1 else holder
    return place, holder


def place_of(detail: ErrorDetails, model: type[BaseModel]) -> Place:
    """The place of a fault; where an alternative is named wrongly, that of its name."""
    place = as_written(detail["loc"], model)
    return (*place, _discriminator(detail)) if detail["type"].startswith("union_tag") else place


def _discriminator(detail: ErrorDetails) -> str:
    return str(detail["ctx"]["discriminator"]).strip("'")


def reason_of(detail: ErrorDetails, loc: Place, model: type[BaseModel]) -> str:
    """What is wrong at `loc` (as pydantic gives it) of `model`'s tree, and the remedy."""
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        names = list(model_at(loc[:-1], model).model_fields)
        near = difflib.get_close_matches(str(loc[-1]), names, n=1)
        known = f"Did you mean {near[0]!r}?" if near else f"Known here: {', '.join(names)}."
        return f"there is no such setting. {known}"
    if detail["type"] == "missing":
        return "is required. Add it."
    if detail["type"] == "union_tag_invalid":
        tag, known = detail["ctx"]["tag"], detail["ctx"]["expected_tags"]
        return f"there is no {_discriminator(detail)} {tag!r}. Known: {known}."
    if detail["type"] == "union_tag_not_found":
        return "is required. Add it."
    if detail["type"] == "value_error":
        return message
    return f"{message[0].lower()}{message[1:]}, found {detail['input']!r}. Correct the value."


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _tags_of(model: type[BaseModel]) -> set[str]:
    """Texts that a field of the model may only be one of."""
    return {
        value
        for field in model.model_fields.values()
        if get_origin(field.annotation) is Literal
        for value in get_args(field.annotation)
        if isinstance(value, str)
    }
