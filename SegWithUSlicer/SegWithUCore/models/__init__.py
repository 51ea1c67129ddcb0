"""Model bundles: their format, reading, writing and finding them."""
