"""Measure how far apart two domains are, and say which methods fit."""
