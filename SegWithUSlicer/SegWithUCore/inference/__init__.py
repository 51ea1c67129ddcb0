"""From image files to a case folder."""
