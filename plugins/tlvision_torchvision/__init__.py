"""Detectors and segmenters of torchvision as a plugin of tlvision."""
