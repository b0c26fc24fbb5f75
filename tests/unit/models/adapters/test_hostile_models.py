"""Models that would harm whoever opens them: each is refused by name, runs nothing and leaves nothing."""

import json
import os
import pickle
import stat
import zipfile
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunet_model import dataset_of, plans_of
from onnx_file import graph, model, node, port, tensor

from models.adapters.importing import import_model
from models.adapters.reading import Wishes
from models.adapters.refusal import ImportRefusal


class Touches:
    """Unpickled, it makes a file."""

    def __init__(self, planted: Path):
        self.planted = planted

    def __reduce__(self):
        return os.system, (f"touch {self.planted}",)


def trained_nnunet(folder: Path, checkpoint: bytes | None = None) -> Path:
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans_of("plain_2d")))
    (folder / "dataset.json").write_text(json.dumps(dataset_of("plain_2d")))
    (folder / "fold_0/checkpoint_final.pth").write_bytes(checkpoint or b"x")
    return folder


def pickle_in_a_checkpoint(base, planted):
    folder = trained_nnunet(base / "model")
    torch.save({"network_weights": Touches(planted)}, folder / "fold_0/checkpoint_final.pth")
    return folder


def bare_pickle_as_a_checkpoint(base, planted):
    return trained_nnunet(base / "model", pickle.dumps(Touches(planted)))


def pickle_given_by_itself(base, planted):
    (base / "model.pkl").write_bytes(pickle.dumps(Touches(planted)))
    return base / "model.pkl"


def expression_in_a_bundle(base, planted):
    (base / "model/configs").mkdir(parents=True)
    content = {
        "imports": [f"$__import__('os').system('touch {planted}')"],
        "network_def": {"_target_": "UNet"},
    }
    (base / "model/configs/inference.json").write_text(json.dumps(content))
    return base / "model"


def target_in_a_bundle(base, planted):
    (base / "model/configs").mkdir(parents=True)
    content = {"network_def": {"_target_": "os.system", "command": f"touch {planted}"}}
    (base / "model/configs/inference.json").write_text(json.dumps(content))
    return base / "model"


def yaml_object_in_a_bundle(base, planted):
    (base / "model/configs").mkdir(parents=True)
    text = f"network_def: !!python/object/apply:os.system ['touch {planted}']\n"
    (base / "model/configs/inference.yaml").write_text(text)
    return base / "model"


def zip_that_climbs_out(base, planted):
    with zipfile.ZipFile(base / "model.zip", "w") as archive:
        archive.writestr("plans.json", "{}")
        archive.writestr(f"../../../../../../../../../..{planted}", "x")
    return base / "model.zip"


def zip_with_an_absolute_name(base, planted):
    with zipfile.ZipFile(base / "model.zip", "w") as archive:
        archive.writestr(str(planted), "x")
    return base / "model.zip"


def zip_with_a_link(base, planted):
    with zipfile.ZipFile(base / "model.zip", "w") as archive:
        link = zipfile.ZipInfo("plans.json")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    return base / "model.zip"


def zip_bomb(base, planted):
    with zipfile.ZipFile(base / "model.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("fold_0/checkpoint_final.pth", b"\0" * (8 << 20))
    return base / "model.zip"


def link_in_a_folder(base, planted):
    folder = trained_nnunet(base / "model")
    (folder / "dataset.json").unlink()
    (folder / "dataset.json").symlink_to("/etc/passwd")
    return folder


def onnx_with_weights_elsewhere(base, planted):
    weights = tensor("w", np.ones((1, 1, 1, 1), np.float32), location="../../../../etc/passwd")
    ports = port("x", (1, 1, 8, 8)), port("y", (1, 1, 8, 8))
    content = graph([node("Conv", ("x", "w"), "y")], [weights], [ports[0]], [ports[1]])
    (base / "model.onnx").write_bytes(model(content))
    return base / "model.onnx"


def onnx_with_a_library_of_its_own(base, planted):
    content = graph([node("Run", ("x",), "y", domain="evil.ops")], [], [port("x", (1,))], [port("y", (1,))])
    (base / "model.onnx").write_bytes(model(content))
    return base / "model.onnx"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (pickle_in_a_checkpoint, r"checkpoint_final\.pth: its pickle would call posix\.system"),
        (bare_pickle_as_a_checkpoint, r"its pickle would call posix\.system"),
        (pickle_given_by_itself, r"model\.pkl: its pickle would call posix\.system"),
        (expression_in_a_bundle, r"expression at imports#0 reaches for the system"),
        (target_in_a_bundle, r"the class os\.system is not MONAI's"),
        (yaml_object_in_a_bundle, r"not readable as plain YAML.*os\.system"),
        (zip_that_climbs_out, r"the member '\.\./.* leads out of the archive"),
        (zip_with_an_absolute_name, r"the member '/.* leads out of the archive"),
        (zip_with_a_link, r"'plans\.json' is a link"),
        (zip_bomb, r"checkpoint_final\.pth' grows more than 200 times.*zip bomb"),
        (link_in_a_folder, r"'dataset\.json' is a link"),
        (onnx_with_weights_elsewhere, r"'\.\./\.\./\.\./\.\./etc/passwd', which leads out of the folder"),
        (onnx_with_a_library_of_its_own, r"domain 'evil\.ops', which is not ONNX's own"),
    ],
)
def test_a_hostile_model_is_refused_by_name_runs_nothing_and_leaves_nothing(tmp_path, make, words):
    given = tmp_path / "given"
    given.mkdir()
    planted = tmp_path / "planted"
    path = make(given, planted)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ImportRefusal, match=words) as caught:
        import_model(path, tmp_path / "out", "some-id", Wishes(), date(2026, 1, 2))
    assert caught.value.remedy
    assert sorted(tmp_path.rglob("*")) == before
