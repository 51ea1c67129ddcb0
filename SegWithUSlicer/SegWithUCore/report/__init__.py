"""The report of a case as one HTML page."""
