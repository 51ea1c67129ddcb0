"""`segwithu segment --dry-run`: what a cohort would take, without making any of it."""

import contextlib
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..util.errors import InputError
from ..util.memory import available_bytes, in_words
from ..util.processor import usable_cores
from .cohort import counted
from .console import Console

if TYPE_CHECKING:
    from ..inference.model import Model
    from ..inference.segment import Job
    from ..io.input_reader import InputReader

MOST_READ = 500
"""Cases whose headers are read: more are judged by so many, taken evenly."""
HELD_BYTES = 0.9
"""Share of the free memory that workers may take."""


def dry_run(
    jobs: "Sequence[Job]",
    failed: int,
    model: "Model | None",
    replaced: bool,
    workers: int | None,
    reader: "InputReader",
    output: Path,
    console: Console,
) -> None:
    """Predict and print what the jobs would take.

    Args:
        failed: cases that could not become jobs.
        model: None without jobs.
        replaced: cases whose folder exists are made again.
        workers: that were asked for; None for one process.
    """
    left = [job for job in jobs if replaced or not job.target.exists()]
    cases, there = len(jobs) + failed, len(jobs) - len(left)
    seen = left[:: max(1, -(-len(left) // MOST_READ))]
    memory, seconds = ([], []) if model is None else _predicted(seen, model, reader)
    at_once = workers or 1
    hours = len(left) * statistics.fmean(seconds) / max(1, min(at_once, len(left))) / 3600 if seconds else None
    lines = [f"{counted(cases, 'case')}: {len(left)} to be made, {there} whose folder exists, {failed} that cannot be "
             "begun."]  # fmt: skip
    if memory:
        some = "" if len(seen) >= len(left) else f" (by the headers of {len(seen)} of them)"
        median, largest = in_words(statistics.median(memory)), in_words(max(memory))
        lines.append(f"Memory a case: {median} (median), {largest} at most{some}.")
    advice = "" if workers else ": --workers N takes several"
    lines.append(f"Workers: {at_once} at once; {_room(max(memory, default=0.0))}{advice}.")
    if hours is not None:
        pace = f"{statistics.fmean(seconds):.1f} s a case on this computer"
        lines.append(f"Time: about {_duration(hours)}, at {pace}.")
    facts = {
        "event": "dry-run",
        "cases": cases,
        "there": there,
        "failed": failed,
        "to_make": len(left),
        "read": len(seen),
        "memory_mb": round(max(memory) / 1e6) if memory else None,
        "median_memory_mb": round(statistics.median(memory) / 1e6) if memory else None,
        "workers": at_once,
        "hours": None if hours is None else round(hours, 6),
    }
    console.result("\n".join([*lines, f"Nothing was made in {output}."]), facts)


def _predicted(jobs: "Sequence[Job]", model: "Model", reader: "InputReader") -> tuple[list[float], list[float]]:
    """Predict bytes at the peak, the program included, and seconds of cases by their headers."""
    from ..inference.prediction import predicted_seconds, time_window
    from ..inference.segment import predicted_memory, read_headers
    from ..io.roi import part_grid

    memory: list[float] = []
    seconds: list[float] = []
    if jobs:
        time_window(model)
    for job in jobs:
        try:
            headers = read_headers(job, reader)
        except InputError:  # the run itself will say what is wrong with it
            continue
        if (predicted := predicted_memory(job, model, headers)) is not None:
            memory.append(predicted.total)
        if headers[0].grid is not None:
            with contextlib.suppress(InputError):  # the region lies outside
                seconds.append(predicted_seconds(model, part_grid(headers[0].grid, job.roi)) or 0.0)
    return memory, seconds


def _room(largest: float) -> str:
    """Describe cores and free memory, and how many of the largest cases fit."""
    free, cores = available_bytes(), usable_cores()
    room = "here is 1 core" if cores == 1 else f"here are {cores} cores"
    if free is not None:
        room += f" and {in_words(free)} of free memory"
        if largest:
            fit = max(1, int(HELD_BYTES * free // largest))
            room += f", enough for {fit} of the largest {'case' if fit == 1 else 'cases'} at a time"
    return room


def _duration(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    if hours < 2:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"
