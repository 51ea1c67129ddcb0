"""Groups of uncertain voxels that are worth a look."""
