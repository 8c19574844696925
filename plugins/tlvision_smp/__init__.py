"""segmentation-models-pytorch as a plugin of tlvision: every decoder on every encoder, timm's included."""
