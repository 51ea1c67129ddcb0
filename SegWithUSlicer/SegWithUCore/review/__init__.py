"""Selective review: the regions to review, in order; verdicts, log, worklist, flags. No torch, no Slicer."""
