"""Selective review: the regions to review, in order; budget, verdicts and audit trail. No torch, no Slicer."""
