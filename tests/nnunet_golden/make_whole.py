"""Makes whole.npz: what the predictor of nnU-Net itself says of the volumes in whole_cases.py.

Not part of the tests; run it by hand, with nnU-Net installed apart and without its requirements; what it does
not call gets empty stand-ins:

    pip install --no-deps --target /some/folder nnunetv2==2.8.1 dynamic-network-architectures==0.4.4 \\
        batchgenerators batchgeneratorsv2 acvl-utils connected-components-3d fft-conv-pytorch scikit-image \\
        lazy-loader tqdm
    PYTHONPATH=.:tests:tests/nnunet_golden:/some/folder python tests/nnunet_golden/make_whole.py

nnU-Net adds windows up in half precision, which costs it three digits; here its two modules are told that
half is float32, so that what is compared is the method.
"""

import importlib
import os
import sys
import types
from pathlib import Path

import numpy as np
import torch
import torch._dynamo

HERE = Path(__file__).parent


class _Anything(type):
    def __getattr__(cls, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (object,), {})


class _StandIn(types.ModuleType):
    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (object,), {})


class _Torch:
    def __getattr__(self, name: str):
        return torch.float32 if name in ("half", "float16") else getattr(torch, name)


def stand_in(*names: str) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except Exception:  # noqa: BLE001 missing, or without its own requirements
            sys.modules[name] = _StandIn(name)


def predictions() -> dict[str, np.ndarray]:
    """Probability of label 1 of every case."""
    kept = torch.half, torch.float16
    torch.half = torch.float16 = torch.float32  # while default arguments are evaluated
    import nnunetv2.inference.predict_from_raw_data as predicting
    import nnunetv2.inference.sliding_window_prediction as sliding

    torch.half, torch.float16 = kept
    from make import oracle
    from nnunet_golden.drawing import ARCHITECTURES
    from nnunet_golden.whole_cases import WHOLE_CASES
    from nnunet_model import member
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from models.adapters.nnunet_names import first_name

    predicting.torch = sliding.torch = _Torch()
    found = {}
    for name, case in WHOLE_CASES.items():
        one = ARCHITECTURES[case.network]
        network = oracle(one.kind, one.arguments, one.in_channels, one.heads)
        own = member(case.network, 0).state_dict()
        network.load_state_dict({key: own[first_name(key)] for key in network.state_dict()})
        predictor = predicting.nnUNetPredictor(
            use_mirroring=True,
            perform_everything_on_device=False,
            device=torch.device("cpu"),
            allow_tqdm=False,
        )
        plans = PlansManager(case.plans())
        predictor.manual_initialization(
            network,
            plans,
            plans.get_configuration(case.configuration),
            [network.state_dict()],
            case.dataset(),
            "nnUNetTrainer",
            tuple(range(len(one.shape))),
        )
        properties = {"spacing": list(case.spacing)}
        _, probabilities = predictor.predict_single_npy_array(
            case.image()[None], properties, None, None, True
        )
        found[name] = probabilities[1].astype(np.float32)
    return found


if __name__ == "__main__":
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ[variable] = "/nowhere"
    stand_in("pandas", "SimpleITK", "tifffile", "seaborn", "blosc2", "dicom2nifti", "imagecodecs")
    sys.modules["pandas"].unique = np.unique
    np.savez_compressed(HERE / "whole.npz", **predictions())
