"""Taps, fusion, probes, heads, backbones and checkpoints: the method as torch modules."""
