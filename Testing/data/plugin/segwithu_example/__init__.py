"""A head and an export format for SegWithU."""
