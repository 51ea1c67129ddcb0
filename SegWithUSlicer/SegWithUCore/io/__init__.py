"""Reading images and their geometry: all that comes in."""
