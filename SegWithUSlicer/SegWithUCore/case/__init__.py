"""The case folder: names, format, reading."""
