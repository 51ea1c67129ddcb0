"""The version of the program; the only place that names it."""

__version__ = "0.5.0"
