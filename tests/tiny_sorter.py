"""Sorters whose answers a test sets: the shipped questions and a head that says one thing."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from models.manifest import Memory, PackageFile, Runtime, Training, TrainingData
from models.networks.building import build_own_network
from models.package import hash_of
from models.sorting.answers import answer_all, probabilities_of
from models.sorting.manifest import SorterGolden, SorterManifest, SortTask
from models.sorting.package import SorterPackage, load_sorter
from models.sorting.recipe import read_sorter_recipe, shipped_recipe_path

RECIPE = read_sorter_recipe(shipped_recipe_path())
THRESHOLD, SURE = 0.6, 0.95
QUESTIONS = tuple(section.asked(THRESHOLD, SURE, "a test") for section in RECIPE.questions)
FILES = (
    ("weights.safetensors", "weights"),
    ("golden/input.npz", "golden_in"),
    ("golden/expected.npz", "golden_out"),
    ("CARD.md", "card"),
    ("split.csv", "split"),
)


def logits_of(answers: dict[str, str], score: float) -> torch.Tensor:
    """All logits, so that each named answer gets this probability and a question left out is level."""
    found: list[float] = []
    for question in QUESTIONS:
        row = [0.0] * question.outputs
        if question.name in answers:
            place = [answer.name for answer in question.answers].index(answers[question.name])
            row[place] = math.log(score / (1 - score) * (question.outputs - 1))
        found += row
    return torch.tensor(found)


def write_sorter(
    folder: Path, answers: dict[str, str], *, score: float = 0.99, sorter_id: str = "test-sorter"
) -> SorterPackage:
    """A package that gives these answers, whatever it sees."""
    (folder / "golden").mkdir(parents=True)
    network = build_own_network(RECIPE.network)
    weights = {
        key: torch.zeros_like(value) if "running_var" not in key else value
        for key, value in network.state_dict().items()
    }
    logits = logits_of(answers, score)
    weights["head.5.bias"] = logits.clone()
    save_file(weights, folder / "weights.safetensors")
    plane = np.tile(np.arange(160, dtype=np.uint8), (160, 1))
    np.savez(folder / "golden/input.npz", planes=plane[None])
    probabilities = probabilities_of(QUESTIONS, logits.double().numpy()[None])
    flat = np.concatenate([probabilities[question.name] for question in QUESTIONS])
    np.savez(folder / "golden/expected.npz", probabilities=flat[None])
    (folder / "CARD.md").write_text("A test.\n")
    (folder / "split.csv").write_text("name\n")
    said = answer_all(QUESTIONS, probabilities, 160)
    manifest = SorterManifest(
        format="preread-model/1",
        id=sorter_id,
        version="1.0.0",
        title="Test",
        summary="Says one thing.",
        released="2026-11-22",
        files=tuple(
            PackageFile(
                path=name, role=role, bytes=(folder / name).stat().st_size, sha256=hash_of(folder / name)
            )
            for name, role in FILES
        ),
        task=SortTask(kind="sort"),
        network=RECIPE.network,
        input=RECIPE.input,
        questions=QUESTIONS,
        evaluation=(),
        training=Training(
            recipe="test",
            recipe_sha256=hashlib.sha256(b"").hexdigest(),
            seed=1,
            steps=0,
            seconds=0.0,
            data=(TrainingData(name="nothing", licence="none", n=0, unit="images", citation=""),),
            simulated_fraction=0.0,
            pretrained=(),
        ),
        runtime=Runtime(
            torch="2.13",
            devices=("cpu",),
            memory=Memory(base=0, per_canvas_pixel=0, per_voxel=0),
            parameters=1,
        ),
        golden=SorterGolden(tolerance=0.01, answers=tuple((one.question, one.name) for one in said)),
        card=RECIPE.card,
    )
    text = json.dumps(manifest.model_dump(mode="json", exclude_none=True))
    (folder / "model.json").write_text(text)
    return load_sorter(folder)
