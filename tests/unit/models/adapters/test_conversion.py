"""Weights leave a checkpoint as numbers; whatever else it holds is refused by name and never run."""

import contextlib
import io
import os
import pickle
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from models.adapters.checkpoint_scan import check_checkpoint, globals_of
from models.adapters.conversion import convert
from models.adapters.refusal import ImportRefusal


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def as_checkpoint(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def as_bare_pickle(path: Path, content: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def test_named_tensors_leave_and_so_do_the_plain_values_beside_them(tmp_path):
    weights = {"a.weight": torch.arange(6.0).reshape(2, 3).t(), "b": torch.ones(2, dtype=torch.float64)}
    checkpoint = as_checkpoint(
        tmp_path / "checkpoint.pth",
        {
            "network_weights": weights,
            "_best_ema": np.float64(0.5),
            "logging": {"loss": [np.float32(1), 2.0]},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 1),
            "init_args": {"configuration": "2d", "fold": 0, "device": torch.device("cpu")},
        },
    )
    converted = convert(checkpoint, tmp_path / "out.safetensors", "checkpoint.pth")
    stored = load_file(converted.path)
    assert torch.equal(stored["a.weight"], weights["a.weight"])
    assert stored["b"].dtype == torch.float32
    assert converted.side["trainer_name"] == "nnUNetTrainer"
    assert converted.side["configuration"] == "2d"
    assert converted.side["inference_allowed_mirroring_axes"] == [0, 1]


@pytest.mark.parametrize("write", [as_checkpoint, as_bare_pickle])
@pytest.mark.parametrize(
    ("function", "named"),
    [(os.system, "system"), (eval, "eval"), (subprocess.Popen, "Popen"), (getattr, "getattr")],
)
def test_a_pickle_that_would_call_something_is_refused_by_its_name_and_does_nothing(
    tmp_path, write, function, named
):
    planted = tmp_path / "planted"
    arguments = {
        os.system: (f"touch {planted}",),
        eval: (f"open({str(planted)!r}, 'w')",),
        subprocess.Popen: (["touch", str(planted)],),
        getattr: (os, "system"),
    }[function]
    if function is getattr:
        arguments = (Path, "touch")
    path = write(tmp_path / "model.pt", {"w": torch.ones(1), "x": Calls(function, *arguments)})
    with pytest.raises(ImportRefusal, match=rf"would call \S*{named}.*not run"):
        check_checkpoint(path, "model.pt")
    assert not planted.exists()


def test_the_process_refuses_a_hostile_pickle_and_the_planted_file_is_not_there(tmp_path):
    planted = tmp_path / "planted"
    path = as_checkpoint(tmp_path / "model.pt", Calls(os.system, f"touch {planted}"))
    with pytest.raises(ImportRefusal, match=r"model\.pt: its pickle would call posix\.system") as caught:
        convert(path, tmp_path / "out", "model.pt")
    assert "state_dict" in str(caught.value)
    assert not planted.exists()
    assert not (tmp_path / "out").exists()
    # The same file does run where it is opened without care: the test would see it.
    torch.load(path, weights_only=False)
    assert planted.exists()


def test_with_the_first_wall_gone_torch_still_refuses_and_the_hook_still_stops_a_call(tmp_path):
    """Each wall by itself, in one process: the names are let through, then torch's own check is too."""
    planted = tmp_path / "planted"
    path = as_checkpoint(tmp_path / "model.pt", Calls(os.system, f"touch {planted}"))
    script = (
        "import os, sys, pathlib, torch, models.adapters.conversion_child as child\n"
        f"child.check_checkpoint = lambda *_: None\ncode = child.main([{str(path)!r}, '/nowhere', 'x'])\n"
        "assert code == 1\n"
        f"for act in (lambda: os.system('touch {planted}'), lambda: open({str(planted)!r}, 'w'),\n"
        "            lambda: __import__('socket').socket(), lambda: torch.load("
        f"{str(path)!r}, weights_only=False)):\n"
        "    try:\n        act()\n"
        "    except RuntimeError as error:\n        assert 'not for this process' in str(error)\n"
        "    else:\n        sys.exit('went through')\n"
    )
    done = subprocess.run(
        [os.sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Weights only load failed" in done.stdout
    assert not planted.exists()


def test_a_pickled_module_torchscript_an_exported_program_and_keras_are_refused_with_the_way_out(tmp_path):
    module = as_checkpoint(tmp_path / "module.pt", torch.nn.Linear(1, 1))
    for members, words in (
        (("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py"), "TorchScript"),
        (("m/archive_format", "m/models/model.json"), "exported program"),
        (("config.json", "model.weights.h5", "metadata.json"), "Keras"),
    ):
        path = tmp_path / f"{words}.pt"
        with zipfile.ZipFile(path, "w") as archive:
            for name in members:
                archive.writestr(name, b"pt2")
        with pytest.raises(ImportRefusal, match=words) as caught:
            check_checkpoint(path, path.name)
        assert "export" in str(caught.value)
    with pytest.raises(ImportRefusal, match=r"pickled module.*torch\.nn\.modules\.linear\.Linear"):
        check_checkpoint(module, module.name)
    (tmp_path / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 9)
    with pytest.raises(ImportRefusal, match=r"HDF5.*onnx"):
        check_checkpoint(tmp_path / "model.h5", "model.h5")


def test_a_compressed_checkpoint_and_two_pickles_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", pickle.dumps({}, 2))
    with pytest.raises(ImportRefusal, match="compressed"):
        check_checkpoint(tmp_path / "x.pt", "x.pt")
    with zipfile.ZipFile(tmp_path / "y.pt", "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps({}, 2))
        archive.writestr("y/data.pkl", pickle.dumps({}, 2))
    with pytest.raises(ImportRefusal, match="2 pickles"):
        check_checkpoint(tmp_path / "y.pt", "y.pt")


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_of_pickle_shows_its_names(protocol):
    names = globals_of(pickle.dumps(Calls(os.system, "true"), protocol), "x")
    assert any("posix" in name and "system" in name for name in names), names


@given(st.binary(max_size=120))
@settings(deadline=None)
def test_any_bytes_are_walked_or_refused_and_never_executed(content):
    with contextlib.suppress(ImportRefusal):
        globals_of(content, "x")


@given(content=st.binary(max_size=120), head=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"(", b"c"]))
@settings(deadline=None)
def test_any_file_is_refused_and_nothing_else(tmp_path_factory, content, head):
    path = tmp_path_factory.mktemp("any") / "x.pt"
    path.write_bytes(head + content)
    with pytest.raises(ImportRefusal):
        check_checkpoint(path, "x.pt")


def test_what_torch_saves_passes_the_walk(tmp_path):
    stored = io.BytesIO()
    torch.save({"a": torch.nn.Parameter(torch.ones(2)), "b": torch.ones(2).half(), "c": {1}}, stored)
    (tmp_path / "x.pt").write_bytes(stored.getvalue())
    check_checkpoint(tmp_path / "x.pt", "x.pt")
