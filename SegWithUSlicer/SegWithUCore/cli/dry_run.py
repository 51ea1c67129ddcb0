"""`segwithu segment --dry-run`: what a cohort would take, without making any of it."""

import contextlib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..util.errors import InputError
from ..util.memory import available_bytes, in_words
from ..util.processor import usable_cores
from .console import Console

if TYPE_CHECKING:
    from ..inference.model import Model
    from ..inference.segment import Job
    from ..io.input_reader import InputReader

MOST_READ = 500
"""Cases whose headers are read: more are judged by so many, taken evenly."""
HELD_BYTES = 0.9
"""Share of the free memory that workers may take."""


@dataclass(frozen=True)
class Forecast:
    """What a cohort would take.

    Attributes:
        cases, there, failed: of the cohort; whose folder exists; that could not be begun.
        read: cases whose headers were read.
        memory: predicted bytes at the peak of each of them, the program included.
        seconds: predicted for each of them.
        workers: that would work at once.
        why: so many workers, in words.
    """

    cases: int
    there: int
    failed: int
    read: int
    memory: Sequence[float]
    seconds: Sequence[float]
    workers: int
    why: str

    @property
    def to_make(self) -> int:
        """Cases that would be made."""
        return self.cases - self.there - self.failed

    @property
    def hours(self) -> float | None:
        """Predicted hours; None if no header says."""
        if not self.seconds:
            return None
        busy = max(1, min(self.workers, self.to_make))
        return self.to_make * statistics.fmean(self.seconds) / busy / 3600

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "event": "dry-run",
            "cases": self.cases,
            "there": self.there,
            "failed": self.failed,
            "to_make": self.to_make,
            "read": self.read,
            "memory_mb": None if not self.memory else round(max(self.memory) / 1e6),
            "median_memory_mb": None if not self.memory else round(statistics.median(self.memory) / 1e6),
            "workers": self.workers,
            "hours": None if self.hours is None else round(self.hours, 6),
        }

    def text(self) -> str:
        """For people."""
        lines = [f"{_cases(self.cases)}: {self.to_make} to be made, {self.there} whose folder exists, "
                 f"{self.failed} that cannot be begun."]  # fmt: skip
        if self.memory:
            seen = "" if self.read >= self.to_make else f" (by the headers of {self.read} of them)"
            lines.append(
                f"Memory a case: {in_words(statistics.median(self.memory))} in the middle, "
                f"{in_words(max(self.memory))} at most{seen}."
            )
        lines.append(f"Workers: {self.workers} at once; {self.why}.")
        if self.hours is not None:
            pace = f"{statistics.fmean(self.seconds):.1f} s a case on this computer"
            lines.append(f"Time: about {_duration(self.hours)}, at {pace}.")
        return "\n".join(lines)


def forecast(
    jobs: "Sequence[Job]",
    failed: int,
    model: "Model | None",
    replaced: bool,
    workers: int | None,
    reader: "InputReader",
) -> Forecast:
    """Predict what the jobs would take.

    Args:
        failed: cases that could not become jobs.
        model: None without jobs.
        replaced: cases whose folder exists are made again.
        workers: that were asked for; None for one process.
    """
    from ..inference.prediction import predicted_seconds, time_window
    from ..inference.segment import predicted_memory
    from ..io.header_peek import claim_on_form
    from ..io.roi import part_grid

    there = {job.name for job in jobs if not replaced and job.target.exists()}
    left = [job for job in jobs if job.name not in there]
    memory: list[float] = []
    seconds: list[float] = []
    step = max(1, -(-len(left) // MOST_READ))
    seen = left[::step] if model is not None else []
    if seen and model is not None:
        time_window(model)
    for job in seen:
        assert model is not None
        try:
            predicted = predicted_memory(job, model, reader)
            claim = claim_on_form(job.files[0], reader.grid(job.files[0], *job.series[:1]), job.form)
        except InputError:  # the run itself will say what is wrong with it
            continue
        if predicted is not None:
            memory.append(predicted.total)
        if claim is not None:
            with contextlib.suppress(InputError):  # the region lies outside
                seconds.append(predicted_seconds(model, part_grid(claim.grid, job.region)) or 0.0)
    count, why = _workers(workers, max(memory, default=None))
    return Forecast(len(jobs) + failed, len(there), failed, len(seen), memory, seconds, count, why)


def _workers(asked: int | None, largest: float | None) -> tuple[int, str]:
    free = available_bytes()
    fit = None if free is None or not largest else max(1, int(HELD_BYTES * free // largest))
    cores = usable_cores()
    room = "here is 1 core" if cores == 1 else f"here are {cores} cores"
    room += "" if free is None else f" and {in_words(free)} of free memory"
    if fit is not None:
        room += f", enough for {fit} of the largest {'case' if fit == 1 else 'cases'} at a time"
    return (1, f"{room}: --workers N takes several") if asked is None else (asked, room)


def print_forecast(found: Forecast, output: Path, console: Console) -> int:
    """Print what the cohort would take; returns the exit code."""
    console.result(f"{found.text()}\nNothing was made in {output}.", found.to_json())
    return 0


def _cases(count: int) -> str:
    return f"{count} case{'' if count == 1 else 's'}"


def _duration(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    if hours < 2:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"
