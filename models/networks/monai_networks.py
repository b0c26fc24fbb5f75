"""Four networks of MONAI, built by MONAI from literal arguments; the library is loaded only for them."""

from __future__ import annotations

from typing import Any, Final

from torch import nn

from models.networks.registry import (
    MonaiBasicUNetSpec,
    MonaiDynUNetSpec,
    MonaiNetworkSpec,
    MonaiSegResNetSpec,
    MonaiUNetSpec,
)

_NORMS: Final[dict[str, Any]] = {
    "instance": ("instance", {"affine": False}),
    "instance_affine": ("instance", {"affine": True}),
    "batch": ("batch", {}),
}


def build_monai_network(spec: MonaiNetworkSpec) -> nn.Module:
    """(B, in_channels, ...) -> (B, heads, ...) logits, with fresh weights under MONAI's names."""
    match spec:
        case MonaiUNetSpec():
            return _unet(spec)
        case MonaiBasicUNetSpec():
            return _basic_unet(spec)
        case MonaiSegResNetSpec():
            return _segresnet(spec)
        case MonaiDynUNetSpec():
            return _dynunet(spec)


def _unet(spec: MonaiUNetSpec) -> nn.Module:
    from monai.networks.nets.unet import UNet

    network: nn.Module = UNet(
        spatial_dims=spec.dimensions,
        in_channels=spec.in_channels,
        out_channels=spec.heads,
        channels=spec.channels,
        strides=spec.strides,
        kernel_size=spec.kernel_size,
        up_kernel_size=spec.up_kernel_size,
        num_res_units=spec.num_res_units,
        act=spec.act,
        norm=_NORMS[spec.norm],
        bias=spec.bias,
    )
    return network


def _basic_unet(spec: MonaiBasicUNetSpec) -> nn.Module:
    from monai.networks.nets.basic_unet import BasicUNet

    network: nn.Module = BasicUNet(
        spatial_dims=spec.dimensions,
        in_channels=spec.in_channels,
        out_channels=spec.heads,
        features=spec.features,
        norm=_NORMS[spec.norm],
        bias=spec.bias,
        upsample=spec.upsample,
    )
    return network


def _segresnet(spec: MonaiSegResNetSpec) -> nn.Module:
    from monai.networks.nets.segresnet import SegResNet

    network: nn.Module = SegResNet(
        spatial_dims=spec.dimensions,
        in_channels=spec.in_channels,
        out_channels=spec.heads,
        init_filters=spec.init_filters,
        blocks_down=spec.blocks_down,
        blocks_up=spec.blocks_up,
        norm=("group", {"num_groups": spec.num_groups}),
        upsample_mode=spec.upsample_mode,
    )
    return network


def _dynunet(spec: MonaiDynUNetSpec) -> nn.Module:
    from monai.networks.nets.dynunet import DynUNet

    network: nn.Module = DynUNet(
        spatial_dims=spec.dimensions,
        in_channels=spec.in_channels,
        out_channels=spec.heads,
        kernel_size=spec.kernel_size,
        strides=spec.strides,
        upsample_kernel_size=spec.upsample_kernel_size,
        filters=spec.filters,
        norm_name=_NORMS[spec.norm],
        res_block=spec.res_block,
        deep_supervision=spec.deep_supervision,
        deep_supr_num=spec.deep_supr_num,
    )
    return network
