"""Measure the distance between two domains and recommend methods."""
