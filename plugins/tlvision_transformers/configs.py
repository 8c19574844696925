"""Sizes of the models that upstream publishes, as values of its configurations that are not its defaults. Data only.

They are those of upstream's conversion scripts and of the configurations next to the published weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Published:
    """One published model.

    model_type: upstream's name of the kind of model.
    hub:        name on huggingface.co of its weights for detection, or for semantic segmentation.
    config:     values of upstream's configuration that are not its defaults.
    instance:   name on huggingface.co of the weights for the task "instance"; empty if there are none.
    instance_config: values of the configuration of the weights for "instance" that differ from `config`.
    encoder:    name on huggingface.co of the encoder's weights from ImageNet; empty if there are none.
    """

    model_type: str
    hub: str
    config: Mapping[str, Any] = field(default_factory=dict)
    instance: str = ""
    instance_config: Mapping[str, Any] = field(default_factory=dict)
    encoder: str = ""

    def config_for(self, task: str) -> Mapping[str, Any]:
        """Return the values of upstream's configuration for one task."""
        return {**self.config, **self.instance_config} if task == "instance" else self.config

    def weights_for(self, task: str) -> Mapping[str, str]:
        """Return `{value of model.weights: name on huggingface.co}` for one task."""
        if task == "semantic":
            found = {"pretrained": self.hub, "imagenet": self.encoder}
        else:
            hub = self.instance if task == "instance" else self.hub
            found = {"coco": hub, "pretrained": hub}
        return MappingProxyType({weights: hub for weights, hub in found.items() if hub})


_BASIC = {"hidden_sizes": [64, 128, 256, 512], "layer_type": "basic"}
_STAGES_2_TO_4 = {"out_features": ["stage2", "stage3", "stage4"]}


def _rt_detr(depths: list[int], *, basic: bool = False, decoder_layers: int = 6, wide: bool = False) -> dict[str, Any]:
    """Return the configuration of an RT-DETR; `wide` is that of ResNet-101, `basic` that of ResNet-18 and 34."""
    backbone = {"model_type": "rt_detr_resnet", "depths": depths, **_STAGES_2_TO_4}
    config: dict[str, Any] = {"backbone_config": backbone, "decoder_layers": decoder_layers}
    if basic:
        backbone |= _BASIC
        config |= {"encoder_in_channels": [128, 256, 512], "hidden_expansion": 0.5}
    if wide:
        config |= {"encoder_ffn_dim": 2048, "encoder_hidden_dim": 384, "decoder_in_channels": [384, 384, 384]}
    return config


def _d_fine(
    stem: list[int], mid: list[int], out: list[int], *, blocks: list[int], layers: int, affine: bool, **config: Any
) -> dict[str, Any]:
    """Return the configuration of a D-FINE on an HGNetV2.

    stem: channels of its convolutions. mid, out: channels of the stages. blocks: of each stage. layers: of each block.
    affine: whether activations are scaled and shifted. config: of the rest of the model.
    """
    backbone = {
        "model_type": "hgnet_v2",
        "hidden_sizes": out,
        "stem_channels": stem,
        "stage_in_channels": [stem[-1], *out[:-1]],
        "stage_mid_channels": mid,
        "stage_out_channels": out,
        "stage_num_blocks": blocks,
        "stage_downsample": [False, True, True, True],
        "stage_light_block": [False, False, True, True],
        "stage_kernel_size": [3, 3, 5, 5],
        "stage_numb_of_layers": [layers] * 4,
        "use_learnable_affine_block": affine,
        **({"out_features": ["stage3", "stage4"]} if config.get("num_feature_levels") == 2 else _STAGES_2_TO_4),
    }
    levels = config.get("num_feature_levels", 3)
    return {
        "backbone_config": backbone,
        "encoder_in_channels": out[-levels:],
        "decoder_n_points": [6, 6] if levels == 2 else [3, 6, 3],
        **config,
    }


_NANO: dict[str, Any] = {
    "num_feature_levels": 2,
    "encoder_ffn_dim": 512,
    "encode_proj_layers": [1],
    "d_model": 128,
    "encoder_hidden_dim": 128,
    "decoder_ffn_dim": 512,
    "decoder_in_channels": [128, 128],
    "feat_strides": [16, 32],
    "depth_mult": 0.5,
    "decoder_layers": 3,
    "hidden_expansion": 0.34,
}
_HGNET_B0 = [3, 16, 16], [16, 32, 64, 128], [64, 256, 512, 1024]
_B0_BLOCKS = [1, 1, 2, 1]


def _timm(backbone: str) -> dict[str, Any]:
    return {"use_timm_backbone": True, "backbone": backbone}


def _yolos(hidden: int, heads: int, **config: Any) -> dict[str, Any]:
    return {"hidden_size": hidden, "intermediate_size": 4 * hidden, "num_attention_heads": heads, **config}


def _lw_detr(
    size: str,
    hidden: int,
    *,
    layers: int = 10,
    stages: tuple[int, ...] = (3, 5, 6, 10),
    wide: bool = False,
    queries: int = 300,
) -> Published:
    """Return an LW-DETR; `wide` has two scales and a wider decoder. stages: layers whose maps the projector reads."""
    windows = [0, 2, 4] if layers == 6 else [0, 1, 3, 6, 7, 9]
    backbone = {
        "model_type": "lw_detr_vit",
        "image_size": 1024,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "window_block_indices": windows,
        "out_features": [f"stage{stage}" for stage in stages],
    }
    decoder: dict[str, Any] = {"projector_scale_factors": [1.0], "decoder_n_points": 2}
    if wide:
        decoder = {
            "projector_scale_factors": [2.0, 0.5],
            "decoder_self_attention_heads": 12,
            "decoder_cross_attention_heads": 24,
            "d_model": 384,
        }
    config = {"backbone_config": backbone, **decoder, "num_queries": queries}
    return Published("lw_detr", f"AnnaZhang/lwdetr_{size}_60e_coco", config)


_R18, _R34, _R50, _R101 = [2, 2, 2, 2], [3, 4, 6, 3], [3, 4, 6, 3], [3, 4, 23, 3]

DETECTORS: Mapping[str, Published] = MappingProxyType(
    {
        **{
            f"{name}_{depth}": Published(kind, f"PekingU/{hub}_{depth}vd", config)
            for name, kind, hub in (("rtdetr_v2", "rt_detr_v2", "rtdetr_v2"), ("rtdetr", "rt_detr", "rtdetr"))
            for depth, config in (
                ("r18", _rt_detr(_R18, basic=True, decoder_layers=3)),
                ("r34", _rt_detr(_R34, basic=True, decoder_layers=4)),
                ("r50", _rt_detr(_R50)),
                ("r101", _rt_detr(_R101, wide=True)),
            )
        },
        "dfine_n": Published(
            "d_fine",
            "ustc-community/dfine-nano-coco",
            _d_fine(*_HGNET_B0, blocks=_B0_BLOCKS, layers=3, affine=True, **_NANO),
        ),
        "dfine_s": Published(
            "d_fine",
            "ustc-community/dfine-small-coco",
            _d_fine(
                *_HGNET_B0,
                blocks=_B0_BLOCKS,
                layers=3,
                affine=True,
                decoder_layers=3,
                hidden_expansion=0.5,
                depth_mult=0.34,
            ),
        ),
        "dfine_m": Published(
            "d_fine",
            "ustc-community/dfine-medium-coco",
            _d_fine(
                [3, 24, 32],
                [32, 64, 128, 256],
                [96, 384, 768, 1536],
                blocks=[1, 1, 3, 1],
                layers=4,
                affine=True,
                decoder_layers=4,
                depth_mult=0.67,
            ),
        ),
        "dfine_l": Published(
            "d_fine",
            "ustc-community/dfine-large-coco",
            _d_fine(
                [3, 32, 48], [48, 96, 192, 384], [128, 512, 1024, 2048], blocks=[1, 1, 3, 1], layers=6, affine=False
            ),
        ),
        "dfine_x": Published(
            "d_fine",
            "ustc-community/dfine-xlarge-coco",
            _d_fine(
                [3, 32, 64],
                [64, 128, 256, 512],
                [128, 512, 1024, 2048],
                blocks=[1, 2, 5, 2],
                layers=6,
                affine=False,
                encoder_hidden_dim=384,
                encoder_ffn_dim=2048,
                decoder_in_channels=[384, 384, 384],
            ),
        ),
        "detr_r50": Published("detr", "facebook/detr-resnet-50", _timm("resnet50")),
        "detr_r101": Published("detr", "facebook/detr-resnet-101", _timm("resnet101")),
        "conditional_detr_r50": Published(
            "conditional_detr", "microsoft/conditional-detr-resnet-50", _timm("resnet50")
        ),
        "dab_detr_r50": Published("dab-detr", "IDEA-Research/dab-detr-resnet-50", _timm("resnet50")),
        "deformable_detr_r50": Published("deformable_detr", "SenseTime/deformable-detr", _timm("resnet50")),
        "yolos_tiny": Published(
            "yolos",
            "hustvl/yolos-tiny",
            _yolos(192, 3, image_size=[800, 1333], use_mid_position_embeddings=False),
        ),
        "yolos_small": Published("yolos", "hustvl/yolos-small", _yolos(384, 6)),
        "yolos_base": Published("yolos", "hustvl/yolos-base", _yolos(768, 12, image_size=[800, 1344])),
        "rf_detr_base": Published("rf_detr", "Roboflow/rf-detr-base"),
        "lw_detr_tiny": _lw_detr("tiny", 192, layers=6, stages=(2, 4, 6), queries=100),
        "lw_detr_small": _lw_detr("small", 192),
        "lw_detr_medium": _lw_detr("medium", 384),
        "lw_detr_large": _lw_detr("large", 384, wide=True),
        "lw_detr_xlarge": _lw_detr("xlarge", 768, wide=True),
    }
)


def _segformer(size: int, widths: list[int], depths: list[int], decoder: int) -> Published:
    crop = 640 if size == 5 else 512
    return Published(
        "segformer",
        f"nvidia/segformer-b{size}-finetuned-ade-{crop}-{crop}",
        {"hidden_sizes": widths, "depths": depths, "decoder_hidden_size": decoder},
        encoder=f"nvidia/mit-b{size}",
    )


_ALL_STAGES = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
_SWIN_TINY = {
    "model_type": "swin",
    "embed_dim": 96,
    "depths": [2, 2, 6, 2],
    "num_heads": [3, 6, 12, 24],
    "drop_path_rate": 0.3,
    **_ALL_STAGES,
}
_SWIN_SMALL = {**_SWIN_TINY, "depths": [2, 2, 18, 2]}
_CONVNEXT_TINY = {
    "model_type": "convnext",
    "hidden_sizes": [96, 192, 384, 768],
    "depths": [3, 3, 9, 3],
    **_ALL_STAGES,
}
_WIDE = [64, 128, 320, 512]

SEGMENTERS: Mapping[str, Published] = MappingProxyType(
    {
        "segformer_b0": _segformer(0, [32, 64, 160, 256], [2, 2, 2, 2], 256),
        "segformer_b1": _segformer(1, _WIDE, [2, 2, 2, 2], 256),
        "segformer_b2": _segformer(2, _WIDE, [3, 4, 6, 3], 768),
        "segformer_b3": _segformer(3, _WIDE, [3, 4, 18, 3], 768),
        "segformer_b4": _segformer(4, _WIDE, [3, 8, 27, 3], 768),
        "segformer_b5": _segformer(5, _WIDE, [3, 6, 40, 3], 768),
        "upernet_convnext_tiny": Published(
            "upernet",
            "openmmlab/upernet-convnext-tiny",
            {"backbone_config": _CONVNEXT_TINY, "auxiliary_in_channels": 384},
        ),
        "upernet_swin_tiny": Published(
            "upernet", "openmmlab/upernet-swin-tiny", {"backbone_config": _SWIN_TINY, "auxiliary_in_channels": 384}
        ),
        "dpt_large": Published(
            "dpt",
            "Intel/dpt-large-ade",
            {
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 24,
                "num_attention_heads": 16,
                "backbone_out_indices": [5, 11, 17, 23],
                "neck_hidden_sizes": [256, 512, 1024, 1024],
                "image_size": 480,
                "use_batch_norm_in_fusion_residual": True,
            },
        ),
    }
)

MASK_TRANSFORMERS: Mapping[str, Published] = MappingProxyType(
    {
        "mask2former_swin_tiny": Published(
            "mask2former",
            "facebook/mask2former-swin-tiny-ade-semantic",
            {"backbone_config": {**_SWIN_TINY, "window_size": 7}},
            instance="facebook/mask2former-swin-tiny-coco-instance",
        ),
        "mask2former_swin_small": Published(
            "mask2former",
            "facebook/mask2former-swin-small-ade-semantic",
            {"backbone_config": {**_SWIN_SMALL, "window_size": 7}},
            instance="facebook/mask2former-swin-small-coco-instance",
        ),
        "maskformer_swin_tiny": Published(
            "maskformer", "facebook/maskformer-swin-tiny-ade", {"backbone_config": {**_SWIN_TINY, "window_size": 7}}
        ),
        "maskformer_swin_small": Published(
            "maskformer", "facebook/maskformer-swin-small-ade", {"backbone_config": {**_SWIN_SMALL, "window_size": 7}}
        ),
        "eomt_large": Published(
            "eomt",
            "tue-mps/ade20k_semantic_eomt_large_512",
            {"image_size": 512, "num_queries": 100},
            instance="tue-mps/coco_instance_eomt_large_640",
            instance_config={"image_size": 640, "num_queries": 200},
        ),
    }
)
"""Mask2Former and EoMT are also there for the task "instance", as "<name>_instance"."""
