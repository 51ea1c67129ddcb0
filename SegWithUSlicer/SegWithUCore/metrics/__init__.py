"""Plain functions on arrays: error detection, calibration, overlap, bands."""
