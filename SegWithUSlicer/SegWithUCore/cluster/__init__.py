"""Many cases on the workers of a Dask cluster: on this computer, on a scheduler's, or as jobs of a batch system.

`request` is what the user asked for, `connection` makes or finds the cluster, `tasks` hands out cases and collects what
became of them, `on_worker` runs them there, and `siblings` lets workers of one computer share it. Nothing here knows
what a case is. The package `distributed` is loaded inside functions only: it belongs to the extra `cluster`.
"""
