"""Many cases, one after the other."""
