"""The laboratory: training, evaluation, benchmark.

The runtime (`SegWithUCore`) never imports it; commands that need it do so when they are called.
"""
