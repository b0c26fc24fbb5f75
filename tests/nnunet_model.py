"""A trained model of nnU-Net v2 as its training leaves it on disk, small, with random weights."""

import json
from pathlib import Path
from typing import Any

import torch
from nnunet_golden.drawing import ARCHITECTURES, draw_weights

from models.adapters.nnunet_plans import network_spec
from models.networks.nnunet import NnUNet

WINDOW = {"plain_2d": [16, 16], "plain_3d": [8, 16, 16], "resenc_2d": [16, 16], "resenc_3d": [8, 16, 16]}


def plans_of(name: str) -> dict[str, Any]:
    one = ARCHITECTURES[name]
    dimensions = len(one.shape)
    base = {
        "data_identifier": "x",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": WINDOW[name],
        "spacing": [1.0] * dimensions,
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {
            "is_seg": False,
            "order": 1,
            "order_z": 0,
            "force_separate_z": None,
        },
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{one.kind}",
            "arch_kwargs": one.arguments,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }
    return {
        "dataset_name": "Dataset900_Spheres",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {
            "base": base,
            "2d": {"inherits_from": "base", "batch_dice": True},
            "3d_fullres": {"inherits_from": "base", "batch_dice": True},
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        },
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {"mean": 5.0, "std": 2.0, "percentile_00_5": -10.0, "percentile_99_5": 90.0}
        },
    }


def dataset_of(name: str) -> dict[str, Any]:
    labels = {"background": 0} | {f"label{n}": n for n in range(1, ARCHITECTURES[name].heads)}
    return {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 2, "file_ending": ".nii.gz"}


def member(name: str, number: int) -> NnUNet:
    """The network of a fold."""
    one = ARCHITECTURES[name]
    spec = network_spec(one.kind, one.arguments, in_channels=one.in_channels, heads=one.heads, where="x")
    network = NnUNet(spec)
    state = network.state_dict()
    draw_weights(state)
    for value in state.values():
        value += 0.05 * number if value.dtype == torch.float32 else 0
    network.load_state_dict(state)
    return network.eval()


def write_trained_model(folder: Path, name: str, *, folds: int = 1, configuration: str = "2d") -> Path:
    """Write the folder; checkpoints hold the aliases, the optimizer and the log that nnU-Net writes too."""
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans_of(name)))
    (folder / "dataset.json").write_text(json.dumps(dataset_of(name)))
    for fold in range(folds):
        (folder / f"fold_{fold}").mkdir()
        weights = member(name, fold).state_dict()
        aliases = {f"decoder.{key}": value for key, value in weights.items() if key.startswith("encoder.")}
        torch.save(
            {
                "network_weights": {**weights, **aliases},
                "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01}]},
                "logging": {"mean_fg_dice": [0.5]},
                "trainer_name": "nnUNetTrainer",
                "init_args": {"configuration": configuration, "fold": fold, "device": torch.device("cpu")},
                "inference_allowed_mirroring_axes": tuple(range(len(WINDOW[name]))),
            },
            folder / f"fold_{fold}" / "checkpoint_final.pth",
        )
    return folder
