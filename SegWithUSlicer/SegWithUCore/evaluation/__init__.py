"""Figures on cases with references."""
