"""Detectors of mmdet as a plugin of tlvision."""
