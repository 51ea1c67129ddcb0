"""Data sets, losses, and the training of backbones and heads."""
