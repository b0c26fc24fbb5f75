"""Short runs of the shipped recipes on generated cases, and the hash of the weights they end with."""

import hashlib
from math import cos, pi
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from models.networks.building import build_network, in_channels_last
from models.steps import Standardise
from models.training.augment import augment
from models.training.cases import Case
from models.training.lesion_change import Batch
from models.training.losses import joint_loss
from models.training.pretrained import load_imagenet
from models.training.recipe_file import shipped_recipe
from models.training.recipes import Recipe
from models.training.smoke import SMOKE, smoke_cases
from models.training.training_set import build_training_set, draw_batch
from models.volume import Volume

SEED = 11
STEPS = 3
RECIPES: dict[str, Recipe] = {
    "smoke": SMOKE,
    "breast": shipped_recipe("breast-us-lesion").run.model_copy(update={"batch": 3, "warm_up_steps": 2}),
    "brain": shipped_recipe("brain-flair-lesion").run.model_copy(update={"batch": 3, "warm_up_steps": 2}),
}


def cases_of(name: str) -> list[Case]:
    """Cases the recipe can prepare, the last third of them marked as generated."""
    if name == "brain":
        return [_head(index) for index in range(3)]
    cases = smoke_cases(9)
    classes = {"benign": "malignant"} if name == "breast" else {}
    return [
        Case(
            case.name,
            case.group,
            case.stratum,
            case.volume,
            case.labels,
            classes.get(str(case.class_name), case.class_name) if index % 2 else case.class_name,
            is_simulated=index >= 6,
        )
        for index, case in enumerate(cases)
    ]


def _head(index: int) -> Case:
    """Four slices of a bright oval with a brighter disc in two of them."""
    generator = np.random.default_rng(index)
    rows, columns = np.indices((150, 120))
    inside = np.hypot((rows - 75) / 65, (columns - 60) / 50) < 1
    disc = np.hypot(rows - 60 - 5 * index, columns - 50) < 14
    mask = np.stack([disc & (number in (1, 2)) for number in range(4)])
    image = 400 * inside + 300 * mask + generator.normal(0, 20, mask.shape) * inside
    volume = Volume(image.clip(0).astype(np.float32), np.diag([1.4, 1.4, 5.0, 1.0]), (1.4, 1.4), 5.0)
    return Case(f"head{index}", f"head{index}", "x", volume, mask, None, is_simulated=index == 2)


def hash_of_weights(path: Path) -> str:
    """SHA-256 over names and bytes of all tensors, in the order of names."""
    digest = hashlib.sha256()
    for name, value in sorted(load_file(path).items()):
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def machine() -> str:
    """What decides the last bits of a convolution: torch, the processor and the instructions in use."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    words = [word for word in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if word in flags]
    return " ".join([f"torch {torch.__version__}", torch.backends.cpu.get_cpu_capability(), model, *words])


def straight_run(name: str, *, pretrained: bool) -> dict[str, torch.Tensor]:
    """The weights of such a run by a loop written out plainly, without anything that can be chosen."""
    recipe = RECIPES[name]
    data = build_training_set(cases_of(name), recipe)
    torch.manual_seed(SEED)
    network = build_network(
        recipe.network,
        dropout=recipe.dropout,
        drop_rate=recipe.drop_rate,
        decoder_dropout=recipe.decoder_dropout,
    )
    if pretrained:
        load_imagenet(network.encoder)
    in_channels_last(network)
    encoder = list(network.encoder.parameters())
    known = {id(one) for one in encoder}
    others = [one for one in network.parameters() if id(one) not in known]
    rates = (recipe.encoder_rate, recipe.decoder_rate)
    groups = [{"params": part, "lr": rate} for part, rate in zip((encoder, others), rates, strict=True)]
    optimizer = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
    average = {key: value.clone() for key, value in network.state_dict().items()}
    scale = next(step for step in recipe.preprocess if isinstance(step, Standardise))
    no_lesion = recipe.classes.index("normal") if recipe.classes else None
    network.train()
    for step in range(STEPS):
        factor = min(1.0, (step + 1) / recipe.warm_up_steps) * 0.5 * (1 + cos(pi * step / STEPS))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        seed = SEED * 1_000_003 + step * 7_919 + 17
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed + 1)
        chosen = draw_batch(data, recipe.batch, recipe.extra_share, generator)
        drawn = Batch(
            data.images[data.neighbours[chosen]].float(),
            data.masks[chosen][:, None].float(),
            data.classes[chosen],
        )
        image, mask, classes = augment(drawn, recipe.augment, no_lesion, generator)
        image = ((image - scale.mean) / scale.deviation).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            maps = network(image)
        terms = joint_loss(
            maps,
            mask,
            classes if recipe.classes else None,
            over=recipe.dice_over,
            class_weight=recipe.class_weight,
            label_smoothing=recipe.label_smoothing,
        )
        optimizer.zero_grad()
        terms["total"].backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        decay = min(recipe.ema_decay, (step + 2) / (step + 11))
        for key, value in network.state_dict().items():
            if value.dtype.is_floating_point:
                average[key].mul_(decay).add_(value, alpha=1 - decay)
            else:
                average[key].copy_(value)
    return average
