"""Metrics on cases with references."""
