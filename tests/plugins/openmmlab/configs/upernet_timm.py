_base_ = "mmseg::upernet/upernet_r18_4xb2-40k_cityscapes-512x1024.py"
model = dict(
    pretrained=None,
    backbone=dict(_delete_=True, type="tlvision_timm.backbone.TimmBackbone", name="test_convnext"),
    decode_head=dict(channels=32),
    auxiliary_head=dict(channels=16),
)
