"""Four networks of MONAI, built by MONAI from literal arguments; the library is loaded only for them."""

from __future__ import annotations

from torch import nn

from models.networks.registry import (
    MonaiBasicUNetSpec,
    MonaiDynUNetSpec,
    MonaiNetworkSpec,
    MonaiSegResNetSpec,
    MonaiUNetSpec,
)

_NORMS = {
    "instance": ("instance", {"affine": False}),
    "instance_affine": ("instance", {"affine": True}),
    "batch": ("batch", {}),
}


def build_monai_network(spec: MonaiNetworkSpec) -> nn.Module:
    """(B, in_channels, ...) -> (B, heads, ...) logits, with fresh weights under MONAI's names."""
    from monai.networks.nets import BasicUNet, DynUNet, SegResNet, UNet

    ports = {
        "spatial_dims": spec.dimensions,
        "in_channels": spec.in_channels,
        "out_channels": spec.heads,
    }
    match spec:
        case MonaiUNetSpec():
            network = UNet(
                **ports,
                channels=spec.channels,
                strides=spec.strides,
                kernel_size=spec.kernel_size,
                up_kernel_size=spec.up_kernel_size,
                num_res_units=spec.num_res_units,
                act=spec.act,
                norm=_NORMS[spec.norm],
                bias=spec.bias,
            )
        case MonaiBasicUNetSpec():
            network = BasicUNet(
                **ports,
                features=spec.features,
                norm=_NORMS[spec.norm],
                bias=spec.bias,
                upsample=spec.upsample,
            )
        case MonaiSegResNetSpec():
            network = SegResNet(
                **ports,
                init_filters=spec.init_filters,
                blocks_down=spec.blocks_down,
                blocks_up=spec.blocks_up,
                norm=("group", {"num_groups": spec.num_groups}),
                upsample_mode=spec.upsample_mode,
            )
        case MonaiDynUNetSpec():
            network = DynUNet(
                **ports,
                kernel_size=spec.kernel_size,
                strides=spec.strides,
                upsample_kernel_size=spec.upsample_kernel_size,
                filters=spec.filters,
                norm_name=_NORMS[spec.norm],
                res_block=spec.res_block,
                deep_supervision=spec.deep_supervision,
                deep_supr_num=spec.deep_supr_num,
            )
    built: nn.Module = network
    return built
