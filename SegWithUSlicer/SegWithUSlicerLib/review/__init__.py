"""One reviewer's review of one case."""
