"""The warm child process behind Slicer."""
