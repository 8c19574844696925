"""Backbones of timm for the plugins of tlvision: no plugin itself. Importing it imports neither torch nor timm."""
