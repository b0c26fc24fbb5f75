"""A foreign folder or zip, opened without trusting it: names are checked, sizes have caps, and only the files
that an adapter asks for are unpacked.

Refused by name: links, names that are absolute or climb with `..`, two members of one name, encrypted
members, a member that is compressed more than `RATIO_MAX` times, and more members or bytes than the caps.
A zip is believed only as far as its bytes go: what is taken out is counted again while it is written.
"""

from __future__ import annotations

import json
import math
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

import yaml

from models.adapters.refusal import NOT_TRUSTED, ImportRefusal

MEMBERS_MAX: Final = 20_000
TOTAL_BYTES_MAX: Final = 16 << 30
WEIGHTS_BYTES_MAX: Final = 2 << 30  # a package's own limit for a file
TEXT_BYTES_MAX: Final = 4 << 20  # plans and configs are a few KiB; dataset.json may list its cases
YAML_BYTES_MAX: Final = 256 << 10  # its parser is slow
RATIO_MAX: Final = 200  # weights hardly shrink; text shrinks about tenfold
RATIO_BYTES_FREE: Final = 1 << 20  # below this a high ratio harms nobody
DEPTH_MAX: Final = 40
_CHUNK: Final = 1 << 20
_UNPACKING: Final = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError),
    *(NotImplementedError, RuntimeError, ValueError),
)


@dataclass(frozen=True)
class Source:
    """The files of a folder or zip.

    Parameters
    ----------
    place : the folder or the zip
    sizes : bytes by name, relative and with slashes, sorted by name
    archive : None for a folder
    """

    place: Path
    sizes: Mapping[str, int]
    archive: zipfile.ZipFile | None

    def where(self, name: str) -> str:
        """How a message calls a file."""
        return f"{self.place.name}/{name}"

    def named(self, filename: str) -> tuple[str, ...]:
        """Every file with this last part of its name."""
        return tuple(name for name in self.sizes if PurePosixPath(name).name == filename)

    def ending(self, *suffixes: str) -> tuple[str, ...]:
        """Every file whose name ends so, without case."""
        return tuple(name for name in self.sizes if name.lower().endswith(suffixes))

    def read(self, name: str, bytes_max: int = TEXT_BYTES_MAX) -> bytes:
        """The bytes of a small file."""
        self._check_size(name, bytes_max)
        with self._opened(name) as stream:
            content = stream.read(bytes_max + 1)
        if len(content) > bytes_max:
            raise _lies(self.where(name))
        return content

    def take(self, name: str, target: Path, bytes_max: int = WEIGHTS_BYTES_MAX) -> Path:
        """Copy a file to a new file outside; the caller names the target, never the source."""
        self._check_size(name, bytes_max)
        written = 0
        with self._opened(name) as stream, target.open("xb") as output:
            while chunk := stream.read(_CHUNK):
                written += len(chunk)
                if written > self.sizes[name]:
                    raise _lies(self.where(name))
                output.write(chunk)
        return target

    def json(self, name: str) -> Any:
        """A JSON file as plain values."""
        return parse_json(self.read(name), self.where(name))

    def yaml(self, name: str) -> Any:
        """A YAML file as plain values."""
        return parse_yaml(self.read(name, YAML_BYTES_MAX), self.where(name))

    def _check_size(self, name: str, bytes_max: int) -> None:
        if self.sizes[name] > bytes_max:
            raise ImportRefusal(
                f"{self.sizes[name]} bytes, at most {bytes_max} are read",
                where=self.where(name),
                remedy="Give the model alone, without training data; larger models are not imported.",
            )

    @contextmanager
    def _opened(self, name: str) -> Iterator[IO[bytes]]:
        if self.archive is None:
            with (self.place / name).open("rb") as stream:
                yield stream
            return
        try:
            with self.archive.open(name) as stream:
                yield stream
        except (
            zipfile.BadZipFile,
            EOFError,
            OSError,
            NotImplementedError,
            RuntimeError,
            ValueError,
        ) as error:
            raise ImportRefusal(
                f"cannot be unpacked: {error}", where=self.where(name), remedy="Fetch the archive again."
            ) from error


@contextmanager
def opened(place: Path) -> Iterator[Source]:
    """Open a folder or a zip.

    Raises
    ------
    ImportRefusal
        Neither of the two, or one that breaks a rule of this module.
    """
    if place.is_dir() and not place.is_symlink():
        yield Source(place, _sizes_of_folder(place), None)
        return
    if not place.is_file():
        raise ImportRefusal("no such file or folder", where=str(place), remedy="Check the path.")
    try:
        archive = zipfile.ZipFile(place)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ImportRefusal(
            f"not a zip: {error}", where=str(place), remedy="Give a folder, a zip or an .onnx file."
        ) from error
    with archive:
        yield Source(place, _sizes_of_zip(place, archive), archive)


def safe_name(name: str, place: Path) -> str:
    """A member's name, once it is known to stay inside."""
    parts = name.split("/")
    climbs = ".." in parts or name.startswith("/") or "\\" in name or ":" in parts[0] or "\0" in name
    if climbs or not name or not name.isprintable():
        raise ImportRefusal(
            f"the member {name[:80]!r} leads out of the archive", where=place.name, remedy=NOT_TRUSTED
        )
    return name


def _sizes_of_folder(place: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if path.is_symlink():
            raise ImportRefusal(
                f"{name[:80]!r} is a link",
                where=place.name,
                remedy="Copy the file it points to into its place.",
            )
        if path.is_dir():
            continue
        if not path.is_file():
            raise ImportRefusal(f"{name[:80]!r} is not a plain file", where=place.name, remedy=NOT_TRUSTED)
        sizes[name] = path.stat().st_size
        _check_caps(sizes, place)
    return sizes


def _sizes_of_zip(place: Path, archive: zipfile.ZipFile) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for member in archive.infolist():
        # As stored: the library cuts a name at a zero byte, and turns backslashes on some systems.
        name = safe_name(member.orig_filename, place)
        mode = member.external_attr >> 16
        if stat.S_ISLNK(mode):
            raise ImportRefusal(f"{name[:80]!r} is a link", where=place.name, remedy=NOT_TRUSTED)
        if member.is_dir():
            continue
        if name in sizes:
            raise ImportRefusal(f"two members are called {name[:80]!r}", where=place.name, remedy=NOT_TRUSTED)
        if member.flag_bits & 0x1:
            raise ImportRefusal(
                f"{name[:80]!r} is encrypted", where=place.name, remedy="Unpack it and give the folder."
            )
        if member.file_size > max(RATIO_BYTES_FREE, RATIO_MAX * member.compress_size):
            raise ImportRefusal(
                f"{name[:80]!r} grows more than {RATIO_MAX} times when it is unpacked: a zip bomb",
                where=place.name,
                remedy=NOT_TRUSTED,
            )
        sizes[name] = member.file_size
        _check_caps(sizes, place)
    return dict(sorted(sizes.items()))


def _check_caps(sizes: Mapping[str, int], place: Path) -> None:
    if len(sizes) > MEMBERS_MAX:
        raise ImportRefusal(
            f"more than {MEMBERS_MAX} files", where=place.name, remedy="Give the folder of one model alone."
        )
    if sum(sizes.values()) > TOTAL_BYTES_MAX:
        raise ImportRefusal(
            f"more than {TOTAL_BYTES_MAX >> 30} GiB", where=place.name, remedy="Give one model alone."
        )


def _lies(where: str) -> ImportRefusal:
    return ImportRefusal("holds more bytes than the archive says", where=where, remedy=NOT_TRUSTED)


def parse_json(content: bytes, where: str) -> Any:
    """JSON as plain values: no key twice, no NaN, no more than `DEPTH_MAX` levels."""
    try:
        values = json.loads(content, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ImportRefusal(
            f"not readable as JSON: {str(error)[:120]}", where=where, remedy="Fetch or export it again."
        ) from error
    return _plain(values, where)


def parse_yaml(content: bytes, where: str) -> Any:
    """YAML as plain values: no tags of objects, no anchors (a few bytes of them can stand for gigabytes)."""
    try:
        values = yaml.load(content, _PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        what = " ".join(str(error).split())[:160]
        raise ImportRefusal(
            f"not readable as plain YAML: {what}", where=where, remedy="Write it as JSON."
        ) from error
    return _plain(values, where)


class _PlainLoader(yaml.SafeLoader):
    """YAML without anchors and aliases."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # types-PyYAML leaves it out
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.YAMLError(f"line {event.start_mark.line + 1} has an anchor or alias")
        return super().compose_node(parent, index)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key stands there twice")
    return values


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


def _plain(values: Any, where: str) -> Any:
    """The same values, once they are known to be shallow, finite and of JSON's kinds, with text keys."""
    waiting = [(values, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > DEPTH_MAX:
            raise ImportRefusal(f"nested more than {DEPTH_MAX} levels", where=where, remedy=NOT_TRUSTED)
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise ImportRefusal("has a key that is no text", where=where, remedy="Write it as JSON.")
            waiting += [(one, depth + 1) for one in value.values()]
        elif isinstance(value, list):
            waiting += [(one, depth + 1) for one in value]
        elif isinstance(value, float) and not math.isfinite(value):
            raise ImportRefusal("has a number that is not finite", where=where, remedy="Export it again.")
        elif not isinstance(value, str | int | float | bool | None):
            raise ImportRefusal(
                f"has a value of the kind {type(value).__name__}", where=where, remedy="Write it as JSON."
            )
    return values
