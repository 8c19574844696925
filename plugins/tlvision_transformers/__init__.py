"""Detectors and segmenters of Hugging Face transformers as a plugin of tlvision."""
