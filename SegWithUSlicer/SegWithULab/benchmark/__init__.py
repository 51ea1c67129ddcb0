"""All baselines on one frozen segmentation."""
