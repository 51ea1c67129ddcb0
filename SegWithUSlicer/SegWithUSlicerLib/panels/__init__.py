"""The sections of the module's panel: they show state and pass on clicks; the work is done elsewhere."""
