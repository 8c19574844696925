_base_ = "./faster-rcnn_tiny.py"
model = dict(
    backbone=dict(_delete_=True, type="tlvision_timm.backbone.TimmBackbone", name="test_convnext"),
)
