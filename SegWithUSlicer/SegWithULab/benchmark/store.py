"""The folder of a benchmark: what was fitted and every case's metrics, so that a run goes on where it stopped.

`settings.json` says what is compared on which cases. `rivals/NAME/` holds, for each baseline, `identity.json`, what was
fitted (`fitted.npz`), the tables that make its scores error probabilities (`refits.json`), and `cases/CASE.json`.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from SegWithUCore.calibration.error_probability import ErrorProbability
from SegWithUCore.util import strict_json
from SegWithUCore.util.atomic_files import atomic_file, sweep_leftovers
from SegWithUCore.util.errors import OutputError, UsageError
from SegWithUCore.util.process_lock import LockedError, ProcessLock

from ..training.dataset import Case
from .baselines.base import Baseline, FittingCases

SETTINGS_FILE = "settings.json"
LOCK_FILE = "benchmark.lock"


class BenchmarkFolder:
    """Files of one benchmark; one process at a time works in it.

    Args:
        path: made if it does not exist.
        settings: what must be the same in a run that goes on.
        resume: go on with what is there.

    Raises:
        OutputError: there is something and `resume` is not asked for; another process works there.
        UsageError: what is there compares other things.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], resume: bool) -> None:
        self.path = path
        self._settings = json.loads(json.dumps(settings))
        known = self._known_settings(resume)
        path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock = ProcessLock.take(path / LOCK_FILE)
        except LockedError as error:
            raise OutputError(f"{path} is being worked on by {error.who}: wait until it is done.") from error
        if known is None:
            write_json(path / SETTINGS_FILE, self._settings)

    def _known_settings(self, resume: bool) -> dict[str, Any] | None:
        file = self.path / SETTINGS_FILE
        if not file.is_file():
            if self.path.exists() and any(entry.name != LOCK_FILE for entry in self.path.iterdir()):
                raise OutputError(f"{self.path} exists and is no benchmark: choose another output folder.")
            return None
        if not resume:
            raise OutputError(
                f"{self.path} holds a benchmark already: pass --resume to go on, or choose another folder."
            )
        known = read_json(file)
        for key, value in self._settings.items():
            if known.get(key) != value:
                raise UsageError(
                    f"{self.path} was begun with other {key.replace('_', ' ')} ({_short(known.get(key))}, now "
                    f"{_short(value)}): choose another output folder."
                )
        return known

    def release(self) -> None:
        """Let other processes work here."""
        self._lock.release()

    def of(self, baseline: Baseline, cases: FittingCases) -> "BaselineFolder":
        """Open the files of one baseline; those of other settings of it are removed."""
        return BaselineFolder(self.path / "rivals" / baseline.name, identity_of(baseline, cases))

    def case_facts(self, name: str) -> dict[str, Any] | None:
        """Read the counts of a case by region. Returns None if they are not there yet."""
        file = self.path / "cases" / f"{name}.json"
        return read_json(file) if file.is_file() else None

    def save_case_facts(self, name: str, facts: Mapping[str, Any]) -> None:
        """Keep the counts of a case."""
        write_json(self.path / "cases" / f"{name}.json", facts)

    @property
    def cost_file(self) -> Path:
        """Where time and memory of all baselines are kept."""
        return self.path / "cost.json"


class BaselineFolder:
    """Files of one baseline."""

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        self.replaced = False
        file = path / "identity.json"
        wanted = json.loads(json.dumps(identity))
        if path.is_dir() and (not file.is_file() or read_json(file) != wanted):
            shutil.rmtree(path)
            self.replaced = True
        for part in ("cases", "calibration"):
            (path / part).mkdir(parents=True, exist_ok=True)
            sweep_leftovers(path / part)
        write_json(file, wanted)

    def fitted(self) -> dict[str, np.ndarray] | None:
        """Read what was fitted. Returns None if it is not there yet."""
        return _read_arrays(self.path / "fitted.npz")

    def save_fitted(self, state: Mapping[str, np.ndarray]) -> None:
        """Keep what was fitted."""
        _write_arrays(self.path / "fitted.npz", state)

    def refits(self) -> dict[str, ErrorProbability] | None:
        """Read the tables by row. Returns None if they are not there yet."""
        file = self.path / "refits.json"
        if not file.is_file():
            return None
        return {row: ErrorProbability.from_json(entry) for row, entry in read_json(file).items()}

    def save_refits(self, tables: Mapping[str, ErrorProbability]) -> None:
        """Keep the tables; the scores that they were fitted on are no longer needed."""
        write_json(self.path / "refits.json", {row: table.to_json() for row, table in tables.items()})
        shutil.rmtree(self.path / "calibration")

    def has_scores(self, case: str) -> bool:
        """Tell whether the scores of a calibration case are there."""
        return (self.path / "calibration" / f"{case}.npz").is_file()

    def save_scores(self, case: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep scores of a calibration case until the tables are fitted."""
        _write_arrays(self.path / "calibration" / f"{case}.npz", arrays)

    def scores(self, case: str, name: str) -> np.ndarray:
        """Read one array of `save_scores`."""
        with np.load(self.path / "calibration" / f"{case}.npz") as arrays:
            found: np.ndarray = arrays[name]
        return found

    def metrics(self, case: str) -> dict[str, dict[str, float | None]] | None:
        """Read the metrics of a test case by row and title. Returns None if they are not there yet."""
        file = self.path / "cases" / f"{case}.json"
        return read_json(file) if file.is_file() else None

    def save_metrics(self, case: str, metrics: Mapping[str, Mapping[str, float | None]]) -> None:
        """Keep the metrics of a test case."""
        write_json(self.path / "cases" / f"{case}.json", metrics)


def identity_of(baseline: Baseline, cases: FittingCases) -> dict[str, Any]:
    """Return all that decides what a baseline answers; metrics of another identity are not its own."""
    roles = {role: names_sha256(getattr(cases, role)) for role in sorted({*baseline.needs, *baseline.uses})}
    return {"revision": baseline.revision, "settings": baseline.settings(), "cases": roles, "rows": list(baseline.rows)}


def names_sha256(cases: Sequence[Case]) -> str:
    """Hash of the names of cases."""
    return hashlib.sha256("\n".join(case.name for case in cases).encode()).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of the benchmark.

    Raises:
        InputError: it is damaged; remove it to have its content measured anew.
    """
    return strict_json.read_json_object(path, "remove it and run again with --resume")


def write_json(path: Path, data: Any) -> None:
    """Write a JSON file whole or not at all; what is not finite must have become None before."""
    with atomic_file(path) as work:
        work.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _read_arrays(path: Path) -> dict[str, np.ndarray] | None:
    if not path.is_file():
        return None
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with atomic_file(path) as work, work.open("wb") as file:
        np.savez(file, **dict(arrays))  # type: ignore[arg-type]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
