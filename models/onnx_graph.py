"""What an ONNX file asks for, found by walking its bytes, before anything that could run it is loaded.

An ONNX file is one protobuf message (field numbers below, from onnx.proto). A field is a key (number << 3 |
kind) and a value: kind 0 a varint, 1 eight bytes, 2 a length and that many bytes, 5 four bytes. The walk
keeps names and shapes only, jumps over numbers, and is bounded in nodes and depth.

Refused: operators that are not on the list (control flow, sequences, anything that can grow without bound),
domains other than ONNX's own, functions and subgraphs inside the file, data in other files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from config.errors import PrereadError

FILE_BYTES_MAX: Final = 1 << 30
NODES_MAX: Final = 20_000
OPSET_RANGE: Final = (11, 25)
_OPERATORS: Final = """
    Abs Add AveragePool BatchNormalization Cast Ceil Clip Concat Constant Conv ConvTranspose
    DequantizeLinear Div Dropout Elu Erf Exp Flatten Floor Gather Gelu Gemm GlobalAveragePool GlobalMaxPool
    GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization LayerNormalization LeakyRelu Log
    LogSoftmax MatMul Max MaxPool Min Mul Neg PRelu Pad Pow QuantizeLinear Reciprocal ReduceMax ReduceMean
    ReduceSum Relu Reshape Resize Selu Shape Sigmoid Slice Softmax Softplus Split Sqrt Squeeze Sub Tanh
    Transpose Unsqueeze Upsample
"""
OPERATORS: Final = frozenset(_OPERATORS.split())
_OWN_DOMAINS: Final = ("", "ai.onnx")
_ONE_FILE: Final = (
    "Where the model lives, save it as one file: onnx.save(model, 'one.onnx', save_as_external_data=False)."
)
_PLAIN_OPERATORS: Final = (
    "Export it with fixed sizes and ONNX's own operators (torch.onnx.export without custom operators), or "
    "give the weights as a state dict of a network that is read."
)


class OnnxRefusal(PrereadError):
    """An ONNX file that is not read."""


@dataclass(frozen=True)
class Port:
    """An input or output: its name and its sizes; None where a size is not fixed."""

    name: str
    sizes: tuple[int | None, ...]
    is_float: bool


@dataclass(frozen=True)
class Graph:
    """What the file declares."""

    opset: int
    operators: tuple[str, ...]  # in order of the nodes
    inputs: tuple[Port, ...]  # without those that have a value in the file
    outputs: tuple[Port, ...]
    last_operator: str | None  # that gives the first output
    parameters: int
    hints: dict[str, str]  # metadata of the maker; never more than words


def read_graph(content: bytes, where: str) -> Graph:
    """Walk a file.

    Raises
    ------
    OnnxRefusal
        Damaged, or it asks for something that is not on the list; by name.
    """
    if len(content) > FILE_BYTES_MAX:
        raise OnnxRefusal(f"{len(content)} bytes", where=where, remedy="Larger networks are not read.")
    try:
        return _model(memoryview(content), where)
    except (IndexError, ValueError, UnicodeDecodeError, OverflowError) as error:
        raise OnnxRefusal(
            f"damaged, or not an ONNX file: {error}", where=where, remedy="Export the model again."
        ) from error


def _model(content: memoryview, where: str) -> Graph:
    graph: memoryview | None = None
    opset = 0
    hints: dict[str, str] = {}
    for number, value in _fields(content):
        if number == 7:
            graph = _bytes(value)
        elif number == 8:
            domain, version = _opset(_bytes(value))
            if domain not in _OWN_DOMAINS:
                raise OnnxRefusal(
                    f"operators of the domain {domain[:60]!r}, which is not ONNX's own",
                    where=where,
                    remedy=_PLAIN_OPERATORS,
                )
            opset = version
        elif number == 14 and len(hints) < 50:
            key, text = _pair(_bytes(value))
            hints[key[:80]] = text[:200]
        elif number in (20, 25):
            what = "training steps" if number == 20 else "functions of its own"
            raise OnnxRefusal(f"holds {what}", where=where, remedy=_PLAIN_OPERATORS)
    if graph is None or not OPSET_RANGE[0] <= opset <= OPSET_RANGE[1]:
        raise OnnxRefusal(
            f"operator set {opset}; {OPSET_RANGE[0]} to {OPSET_RANGE[1]} are read",
            where=where,
            remedy="Export it with opset_version=17.",
        )
    return _graph(graph, opset, hints, where)


def _graph(content: memoryview, opset: int, hints: dict[str, str], where: str) -> Graph:
    operators: list[str] = []
    gives: dict[str, str] = {}
    inputs: list[Port] = []
    outputs: list[Port] = []
    held: set[str] = set()
    parameters = 0
    for number, value in _fields(content):
        if number == 1:
            operator, names = _node(_bytes(value), where)
            operators.append(operator)
            gives |= dict.fromkeys(names, operator)
            if len(operators) > NODES_MAX:
                raise OnnxRefusal(f"more than {NODES_MAX} nodes", where=where, remedy=_PLAIN_OPERATORS)
        elif number == 5:
            name, size = _tensor(_bytes(value), where)
            held.add(name)
            parameters += size
        elif number == 11:
            inputs.append(_port(_bytes(value)))
        elif number == 12:
            outputs.append(_port(_bytes(value)))
        elif number == 15:
            raise OnnxRefusal("holds sparse weights", where=where, remedy=_PLAIN_OPERATORS)
    wanted = tuple(port for port in inputs if port.name not in held)
    last = gives.get(outputs[0].name) if outputs else None
    return Graph(opset, tuple(operators), wanted, tuple(outputs), last, parameters, hints)


def _node(content: memoryview, where: str) -> tuple[str, list[str]]:
    operator, domain = "", ""
    outputs: list[str] = []
    for number, value in _fields(content):
        if number == 2:
            outputs.append(_text(value))
        elif number == 4:
            operator = _text(value)
        elif number == 7:
            domain = _text(value)
        elif number == 5:
            _attribute(_bytes(value), where)
    if domain not in _OWN_DOMAINS:
        raise OnnxRefusal(
            f"the operator {operator[:60]!r} of the domain {domain[:60]!r}, which is not ONNX's own",
            where=where,
            remedy=_PLAIN_OPERATORS,
        )
    if operator not in OPERATORS:
        raise OnnxRefusal(f"the operator {operator[:60]!r} is not read", where=where, remedy=_PLAIN_OPERATORS)
    return operator, outputs


def _attribute(content: memoryview, where: str) -> None:
    for number, value in _fields(content):
        if number in (6, 11):
            raise OnnxRefusal("holds a graph inside a node", where=where, remedy=_PLAIN_OPERATORS)
        if number in (5, 10):
            _tensor(_bytes(value), where)
        elif number in (22, 23):
            raise OnnxRefusal("holds sparse weights", where=where, remedy=_PLAIN_OPERATORS)


def _tensor(content: memoryview, where: str) -> tuple[str, int]:
    name, size = "", 1
    for number, value in _fields(content):
        if number == 1:
            for one in _integers(value):
                size *= one
        elif number == 8:
            name = _text(value)
        elif number == 13:
            key, place = _pair(_bytes(value))
            if key == "location":
                _refuse_outside(place, where)
        elif number == 14 and value != 0:
            _refuse_outside("another file", where)
    if not 0 <= size <= FILE_BYTES_MAX:
        raise OnnxRefusal(f"the weights {name[:60]!r} claim {size} numbers", where=where, remedy=_ONE_FILE)
    return name, size


def _refuse_outside(place: str, where: str) -> None:
    path = PurePosixPath(place.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in place:
        raise OnnxRefusal(
            f"its weights lie in {place[:80]!r}, which leads out of the folder",
            where=where,
            remedy="Do not open it elsewhere either; ask where it comes from.",
        )
    raise OnnxRefusal(f"its weights lie in {place[:80]!r}, not in the file", where=where, remedy=_ONE_FILE)


def _port(content: memoryview) -> Port:
    name = ""
    sizes: tuple[int | None, ...] = ()
    is_float = False
    for number, value in _fields(content):
        if number == 1:
            name = _text(value)
        elif number == 2:
            for kind, tensor in _fields(_bytes(value)):
                if kind != 1:
                    continue
                for part, inner in _fields(_bytes(tensor)):
                    if part == 1:
                        is_float = inner == 1
                    elif part == 2:
                        sizes = tuple(
                            _dimension(_bytes(one)) for at, one in _fields(_bytes(inner)) if at == 1
                        )
    return Port(name, sizes, is_float)


def _dimension(content: memoryview) -> int | None:
    for number, value in _fields(content):
        if number == 1 and isinstance(value, int) and value > 0:
            return value
    return None


def _opset(content: memoryview) -> tuple[str, int]:
    domain, version = "", 0
    for number, value in _fields(content):
        if number == 1:
            domain = _text(value)
        elif number == 2 and isinstance(value, int):
            version = value
    return domain, version


def _pair(content: memoryview) -> tuple[str, str]:
    values = {number: _text(value) for number, value in _fields(content) if number in (1, 2)}
    return values.get(1, ""), values.get(2, "")


def _integers(value: int | memoryview) -> Iterator[int]:
    """One varint, or several packed into bytes."""
    if isinstance(value, int):
        yield value
        return
    at = 0
    while at < len(value):
        one, at = _varint(value, at)
        yield one


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message is expected")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_bytes(value)).decode("utf-8")


def _fields(content: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value) of a message; every length is checked before it is believed."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(content, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(content, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of the kind {kind}")
        if at + size > len(content):
            raise ValueError("it ends in the middle of a field")
        yield key >> 3, content[at : at + size]
        at += size


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than 64 bits")
