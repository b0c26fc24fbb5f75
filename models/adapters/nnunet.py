"""A folder of nnU-Net v2, as training leaves it: plans.json, dataset.json, fold_N/checkpoint_final.pth.

The folds become the members of an ensemble. Tested: a randomly initialised network of nnU-Net and ours agree.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.adapters.conversion import convert
from models.adapters.nnunet_names import without_aliases
from models.adapters.nnunet_plans import Plan, check_trainer, heads_by_label, read_plan
from models.adapters.reading import STRUCTURES_GUESSED, NamedMaps, Reading, Wishes, digest_of_files
from models.adapters.refusal import EXPORT_ONNX, ImportRefusal
from models.adapters.source import WEIGHTS_BYTES_MAX, Source
from models.grid_steps import Grid, Tiling
from models.networks.nnunet import NnUNet
from models.package import hash_of

MEMBERS_MAX: Final = 10
_CHECKPOINTS: Final = ("checkpoint_final.pth", "checkpoint_best.pth")
_OVERLAP: Final = 0.5  # nnU-Net's own step of half a window


def read_nnunet(source: Source, wishes: Wishes, scratch: Path) -> Reading:
    """Read a trained model of nnU-Net v2; its checkpoints are converted in a process of their own.

    Raises
    ------
    ImportRefusal
        Not one trained model, or one that asks for something that is not read; by name.
    """
    root = _root(source)
    names = [f"{root}plans.json", f"{root}dataset.json"]
    for name in names:
        if name not in source.sizes:
            raise ImportRefusal(
                f"no {PurePosixPath(name).name}",
                where=source.where(root),
                remedy="Give the trained model's folder.",
            )
    plans, dataset = (source.json(name) for name in names)
    heads, has_regions = heads_by_label(dataset, source.where(names[1]))
    as_structures = wishes.outlines_structures(len(heads)) and not has_regions
    chosen = chosen_labels(tuple(heads), wishes, has_regions=has_regions, where=source.where(names[1]))
    hashes = {name: hashlib.sha256(source.read(name)).hexdigest() for name in names}
    members: list[dict[str, Tensor]] = []
    sides: list[dict[str, Any]] = []
    checkpoints = _checkpoints(source, root, wishes.folds)
    for name in checkpoints:
        taken = source.take(name, scratch / f"checkpoint{len(members)}")
        hashes[name] = hash_of(taken)
        converted = convert(taken, scratch / f"member{len(members)}.safetensors", source.where(name))
        members.append(without_aliases(load_file(converted.path), source.where(name)))
        sides.append(converted.side)
        taken.unlink()
    side = _same(sides, source.where(root))
    check_trainer(side.get("trainer_name"), source.where(checkpoints[0]))
    plan = read_plan(
        plans, dataset, str(side.get("configuration")), wishes.orient, source.where(f"{root}plans.json")
    )
    for name, member in zip(checkpoints, members, strict=True):
        check_members_names(plan, member, source.where(name))
    spec = plan.spec.model_copy(update={"members": len(members)})
    weights = scratch / "weights.safetensors"
    merged = {f"members.{i}.{key}": value for i, one in enumerate(members) for key, value in one.items()}
    if sum(value.numel() * value.element_size() for value in merged.values()) > WEIGHTS_BYTES_MAX:
        raise ImportRefusal(
            f"{len(members)} folds are more than {WEIGHTS_BYTES_MAX >> 30} GiB together",
            where=source.place.name,
            remedy="Import fewer of them with --fold.",
        )
    save_file(merged, weights)
    mirror = tuple(axis for axis in side.get("inference_allowed_mirroring_axes") or ())
    tiling = Tiling(
        window=plan.window,
        overlap=_OVERLAP,
        blend="gaussian_nnunet",
        mirror=mirror,
        activation="sigmoid" if has_regions else "softmax",
        lesion_heads=() if as_structures else tuple(heads[label] for label in chosen),
    )
    return Reading(
        format="nnunet-v2",
        name=source.place.name[:300],
        sha256=digest_of_files(hashes),
        title=f"{plan.dataset} ({plan.configuration}, imported from nnU-Net)"[:300],
        finding=" and ".join(chosen)[:64],
        network=spec,
        grid=Grid(steps=plan.steps, tiling=tiling),
        steps_known=True,
        unit="image" if plan.is_still else "series",
        weights=weights,
        weights_name="weights.safetensors",
        parameters=sum(value.numel() for value in merged.values()),
        bytes_per_pixel=40 * spec.features[0],
        trained_on=(f"{plan.dataset}, channel {plan.channel}"[:300],),
        read=_read(plan, chosen, checkpoints, side, mirror, as_structures=as_structures),
        guessed=_guessed(plan, wishes, side, as_structures=as_structures),
        structures=tuple(NamedMaps(label, (heads[label],)) for label in chosen) if as_structures else (),
    )


def check_members_names(plan: Plan, member: Mapping[str, Tensor], where: str) -> None:
    """Refuse weights that are not those of the planned network, name by name, before it is built."""
    with torch.device("meta"):
        expected = NnUNet(plan.spec).state_dict()
    for name in sorted(set(expected) | set(member)):
        if name not in member:
            raise ImportRefusal(f"{name} is missing", where=where, remedy=EXPORT_ONNX)
        if name not in expected:
            raise ImportRefusal(
                f"{name[:120]!r} is not in the planned network", where=where, remedy=EXPORT_ONNX
            )
        if expected[name].shape != member[name].shape:
            raise ImportRefusal(
                f"{name} is {tuple(member[name].shape)}, the plans say {tuple(expected[name].shape)}",
                where=where,
                remedy=EXPORT_ONNX,
            )


def chosen_labels(
    known: tuple[str, ...], wishes: Wishes, *, has_regions: bool, where: str
) -> tuple[str, ...]:
    """The labels that are the finding: the wanted ones, or the only one there is; else all are structures."""
    wanted = wishes.labels
    for label in wanted:
        if label not in known:
            raise ImportRefusal(
                f"no label {label!r}; there are {', '.join(known)}",
                where=where,
                remedy="Name another --label.",
            )
    if has_regions and wishes.outlines_structures(len(known)):
        raise ImportRefusal(
            f"several regions ({', '.join(known)[:200]}); they overlap, and structures of a package do not",
            where=where,
            remedy="Say with --label which of them are the finding; several are drawn as one.",
        )
    return tuple(dict.fromkeys(wanted)) if wanted else known


def _root(source: Source) -> str:
    """The folder inside the source that holds plans.json, with a slash, or nothing."""
    found = [name.removesuffix("plans.json") for name in source.named("plans.json")]
    trained = [root for root in found if any(name.startswith(f"{root}fold_") for name in source.sizes)]
    if len(trained) != 1:
        what = "no plans.json beside a fold" if not trained else f"{len(trained)} trained models"
        raise ImportRefusal(
            f"{what}",
            where=source.place.name,
            remedy="Give the folder of one trained model (nnUNetTrainer__...).",
        )
    return trained[0]


def _checkpoints(source: Source, root: str, folds: tuple[str, ...]) -> list[str]:
    """The checkpoint of each fold, the final one where it is there."""
    by_fold: dict[str, str] = {}
    for last in reversed(_CHECKPOINTS):
        for name in source.named(last):
            inside = re.fullmatch(r"fold_(\d{1,2}|all)", name.removeprefix(root).removesuffix(f"/{last}"))
            if name.startswith(root) and inside:
                by_fold[inside[1]] = name
    # nnU-Net leaves fold_all out when it joins folds: it was trained on everything.
    chosen = folds or tuple(sorted(set(by_fold) - {"all"}, key=int)) or tuple(by_fold)
    missing = [fold for fold in chosen if fold not in by_fold]
    if missing or not chosen or len(chosen) > MEMBERS_MAX:
        raise ImportRefusal(
            f"no checkpoint of fold {missing[0]}" if missing else f"{len(chosen)} folds with a checkpoint",
            where=source.where(root),
            remedy=f"There are {', '.join(sorted(by_fold)) or 'none'}; name up to {MEMBERS_MAX} with --fold.",
        )
    return [by_fold[fold] for fold in dict.fromkeys(chosen)]


def _same(sides: list[dict[str, Any]], where: str) -> dict[str, Any]:
    """What all checkpoints say; they must agree."""
    for key in ("trainer_name", "configuration", "inference_allowed_mirroring_axes"):
        if any(side.get(key) != sides[0].get(key) for side in sides):
            raise ImportRefusal(
                f"the folds differ in {key}", where=where, remedy="Import one of them with --fold."
            )
    return sides[0]


def _read(
    plan: Plan,
    chosen: tuple[str, ...],
    checkpoints: list[str],
    side: Mapping[str, Any],
    mirror: tuple[int, ...],
    *,
    as_structures: bool,
) -> tuple[str, ...]:
    spec = plan.spec
    folds = ", ".join(name.split("/")[-2] for name in checkpoints)
    return (
        f"Network: {spec.registry}, {spec.dimensions}D, {len(spec.features)} stages, "
        f"{spec.heads} maps, from the configuration {plan.configuration}.",
        f"Weights of {folds} (trainer {side.get('trainer_name')}); their logits are averaged.",
        f"Window {' x '.join(map(str, plan.window))}, mirrored over {2 ** len(mirror)} images"
        + (f" (axes {', '.join(map(str, mirror))})." if mirror else " (not mirrored)."),
        f"Steps: {', '.join(step.step for step in plan.steps)}.",
        f"Labels: {', '.join(plan.heads_by_label)}{' (regions)' if plan.has_regions else ''}; "
        f"{'each a structure' if as_structures else 'drawn as the finding'}: {', '.join(chosen)}.",
        f"Channel: {plan.channel}. Data set: {plan.dataset}.",
    )


def _guessed(plan: Plan, wishes: Wishes, side: Mapping[str, Any], *, as_structures: bool) -> tuple[str, ...]:
    orient = wishes.orient
    memory = 40 * plan.spec.features[0] * prod(plan.window) >> 20
    guesses = [
        f"Orientation: columns towards {orient.columns}, rows towards {orient.rows}, slices towards "
        f"{orient.slices} of the patient. nnU-Net reads arrays as the files hold them and does not say; "
        "--orientation gives another.",
        f"Memory while a window is computed: about {memory} MiB, estimated from the width of the network.",
        *(
            ()
            if as_structures
            else ("Outlines begin at probability 0.5; nnU-Net takes the likeliest label.",)
        ),
        "Post-processing of nnU-Net (postprocessing.pkl) is a pickle and was not opened.",
    ]
    if as_structures:
        guesses.append(STRUCTURES_GUESSED)
    elif len(wishes.labels) > 1:
        guesses.append("Several labels are drawn as one finding; touching ones become one lesion.")
    if side.get("inference_allowed_mirroring_axes") is None:
        guesses.append("The checkpoint names no mirror axes: images are not mirrored.")
    if plan.is_still:
        guesses.append("Images are read at their own pixels, as nnU-Net reads photographs.")
    return tuple(guesses)
