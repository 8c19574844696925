_base_ = "mmdet::retinanet/retinanet_r18_fpn_1x_coco.py"
model = dict(
    backbone=dict(_delete_=True, type="tlvision_timm.backbone.TimmBackbone", name="test_vit", pyramid_channels=32),
    neck=dict(out_channels=32),
    bbox_head=dict(in_channels=32, feat_channels=32, stacked_convs=1),
)
