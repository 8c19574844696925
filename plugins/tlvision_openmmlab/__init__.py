"""OpenMMLab in tlvision: detectors of mmdet as a plugin, and the compiled operators of mmcv without a compiler."""
