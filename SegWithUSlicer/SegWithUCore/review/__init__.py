"""Selective review: the regions worth a look, in order; budget, verdicts and audit trail. No torch, no Slicer."""
