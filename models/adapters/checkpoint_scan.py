"""What a checkpoint of torch would call while it is read, found without reading it.

A checkpoint is a zip: `NAME/data.pkl` is a pickle that names functions (opcode GLOBAL) and calls them,
`NAME/data/0`, `1` and so on are the numbers. Here the opcodes are walked, never executed, and each name is
compared with the few that tensors and plain values need. torch compares again (`weights_only=True`); this
walk is the first wall and the one that can say what was found.
"""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path
from typing import Final, NoReturn

from models.adapters.refusal import EXPORT_ONNX, EXPORT_WEIGHTS, NOT_TRUSTED, ImportRefusal

PICKLE_BYTES_MAX: Final = 64 << 20
MEMBERS_MAX: Final = 100_000
OPCODES_MAX: Final = 5_000_000

_STORAGES: Final = ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Short", "Char", "Byte", "Bool")
_NUMBERS: Final = (
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "bool",
)
STACKED: Final = " (by STACK_GLOBAL)"
ALLOWED_GLOBALS: Final = frozenset(
    {
        "collections.OrderedDict",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_parameter",
        "torch.nn.parameter.Parameter",
        "torch.storage.UntypedStorage",
        "torch.Size",
        "torch.device",
        "numpy.dtype",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
        "_codecs.encode",
        "__builtin__.set",
        "builtins.set",
    }
    | {f"torch.{name}Storage" for name in _STORAGES}
    | {f"torch.{name}" for name in _NUMBERS}
)
# A class among the names means that a whole module was pickled: its code is elsewhere, its numbers are lost
# without it.
_MODULES: Final = (
    "torch.nn.",
    "monai.",
    "torchvision.",
    "segmentation_models_pytorch.",
    "__main__.",
    "fastai.",
)


def check_checkpoint(path: Path, where: str) -> None:
    """Refuse a file that is not a checkpoint of plain tensors and values.

    Raises
    ------
    ImportRefusal
        TorchScript, an exported program, a pickled module, a bare pickle, or a pickle that names anything
        else; the name is in the message.
    """
    with path.open("rb") as stream:
        head = stream.read(8)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        raise ImportRefusal("HDF5, as Keras writes it, is not read", where=where, remedy=EXPORT_ONNX)
    if not head.startswith(b"PK\x03\x04"):
        _refuse_bare(path, where)
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, where)
            pickle = _pickle_of(archive, where)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise ImportRefusal(f"not a whole zip: {error}", where=where, remedy="Fetch it again.") from error
    check_globals(globals_of(pickle, where), where)


def check_globals(names: set[str], where: str) -> None:
    """Refuse the first name, in order of the alphabet, that tensors do not need."""
    offending = {name for name in names if name.removesuffix(STACKED) not in ALLOWED_GLOBALS}
    # An allowed name by another way is no better, but the worse one is the one to tell.
    for name in sorted(offending or names - ALLOWED_GLOBALS):
        if name.startswith(_MODULES):
            raise ImportRefusal(
                f"a pickled module: it needs the class {name}, which is code",
                where=where,
                remedy=EXPORT_WEIGHTS,
            )
        raise ImportRefusal(
            f"its pickle would call {name}, which weights do not need; it was not run",
            where=where,
            remedy=NOT_TRUSTED + " " + EXPORT_WEIGHTS,
        )


def globals_of(pickle: bytes, where: str) -> set[str]:
    """Every `module.name` the pickle would look up; opcodes that can hide a name are names themselves."""
    found: set[str] = set()
    strings = ["?", "?"]
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(pickle)):
            if count > OPCODES_MAX:
                raise ValueError(f"more than {OPCODES_MAX} opcodes")
            if opcode.name in ("GLOBAL", "INST"):
                found.add(str(argument).replace(" ", "."))
            elif opcode.name == "STACK_GLOBAL":
                # torch never writes it: refused whatever its name, the last two texts are the likely one.
                found.add(f"{strings[0]}.{strings[1]}{STACKED}")
            elif opcode.name.startswith("EXT"):
                found.add(f"extension {argument}")
            elif isinstance(argument, str) and opcode.name != "PERSID":
                strings = [strings[1], argument]
    except (ValueError, EOFError, IndexError, UnicodeError, OverflowError) as error:
        raise ImportRefusal(
            f"its pickle is damaged: {str(error)[:120]}", where=where, remedy="Fetch it again."
        ) from error
    return found


def _refuse_bare(path: Path, where: str) -> NoReturn:
    """Say what a file that is no zip would have done; never returns."""
    with path.open("rb") as stream:
        content = stream.read(PICKLE_BYTES_MAX)
    if content[:1] in (b"\x80", b"(", b"c"):
        try:
            names = globals_of(content, where)
        except ImportRefusal:
            names = set()
        check_globals(names, where)
        raise ImportRefusal(
            "a bare pickle, or a checkpoint older than torch 1.6",
            where=where,
            remedy="Where the model lives, load it and save it again with a newer torch. " + EXPORT_WEIGHTS,
        )
    raise ImportRefusal("not a checkpoint of torch", where=where, remedy=EXPORT_WEIGHTS)


def _check_members(archive: zipfile.ZipFile, where: str) -> None:
    members = archive.infolist()
    if len(members) > MEMBERS_MAX:
        raise ImportRefusal(f"more than {MEMBERS_MAX} members", where=where, remedy=NOT_TRUSTED)
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ImportRefusal(
            "its members are compressed; torch never does that", where=where, remedy=NOT_TRUSTED
        )
    names = [member.filename for member in members]
    last = {name.rsplit("/", 1)[-1] for name in names}
    if "constants.pkl" in last or any("/code/" in f"/{name}" for name in names):
        raise ImportRefusal("TorchScript is a program and is not run", where=where, remedy=EXPORT_WEIGHTS)
    if "archive_format" in last or "serialized_exported_program.json" in last:
        raise ImportRefusal("an exported program (.pt2) is not run", where=where, remedy=EXPORT_WEIGHTS)
    if {"config.json", "model.weights.h5"} <= last:
        raise ImportRefusal("a Keras model is not run", where=where, remedy=EXPORT_ONNX)


def _pickle_of(archive: zipfile.ZipFile, where: str) -> bytes:
    pickles = [member for member in archive.infolist() if member.filename.endswith(".pkl")]
    if len(pickles) != 1 or not pickles[0].filename.endswith("/data.pkl"):
        raise ImportRefusal(
            f"{len(pickles)} pickles where a checkpoint has one, data.pkl", where=where, remedy=NOT_TRUSTED
        )
    if pickles[0].file_size > PICKLE_BYTES_MAX:
        raise ImportRefusal("its pickle is too large", where=where, remedy=EXPORT_WEIGHTS)
    with archive.open(pickles[0]) as stream:
        return stream.read(PICKLE_BYTES_MAX)
