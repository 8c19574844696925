"""Bridges that derive from classes of another trainer, and so import it: mmengine's Runner, Hugging Face's Trainer.

They stand outside of the core, which imports no upstream library; what they share is in `tlvision.bridges`.
"""
