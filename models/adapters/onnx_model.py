"""An ONNX file to a draft: the graph says its sizes; what is done before it, a person must say."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final, Literal

from models.adapters.reading import (
    STRUCTURES_GUESSED,
    NamedMaps,
    Reading,
    Wishes,
    digest_of_files,
    plain_words,
)
from models.adapters.refusal import ImportRefusal
from models.grid_steps import Grid, Tiling
from models.networks.registry import OnnxSpec
from models.onnx_graph import FILE_BYTES_MAX, Graph, OnnxRefusal, Port, read_graph

_EXPORT: Final = "Export a network that takes (batch, 1, sizes) and gives (batch, maps, the same sizes)."
_WEIGHTS: Final = "network.onnx"
_NAMES_UNKNOWN: Final = (
    "An ONNX file does not name its maps: structures are called by their numbers, map 0 is taken as "
    "background. Write their names into findings.segments."
)
_OVERLAP: Final = 0.5
_BYTES_PER_PIXEL: Final = 2_000


def read_onnx(place: Path, wishes: Wishes, scratch: Path) -> Reading:
    """Read one .onnx file; nothing of it is run.

    Raises
    ------
    ImportRefusal
        Not a graph that is read, or not a network from one channel to maps of the same size.
    """
    if place.stat().st_size > FILE_BYTES_MAX:
        raise ImportRefusal(f"more than {FILE_BYTES_MAX} bytes", where=place.name, remedy=_EXPORT)
    content = place.read_bytes()
    try:
        graph = read_graph(content, place.name)
    except OnnxRefusal as refusal:
        raise ImportRefusal(refusal.what, where=refusal.where, remedy=refusal.remedy) from refusal
    spec, window = spec_of(graph, wishes, place.name)
    activation, activation_note = activation_of(graph, spec.heads)
    overlap = activation == "sigmoid" or graph.last_operator == "Sigmoid"
    heads = chosen_heads(spec.heads, wishes, overlap=overlap, where=place.name)
    as_structures = wishes.outlines_structures(len(heads))
    copied = scratch / _WEIGHTS
    copied.write_bytes(content)
    return Reading(
        format="onnx",
        name=place.name[:300],
        sha256=digest_of_files({place.name: hashlib.sha256(content).hexdigest()}),
        title=f"{place.stem} (imported from ONNX)"[:300],
        finding="several structures" if as_structures else "Finding",
        network=spec,
        grid=Grid(
            steps=(wishes.orient,),
            tiling=Tiling(
                window=window,
                overlap=_OVERLAP,
                blend="gaussian",
                activation=activation,
                lesion_heads=() if as_structures else heads,
            ),
        ),
        steps_known=False,
        unit="series",
        weights=copied,
        weights_name=_WEIGHTS,
        parameters=max(1, graph.parameters),
        bytes_per_pixel=_BYTES_PER_PIXEL,
        trained_on=(),
        read=(
            f"Graph: {len(graph.operators)} nodes, operator set {graph.opset}, {graph.parameters} numbers; "
            "every operator is on the list of those that are read.",
            f"Input {spec.input}, output {spec.output} with {spec.heads} maps; window "
            f"{' x '.join(map(str, window))}.",
            *(plain_words(f"The maker wrote ({key}): {text}") for key, text in sorted(graph.hints.items())),
        ),
        guessed=(
            activation_note,
            f"{'Structures are the maps' if as_structures else 'The finding is map'} "
            f"{', '.join(map(str, heads))} of 0 to {spec.heads - 1}.",
            *((_NAMES_UNKNOWN, STRUCTURES_GUESSED) if as_structures else ()),
            "Windows overlap by half and are blended by a Gaussian.",
            f"Memory: {_BYTES_PER_PIXEL} bytes for each pixel of a window.",
        ),
        structures=tuple(NamedMaps(f"Map {head}", (head,)) for head in heads) if as_structures else (),
    )


def spec_of(graph: Graph, wishes: Wishes, where: str) -> tuple[OnnxSpec, tuple[int, ...]]:
    """The registry's entry, and the window: the graph's own sizes, or the wished ones where it has none."""
    if len(graph.inputs) != 1 or not graph.outputs:
        raise ImportRefusal(f"{len(graph.inputs)} inputs", where=where, remedy=_EXPORT)
    given, found = graph.inputs[0], graph.outputs[0]
    if not given.is_float or not found.is_float:
        raise ImportRefusal("input or output is not float32", where=where, remedy=_EXPORT)
    dimensions = len(given.sizes) - 2
    if dimensions not in (2, 3) or len(found.sizes) not in (0, len(given.sizes)):
        raise ImportRefusal(
            f"input {_shown(given)} and output {_shown(found)} are no images", where=where, remedy=_EXPORT
        )
    if given.sizes[1] not in (1, None):
        raise ImportRefusal(f"reads {given.sizes[1]} channels", where=where, remedy=_EXPORT)
    if not found.sizes or found.sizes[1] is None:
        raise ImportRefusal("does not say how many maps come out", where=where, remedy=_EXPORT)
    fixed = tuple(size for size in given.sizes[2:] if size is not None)
    window = fixed if len(fixed) == dimensions else wishes.window
    if len(window) != dimensions or not all(8 <= size <= 1024 for size in window):
        raise ImportRefusal(
            f"its sizes are not fixed ({_shown(given)})",
            where=where,
            remedy=f"Say the window with --window, {dimensions} sizes from 8 to 1024 such as "
            f"{'x'.join(['128'] * dimensions)}.",
        )
    outside = tuple(size for size in found.sizes[2:] if size is not None)
    if len(outside) == dimensions and fixed and outside != window:
        raise ImportRefusal(
            f"gives {_shown(found)} for {_shown(given)}: no map of the image", where=where, remedy=_EXPORT
        )
    return (
        OnnxSpec(
            registry="onnx@1",
            dimensions=2 if dimensions == 2 else 3,
            in_channels=1,
            heads=found.sizes[1],
            input=given.name,
            output=found.name,
            one_at_a_time=given.sizes[0] is not None,
        ),
        window,
    )


def chosen_heads(heads: int, wishes: Wishes, *, overlap: bool, where: str) -> tuple[int, ...]:
    """The maps that are the finding: the wanted ones, the only one, the second of two, or all but the first.

    Parameters
    ----------
    overlap : whether the maps may overlap; then they are no structures
    """
    wanted = wishes.labels
    if wanted:
        if not all(one.isascii() and one.isdigit() and int(one) < heads for one in wanted):
            raise ImportRefusal(
                f"no maps {', '.join(wanted)[:80]}",
                where=where,
                remedy=f"Give numbers below {heads} with --label.",
            )
        chosen = tuple(dict.fromkeys(int(one) for one in wanted))
    else:
        chosen = (heads - 1,) if heads <= 2 else tuple(range(1, heads))
    if overlap and len(chosen) > 1 and wishes.outlines_structures(len(chosen)):
        raise ImportRefusal(
            f"{heads} maps come out that may overlap; structures of a package do not",
            where=where,
            remedy="Say with --label which numbers, from 0, are the finding; several are drawn as one.",
        )
    return chosen


def activation_of(graph: Graph, heads: int) -> tuple[Literal["softmax", "sigmoid", "none"], str]:
    """What turns the output into probabilities, and the sentence that says how it was guessed."""
    if graph.last_operator in ("Softmax", "Sigmoid"):
        return "none", f"The graph ends in {graph.last_operator}: its output is taken as probability."
    kind: Literal["softmax", "sigmoid"] = "sigmoid" if heads == 1 else "softmax"
    return kind, f"The output is taken as logits, and {kind} makes probabilities of them."


def _shown(port: Port) -> str:
    return "(" + ", ".join("?" if size is None else str(size) for size in port.sizes) + ")"
