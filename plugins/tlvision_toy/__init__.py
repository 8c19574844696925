"""The reference plugin: a tiny detector, a tiny segmenter and a tiny instance segmenter that learn in seconds on a CPU.

Written to be read: `plugin.py` is what the core finds, `adapter.py` is the contract, the rest is three small models.
"""
