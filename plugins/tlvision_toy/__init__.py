"""The reference plugin: a tiny detector and a tiny segmenter that learn in seconds on a CPU.

Written to be read: `plugin.py` is what the core finds, `adapter.py` is the contract, the rest is two small models.
"""
