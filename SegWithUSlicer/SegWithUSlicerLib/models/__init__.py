"""The store of models as the panel shows it, without Qt: rows of its table, and what is done with models."""
