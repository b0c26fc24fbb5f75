"""The recipe a person begins with, and generated images to try it on."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

TEMPLATE = Path(__file__).parent / "start.yaml"
PATIENTS, IMAGES_EACH, SIZE = 12, 3, 64
CLASSES = ("normal", "dark", "bright")


def starting_recipe(recipe_id: str, folder: str) -> str:
    """A commented recipe with this id, that reads this folder."""
    text = TEMPLATE.read_text(encoding="utf-8")
    for placeholder, value in (("id: my-model", f"id: {recipe_id}"), ("folder: cases", f"folder: {folder}")):
        text = text.replace(placeholder, value, 1)
    return text


def write_example(folder: Path, *, seed: int = 1) -> None:
    """Grey pictures with a dark or a bright oval, or none, their masks, and the table that lists them.

    Three pictures of each of twelve made-up patients: a split that ignored patients would see each patient's
    background on both sides.
    """
    generator = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rows, columns = np.indices((SIZE, SIZE))
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(("image", "mask", "group", "class"))
        for patient in range(PATIENTS):
            ground = generator.uniform(90, 140)
            for picture in range(IMAGES_EACH):
                class_name = CLASSES[picture]
                centre, radii = generator.uniform(22, 42, 2), generator.uniform(9, 16, 2)
                inside = np.hypot((rows - centre[0]) / radii[0], (columns - centre[1]) / radii[1]) < 1
                step = {"normal": 0, "dark": -70, "bright": 70}[class_name]
                mask = inside & (step != 0)
                image = ground + step * mask + generator.normal(0, 10, mask.shape)
                name = f"p{patient:02d}-{picture}.png"
                _save(folder / "images" / name, np.clip(image, 0, 255).astype(np.uint8))
                if step:
                    _save(folder / "masks" / name, mask.astype(np.uint8) * 255)
                table.writerow(
                    (f"images/{name}", f"masks/{name}" if step else "", f"p{patient:02d}", class_name)
                )


def _save(path: Path, array: np.typing.NDArray[np.uint8]) -> None:
    from PIL import Image

    Image.fromarray(array).save(path)
