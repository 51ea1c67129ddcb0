"""The laboratory: training, calibration, evaluation.

The runtime (`SegWithUCore`) never imports it; commands that need it do so when they are called.
"""
