"""Many cases: one after the other in this process, or on workers of a Dask cluster.

`one_case` makes a case, or finds it made, or fails; `run` does so with all cases of a cohort. `workers` starts or finds
workers and hands them cases, `on_worker` is their side; these two do not know what a case is, and export and report use
them, too. The package `distributed` is loaded inside functions only: it belongs to the extra `cluster`.
"""
