"""A small entry of every kind of network in the registry, and an input it takes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from models.networks.building import build_grid_network, build_network, build_own_network
from models.networks.own_specs import (
    CenterNetSpec,
    DenseNetSpec,
    EarlyFusionSpec,
    EffNetLite0ClassifierSpec,
    EffNetLite0SlimSpec,
    LateFusionSpec,
    Rcnn2dSpec,
    SliceAttentionSpec,
    SliceLstmSpec,
    UNetSpec,
)
from models.networks.registry import (
    EffNetLite0UNetSpec,
    MonaiBasicUNetSpec,
    MonaiDynUNetSpec,
    MonaiSegResNetSpec,
    MonaiUNetSpec,
    NnUNetPlainSpec,
    NnUNetResEncSpec,
)
from models.networks.spec_parts import StagedEncoder


class Kind(NamedTuple):
    spec: BaseModel
    shape: tuple[int, ...]  # of one case
    one_map: bool = True  # one map of the feature layer per case, pooled to its vector

    def build(self) -> nn.Module:
        if isinstance(self.spec, EffNetLite0UNetSpec):
            return build_network(self.spec)
        if self.spec.registry.startswith(("nnunet", "monai")):  # type: ignore[attr-defined]
            return build_grid_network(self.spec)  # type: ignore[arg-type]
        return build_own_network(self.spec)  # type: ignore[arg-type]


_SMALL = StagedEncoder(encoder="stages", features=(4, 8, 8, 8), blocks=1)
_DENSE = DenseNetSpec(
    registry="densenet@1", dimensions=2, in_channels=2, classes=3, init_features=8, growth=4, layers=(2, 2)
)
_NNUNET = {
    "dimensions": 2,
    "in_channels": 1,
    "heads": 2,
    "features": (4, 8),
    "kernels": ((3, 3), (3, 3)),
    "strides": ((1, 1), (2, 2)),
    "encoder_blocks": (1, 1),
    "decoder_blocks": (1,),
    "norm": "instance",
    "norm_eps": 1e-5,
    "bias": True,
    "slope": 0.01,
    "members": 1,
}
_GRID = {"dimensions": 2, "in_channels": 1, "heads": 2, "norm": "instance"}
_SLICES = {"in_channels": 1, "classes": 2, "encoder": _SMALL, "hidden": 16}

EVERY = {
    "effnet_lite0_unet@1": Kind(
        EffNetLite0UNetSpec(
            registry="effnet_lite0_unet@1", in_channels=1, classes=2, decoder_channels=(8, 8, 4, 4)
        ),
        (1, 64, 64),
    ),
    "unet@1": Kind(
        UNetSpec(
            registry="unet@1",
            dimensions=3,
            in_channels=1,
            heads=2,
            features=(4, 8, 8),
            side_outputs=1,
            flat_stages=1,
        ),
        (1, 8, 16, 16),
    ),
    "densenet@1": Kind(_DENSE, (2, 32, 32)),
    "effnet_lite0_classifier@1": Kind(
        EffNetLite0ClassifierSpec(registry="effnet_lite0_classifier@1", in_channels=1, classes=2), (1, 64, 64)
    ),
    "effnet_lite0_slim@1": Kind(
        EffNetLite0SlimSpec(registry="effnet_lite0_slim@1", in_channels=1, classes=2, hidden=8), (1, 64, 64)
    ),
    "centernet@1": Kind(
        CenterNetSpec(
            registry="centernet@1",
            dimensions=3,
            in_channels=1,
            classes=2,
            features=(4, 8, 8),
            head_features=8,
        ),
        (1, 16, 16, 16),
    ),
    "rcnn2d@1": Kind(
        Rcnn2dSpec(
            registry="rcnn2d@1",
            in_channels=1,
            classes=2,
            encoder=_SMALL,
            pyramid_features=8,
            proposals_max=8,
            pooled_size=3,
            head_features=8,
        ),
        (1, 32, 32),
    ),
    "slice_lstm@1": Kind(SliceLstmSpec(registry="slice_lstm@1", **_SLICES), (4, 1, 16, 16), one_map=False),
    "slice_attention@1": Kind(
        SliceAttentionSpec(registry="slice_attention@1", **_SLICES), (4, 1, 16, 16), one_map=False
    ),
    "early_fusion@1": Kind(
        EarlyFusionSpec(registry="early_fusion@1", sequences=2, network=_DENSE), (2, 1, 32, 32)
    ),
    "late_fusion@1": Kind(
        LateFusionSpec(registry="late_fusion@1", sequences=2, in_channels=1, classes=2, encoder=_SMALL),
        (2, 1, 32, 32),
        one_map=False,
    ),
    "nnunet_plain@1": Kind(NnUNetPlainSpec(registry="nnunet_plain@1", **_NNUNET), (1, 16, 16)),
    "nnunet_resenc@1": Kind(NnUNetResEncSpec(registry="nnunet_resenc@1", **_NNUNET), (1, 16, 16)),
    "monai_unet@1": Kind(
        MonaiUNetSpec(registry="monai_unet@1", channels=(4, 8, 8), strides=(2, 2), **_GRID), (1, 16, 16)
    ),
    "monai_basicunet@1": Kind(
        MonaiBasicUNetSpec(registry="monai_basicunet@1", features=(4, 4, 4, 8, 8, 4), **_GRID), (1, 32, 32)
    ),
    "monai_segresnet@1": Kind(
        MonaiSegResNetSpec(registry="monai_segresnet@1", dimensions=2, in_channels=1, heads=2), (1, 16, 16)
    ),
    "monai_dynunet@1": Kind(
        MonaiDynUNetSpec(
            registry="monai_dynunet@1",
            kernel_size=((3, 3),) * 3,
            strides=((1, 1), (2, 2), (2, 2)),
            upsample_kernel_size=((2, 2), (2, 2)),
            filters=(4, 8, 8),
            **_GRID,
        ),
        (1, 16, 16),
    ),
}


def example_input(name: str, cases: int) -> Tensor:
    """(cases, ...) noise, the same each time."""
    return torch.randn(cases, *EVERY[name].shape, generator=torch.Generator().manual_seed(5))


def settled(network: nn.Module, x: Tensor) -> nn.Module:
    """In evaluation, with batch statistics of these inputs: fresh ones let deep networks fade to nothing."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(x)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
    return network.eval()
