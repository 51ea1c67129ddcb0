"""What is fitted on calibration cases."""
