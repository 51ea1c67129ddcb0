"""Regions to review: groups of uncertain voxels."""
