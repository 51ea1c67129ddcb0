"""Many cases: one after the other in this process, or on workers of a Dask cluster.

`jobs` finds the cases of a call and keeps `failed.csv`; `one_case` makes a case, or finds it made, or fails; `workers`
does so on other processes and computers.
"""
