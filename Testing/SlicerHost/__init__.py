"""A small, strict stand-in of the Slicer application around real MRML. See README.md in this folder."""

from .environment import missing_reason, prepare_process

prepare_process()

__all__ = ["missing_reason", "prepare_process"]
