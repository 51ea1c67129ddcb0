"""The folder of a benchmark: what was fitted and every case's metrics, so that a run goes on where it stopped.

`settings.json` says what is compared on which cases. `baselines/NAME/` holds, for each baseline, `identity.json`, what
was fitted (`fitted.npz`), the tables that make its scores error probabilities (`refits.json`), and `cases/CASE.json`.
Every file is whole or absent.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from SegWithUCore.util.atomic_files import atomic_file, sweep_leftovers
from SegWithUCore.util.errors import OutputError, UsageError
from SegWithUCore.util.strict_json import read_json, shown

from ..training.dataset import Case

SETTINGS_FILE = "settings.json"


class Store:
    """Files of one benchmark.

    Args:
        path: made if it does not exist.
        settings: what must be the same in a run that goes on.
        resume: go on with what is there.

    Raises:
        OutputError: there is something and `resume` is not asked for.
        UsageError: what is there compares other things.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], resume: bool) -> None:
        self.path = path
        known = self.read(SETTINGS_FILE)
        if known is None:
            if path.exists() and any(not entry.name.startswith(".run") for entry in path.iterdir()):
                raise OutputError(f"{path} exists and is no benchmark: choose another output folder.", "no-benchmark")
            path.mkdir(parents=True, exist_ok=True)
            self.write(settings, SETTINGS_FILE)
            return
        if not resume:
            raise OutputError(
                f"{path} holds a benchmark already: pass --resume to go on, or choose another folder.",
                "benchmark-there",
            )
        changed = [key for key, value in _plain(settings).items() if known.get(key) != value]
        if changed:
            raise _other(path, f"other {changed[0].replace('_', ' ')}", known.get(changed[0]), settings[changed[0]])

    def begin(self, name: str, identity: Mapping[str, Any]) -> None:
        """Note what decides the answers of a baseline.

        Raises:
            UsageError: the metrics that are there were measured with something else.
        """
        known = self.read("baselines", name, "identity.json")
        if known not in (None, _plain(identity)):
            raise _other(self.path, f"another baseline '{name}'", known, identity)
        (self.path / "baselines" / name / "cases").mkdir(parents=True, exist_ok=True)
        sweep_leftovers(self.path / "baselines" / name / "cases")
        self.write(identity, "baselines", name, "identity.json")

    def read(self, *place: str) -> Any:
        """Read a JSON object, or the arrays of an .npz file; None where it is not there yet."""
        file = self.path.joinpath(*place)
        if not file.is_file():
            return None
        if file.suffix == ".json":
            return read_json(file, "remove it and run again with --resume")
        with np.load(file) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def write(self, content: Mapping[str, Any], *place: str) -> None:
        """Write what `read` reads; in JSON what is not finite must have become None before."""
        with atomic_file(self.path.joinpath(*place)) as work:
            if place[-1].endswith(".json"):
                work.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
                return
            with work.open("wb") as file:
                np.savez(file, **content)


def names_sha256(cases: Sequence[Case]) -> str:
    """Hash of the names of cases."""
    return hashlib.sha256("\n".join(case.name for case in cases).encode()).hexdigest()


def _other(path: Path, what: str, known: Any, now: Any) -> UsageError:
    return UsageError(
        f"{path} was begun with {what} ({shown(known)}, now {shown(now)}): choose another output folder.",
        "other-benchmark",
    )


def _plain(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what JSON makes of it."""
    return dict(json.loads(json.dumps(content)))
