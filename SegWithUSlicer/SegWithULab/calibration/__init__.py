"""Fitting a model's calibration on labelled cases: `fit.fit` does all of it, `bundles` writes models; no torch."""
