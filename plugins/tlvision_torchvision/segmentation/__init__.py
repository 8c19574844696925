"""Segmenters of torchvision: DeepLabV3, FCN and LR-ASPP."""
