"""PURE: the configuration of a MONAI bundle, read as values. It is a program to MONAI; here nothing is run.

To MONAI a text that begins with `$` is Python to evaluate, `@a#b` stands for another place, and `_target_`
names a class to import. Here `@` to a plain value is followed, `_target_` is compared with a list, and a `$`
is never evaluated: a few harmless forms are known by their exact text, the rest are listed as not understood.
One that stands where the model is described, or that reaches for the system, refuses the bundle.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from models.adapters.reading import plain_words
from models.adapters.refusal import NOT_TRUSTED, ImportRefusal

REFERENCES_MAX: Final = 8
LISTED_MAX: Final = 20
HARMLESS: Final = frozenset(
    {
        "$import glob",
        "$import os",
        "$import torch",
        "$from pathlib import Path",
        "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        '$torch.device("cuda:0" if torch.cuda.is_available() else "cpu")',
        "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "$torch.device('cuda:0')",
        "$torch.device('cpu')",
        "$@network_def.to(@device)",
        "$@bundle_root + '/eval'",
        "$@bundle_root + '/models'",
        "$@bundle_root + '/models/model.pt'",
        "$@evaluator.run()",
        "$setattr(torch.backends.cudnn, 'benchmark', True)",
    }
)
# What no configuration of a model needs: it would reach for the system, the network or more code.
_REACHING: Final = re.compile(
    r"os\.(system|popen|exec|spawn|remove|unlink|fork|kill)|subprocess|__\w+__|\beval\s*\(|\bexec\s*\(|\bcompile\s*\(|"
    r"\bopen\s*\(|socket|urllib|requests\.|http|ftp|pickle|ctypes|importlib|rmtree|getattr\s*\(|globals\s*\(|base64|"
    r"torch\.(load|hub)|\bsys\."
)


def expressions(config: Any) -> Iterator[tuple[str, str]]:
    """(place, text) of every text that begins with `$`."""
    waiting = [("", config)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{place}#{key}".strip("#"), one) for key, one in value.items()]
        elif isinstance(value, list):
            waiting += [(f"{place}#{index}", one) for index, one in enumerate(value)]
        elif isinstance(value, str) and value.startswith("$"):
            yield place, value


def check_expressions(config: Any, where: str) -> list[str]:
    """Sentences about expressions that were not understood.

    Raises
    ------
    ImportRefusal
        One reaches for the system.
    """
    sentences = []
    for place, text in sorted(expressions(config)):
        if text in HARMLESS:
            continue
        if _REACHING.search(text):
            raise ImportRefusal(
                f"the expression at {plain_words(place, 80)} reaches for the system: "
                f"{plain_words(text, 120)}; it was not run",
                where=where,
                remedy=NOT_TRUSTED,
            )
        sentences.append(f"Not understood and not run, at {plain_words(place, 80)}: {plain_words(text, 160)}")
    if len(sentences) > LISTED_MAX:
        left = len(sentences) - LISTED_MAX
        sentences = [*sentences[:LISTED_MAX], f"{left} more expressions were not understood and not run."]
    return sentences


def described(config: Any, place: str, where: str) -> Any:
    """A part that describes the model, with its references followed; None when it is not there.

    Raises
    ------
    ImportRefusal
        It holds an expression, or a reference that leads nowhere or in circles.
    """
    value = config.get(place) if isinstance(config, dict) else None
    return _followed(config, value, place, where, 0)


def target_of(value: Any) -> str | None:
    """The last part of a class's name without the suffixes of MONAI's dictionary transforms."""
    if not isinstance(value, dict) or not isinstance(value.get("_target_"), str):
        return None
    return str(value["_target_"]).rsplit(".", 1)[-1]


def check_target(value: Any, where: str, *, modules: tuple[str, ...]) -> str:
    """The class's own name, if it is written bare or from one of these modules.

    Raises
    ------
    ImportRefusal
        It is of another module: code that is not MONAI's.
    """
    name = value.get("_target_") if isinstance(value, dict) else None
    if not isinstance(name, str):
        raise ImportRefusal("a part without _target_", where=where, remedy="Export the network to ONNX.")
    if "." in name and not name.startswith(modules):
        raise ImportRefusal(
            f"the class {plain_words(name, 100)} is not MONAI's; it was not imported",
            where=where,
            remedy="Export the network to ONNX where the model lives.",
        )
    return name.rsplit(".", 1)[-1]


def _followed(config: Any, value: Any, place: str, where: str, depth: int) -> Any:
    if depth > REFERENCES_MAX * 5:
        raise ImportRefusal(
            f"references at {plain_words(place, 80)} go in circles", where=where, remedy=NOT_TRUSTED
        )
    if isinstance(value, dict):
        # Where it is computed is not the model's to say, and nearly always an expression.
        kept = {key: one for key, one in value.items() if key != "device"}
        return {key: _followed(config, one, f"{place}#{key}", where, depth + 1) for key, one in kept.items()}
    if isinstance(value, list):
        return [_followed(config, one, f"{place}#{i}", where, depth + 1) for i, one in enumerate(value)]
    if not isinstance(value, str) or value[:1] not in "$@%" or not value:
        return value
    if re.fullmatch(r"@[A-Za-z_]\w*((#|::)\w+)*", value):
        found = config
        for part in re.split(r"#|::", value[1:]):
            if isinstance(found, list) and part.isdigit() and int(part) < len(found):
                found = found[int(part)]
            elif isinstance(found, dict) and part in found:
                found = found[part]
            else:
                raise ImportRefusal(
                    f"{plain_words(place, 80)} refers to {plain_words(value, 80)}, which is not there",
                    where=where,
                    remedy="Write the value in its place.",
                )
        return _followed(config, found, place, where, depth + 5)
    raise ImportRefusal(
        f"{plain_words(place, 80)} is the expression {plain_words(value, 120)}; it was not run",
        where=where,
        remedy="Write the value in its place: expressions are not evaluated where the model is described.",
    )
