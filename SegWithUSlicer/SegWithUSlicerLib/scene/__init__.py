"""The scene: MRML without Qt, shared with a browser page."""
