"""What a traced head gives, for engines that know networks by their graphs alone; no torch."""

MAPS = ("classes", "runner_up", "calibration", "ranking", "epistemic", "probabilities", "aleatoric")
"""In this order: (voxels,) each but the tempered probabilities, (classes, voxels). The last only if the head has a data
part."""
