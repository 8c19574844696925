"""OpenMMLab in tlvision: plugins for mmdet and mmseg, and the compiled operators of mmcv without a compiler."""
