"""Small ONNX files, written byte by byte, so that tests need no other library and can write hostile ones."""

from collections.abc import Sequence

import numpy as np


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor(name: str, array: np.ndarray, *, location: str | None = None) -> bytes:
    kind = {np.dtype(np.float32): 1, np.dtype(np.int64): 7}[array.dtype]
    head = b"".join(field(1, size) for size in array.shape) + field(2, kind) + field(8, name)
    if location is None:
        return head + field(9, array.tobytes())
    return head + field(13, field(1, "location") + field(2, location)) + field(14, 1)


def ints(name: str, values: Sequence[int]) -> bytes:
    return field(1, name) + b"".join(field(8, value) for value in values) + field(20, 7)


def node(
    operator: str, inputs: Sequence[str], output: str, *attributes: bytes, domain: str = "", name: str = ""
) -> bytes:
    return (
        b"".join(field(1, one) for one in inputs)
        + field(2, output)
        + field(3, name)
        + field(4, operator)
        + b"".join(field(5, one) for one in attributes)
        + (field(7, domain) if domain else b"")
    )


def port(name: str, sizes: Sequence[int | str]) -> bytes:
    dimensions = b"".join(
        field(1, field(1, size) if isinstance(size, int) else field(2, size)) for size in sizes
    )
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, dimensions)))


def graph(
    nodes: Sequence[bytes], tensors: Sequence[bytes], inputs: Sequence[bytes], outputs: Sequence[bytes]
) -> bytes:
    return (
        b"".join(field(1, one) for one in nodes)
        + field(2, "g")
        + b"".join(field(5, one) for one in tensors)
        + b"".join(field(11, one) for one in inputs)
        + b"".join(field(12, one) for one in outputs)
    )


def model(content: bytes, *, opset: int = 17, domain: str = "", more: bytes = b"") -> bytes:
    own = field(8, field(1, "") + field(2, opset))
    other = field(8, field(1, domain) + field(2, 1)) if domain else b""
    return field(1, 8) + field(2, "tests") + own + other + field(7, content) + more


def small_network(
    *, sizes: Sequence[int | str] = (1, 1, 16, 16), heads: int = 2, last: str | None = None, **options: object
) -> tuple[bytes, np.ndarray, np.ndarray]:
    """A convolution of 3 x 3 with a bias: the file, its kernel and its bias."""
    generator = np.random.default_rng(6)
    kernel = generator.normal(size=(heads, 1, 3, 3)).astype(np.float32)
    bias = generator.normal(size=heads).astype(np.float32)
    nodes = [node("Conv", ("x", "kernel", "bias"), "y" if last is None else "h", ints("pads", (1, 1, 1, 1)))]
    if last is not None:
        nodes.append(node(last, ("h",), "y", *([ints_axis()] if last == "Softmax" else [])))
    content = graph(
        nodes,
        [tensor("kernel", kernel), tensor("bias", bias)],
        [port("x", sizes)],
        [port("y", (sizes[0], heads, *sizes[2:]))],
    )
    return model(content, **options), kernel, bias  # type: ignore[arg-type]


def ints_axis() -> bytes:
    return field(1, "axis") + field(3, 1) + field(20, 2)
