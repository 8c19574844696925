_base_ = "mmdet::cascade_rcnn/cascade-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco.py"
heads = {{_base_.model.roi_head.bbox_head}}
for head in heads:
    head.update(in_channels=32, fc_out_channels=64)
model = dict(
    neck=dict(out_channels=32),
    rpn_head=dict(in_channels=32, feat_channels=32),
    roi_head=dict(bbox_roi_extractor=dict(out_channels=32), bbox_head=heads),
    test_cfg=dict(rpn=dict(max_per_img=100)),
)
