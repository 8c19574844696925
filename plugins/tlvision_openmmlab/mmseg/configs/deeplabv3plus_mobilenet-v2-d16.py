# DeepLabV3+ for a few hundred images and a small machine: MobileNetV2 at output stride 16, and a head of 128 channels.
# mmseg's own DeepLabV3+ otherwise; its weights are ImageNet's, of torchvision.
_base_ = "mmseg::_base_/models/deeplabv3plus_r50-d8.py"

norm_cfg = dict(type="BN", requires_grad=True)
model = dict(
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type="MobileNetV2",
        strides=(1, 2, 2, 2, 1, 1, 1),
        dilations=(1, 1, 1, 1, 1, 2, 2),
        out_indices=(1, 2, 4, 6),
        norm_cfg=norm_cfg,
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://mobilenet_v2"),
    ),
    decode_head=dict(
        in_channels=320,
        channels=128,
        dilations=(1, 6, 12, 18),
        c1_in_channels=24,
        c1_channels=24,
        norm_cfg=norm_cfg,
    ),
    auxiliary_head=dict(in_channels=96, channels=64, norm_cfg=norm_cfg),
)
