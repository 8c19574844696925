"""Semantic segmenters of mmsegmentation as a plugin of tlvision."""
