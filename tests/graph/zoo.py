"""The networks on the page of what converts, without weights."""

import warnings
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from snn_lightning import conversion_report
from snn_lightning.graph.report import ConversionReport
from snn_lightning.models.torchvision_models import list_torchvision_models

from .weightless import without_weights

SIZE = 224
"""Height and width of the images that torchvision's networks get, in pixels."""

CLASSIFIERS = list_torchvision_models()
SEGMENTERS = sorted(torchvision.models.list_models(module=torchvision.models.segmentation))
DETECTORS = [
    f"{name}: {part}"
    for name in sorted(torchvision.models.list_models(module=torchvision.models.detection))
    for part in (("backbone.body", "backbone") if "fpn" in name else ("backbone",))
]
TIMM = "1.0.31"
"""The version of timm of which the page speaks."""

FAMILIES = {
    "beit": "beit_base_patch16_224",
    "byoanet": "halonet_h1",
    "byobnet": "mobileone_s1",
    "cait": "cait_xxs24_224",
    "coat": "coat_tiny",
    "convit": "convit_tiny",
    "convmixer": "convmixer_768_32",
    "convnext": "convnext_zepto_rms",
    "cpubone": "cpubone_nano",
    "crossvit": "crossvit_tiny_240",
    "csatv2": "csatv2",
    "cspnet": "cs3darknet_focus_s",
    "cspnext": "cspnext_tiny",
    "davit": "davit_tiny",
    "deepseek_vit": "deepseek_vit_412m",
    "deit": "deit_tiny_patch16_224",
    "densenet": "densenet121",
    "dla": "dla46x_c",
    "dpn": "dpn48b",
    "edgenext": "edgenext_xx_small",
    "efficientformer": "efficientformer_l1",
    "efficientformer_v2": "efficientformerv2_s0",
    "efficientnet": "mobilenetv2_035",
    "efficientvim": "efficientvim_m1",
    "efficientvit_mit": "efficientvit_b0",
    "efficientvit_msra": "efficientvit_m0",
    "eva": "vit_tiny_patch16_dinov3_qkvb",
    "fasternet": "fasternet_t0",
    "fastvit": "fastvit_t8",
    "focalnet": "focalnet_tiny_srf",
    "gcvit": "gcvit_xxtiny",
    "gemma4_vit": "gemma4_vit_167m",
    "ghostnet": "ghostnet_050",
    "hardcorenas": "hardcorenas_b",
    "hgnet": "hgnetv2_b0",
    "hiera": "hiera_tiny_224",
    "hieradet_sam2": "sam2_hiera_tiny",
    "hrnet": "hrnet_w18_small",
    "iformer": "iformer_t",
    "inception_next": "inception_next_atto",
    "inception_resnet_v2": "inception_resnet_v2",
    "inception_v3": "inception_v3",
    "inception_v4": "inception_v4",
    "lcnetv2": "lcnetv2_small",
    "levit": "levit_128s",
    "lowformer": "lowformer_b0",
    "mambaout": "mambaout_femto",
    "maxxvit": "maxvit_pico_rw_256",
    "metaformer": "poolformerv2_s12",
    "mlp_mixer": "gmlp_ti16_224",
    "mobilenetv3": "mobilenetv3_small_050",
    "mobilenetv5": "mobilenetv5_base",
    "mobilevit": "mobilevit_xxs",
    "mvitv2": "mvitv2_tiny",
    "naflexvit": "naflexvit_base_patch16_parfac_gap",
    "nasnet": "nasnetalarge",
    "nest": "nest_tiny",
    "nextvit": "nextvit_small",
    "nfnet": "nf_regnet_b0",
    "pit": "pit_ti_224",
    "pnasnet": "pnasnet5large",
    "pvt_v2": "pvt_v2_b0",
    "qwen3_vit": "qwen3_vit_88m",
    "rdnet": "rdnet_tiny",
    "regnet": "regnetx_002",
    "repghost": "repghostnet_050",
    "repvit": "repvit_m1",
    "res2net": "res2next50",
    "resnest": "resnest14d",
    "resnet": "resnet10t",
    "resnetv2": "resnetv2_18",
    "rexnet": "rexnet_100",
    "selecsls": "selecsls42",
    "senet": "legacy_seresnet18",
    "sequencer": "sequencer2d_s",
    "shvit": "shvit_s1",
    "sknet": "skresnet18",
    "starnet": "starnet_s050",
    "swiftformer": "swiftformer_xs",
    "swin_transformer": "swin_tiny_patch4_window7_224",
    "swin_transformer_v2": "swinv2_tiny_window8_256",
    "swin_transformer_v2_cr": "swinv2_cr_tiny_224",
    "tiny_vit": "tiny_vit_5m_224",
    "tnt": "tnt_s_legacy_patch16_224",
    "tresnet": "tresnet_m",
    "twins": "twins_svt_small",
    "vgg": "vgg11",
    "visformer": "visformer_tiny",
    "vision_transformer": "vit_tiny_patch16_224",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224",
    "vision_transformer_relpos": "vit_srelpos_small_patch16_224",
    "vision_transformer_sam": "samvit_base_patch16_224",
    "vitamin": "vitamin_small_224",
    "volo": "volo_d1_224",
    "vovnet": "ese_vovnet19b_slim_dw",
    "xception": "legacy_xception",
    "xception_aligned": "xception41p",
    "xcit": "xcit_nano_12_p8_224",
}
"""A small member of each of timm's families, which are its files."""

MEMBERS = [f"{family}: {member}" for family, member in FAMILIES.items()]


@dataclass(frozen=True)
class Found:
    """What conversion finds in a network.

    Args:
        ann: the network.
        sample: inputs `[2, ...]`, or images, without numbers.
        whole: the report of the network by itself.
        auto: that with `analog="auto"`; the same where nothing need be analog.
    """

    ann: nn.Module
    sample: Any
    whole: ConversionReport
    auto: ConversionReport


def examine(name: str) -> Found:
    """Return what conversion finds in the network that the page calls `name`."""
    ann, sample, part = _network(name)
    whole = conversion_report(ann, sample, network=part)
    auto = whole if whole.convertible else conversion_report(ann, sample, network=part, analog="auto")
    return Found(ann, sample, whole, auto)


def _network(name: str) -> tuple[nn.Module, Any, str | None]:
    member, _, part = name.partition(": ")
    if name in MEMBERS:
        timm = import_module("timm")
        ann = without_weights(lambda: timm.create_model(part, pretrained=False))
        return ann, _images(ann.pretrained_cfg["input_size"]), None
    backbone = {} if name in CLASSIFIERS else {"weights_backbone": None}
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        ann = without_weights(lambda: torchvision.models.get_model(member, weights=None, **backbone))
    images = _images((3, SIZE, SIZE))
    return ann, list(images) if part else images, part or None


def _images(shape: tuple[int, ...]) -> Tensor:
    return torch.empty(2, *shape, device="meta")
