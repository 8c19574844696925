"""Detectors of torchvision as a plugin of tlvision."""
