"""Review in a browser: server, page, and single files."""
