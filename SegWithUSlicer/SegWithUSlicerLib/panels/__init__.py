"""The parts of the module's panel, top to bottom: they draw and ask, and leave the work to others."""
