"""A long job as a list of stages, each done once and kept: after an interruption the same call resumes.

A stage names what it reads (`inputs`: files, folders, settings), what it leaves (`outputs`: files, folders) and how it
works. `run_stages` does them in order and notes in `stages.json` of the job's folder the hashes of both:

- a stage whose inputs and outputs are what was noted is passed over;
- one that was interrupted is called again and resumes (`StageCall.again`), if its inputs are unchanged;
- one whose inputs changed since is done again; one that took long (`costly`) only if the user asks for it (`redo`);
- outputs that people may edit (`editable`), such as a recipe, are taken as they lie there, and what reads them follows;
  they are replaced only if the user asks for it.

Only one process works in a folder.

    stages = [
        Stage("head", train_head, {"backbone": run / "backbone_best.safetensors", "settings": recipe_block},
              [run / "head_best.safetensors"], costly=True),
        Stage("calibrate", calibrate, {"head": run / "head_best.safetensors", "cases": names}, [run / "calibrated"]),
    ]
    noted = run_stages(folder, stages, progress)     # {"head": {...}, "calibrate": {...}}: what each `work` returned
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from SegWithUCore.util.atomic_files import atomic_file
from SegWithUCore.util.errors import CancelledError, InputError, UsageError, unreadable_named, wrong_values_named
from SegWithUCore.util.input_files import is_there
from SegWithUCore.util.progress import Progress, part_of, silent
from SegWithUCore.util.run_lock import run_lock
from SegWithUCore.util.strict_json import read_json_object, to_json, typed

STAGES_FILE = "stages.json"
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class StageCall:
    """What a stage's `work` gets.

    Attributes:
        again: an earlier call started this stage with the same inputs and was interrupted: resume.
        progress: of this stage alone, 0 to 1.
    """

    again: bool
    progress: Progress


@dataclass(frozen=True)
class Stage:
    """One step of a long job.

    Attributes:
        name: short, for `stages.json`, progress and messages.
        work: does it; what it returns (JSON, or None) is noted, and handed out by `run_stages`, now and later.
        inputs: all that the outputs follow from, by name: paths of files and folders, whose content counts, and
            settings that JSON can hold. Where inputs or outputs depend on earlier stages, give a function.
        outputs: files and folders that `work` leaves, each whole or absent.
        costly: work of hours, never done again unasked.
        editable: people may change its outputs; they are kept then.
        weight: how long it takes, relative to the others, for the progress.
    """

    name: str
    work: Callable[[StageCall], Mapping[str, Any] | None]
    inputs: Mapping[str, Any] | Callable[[], Mapping[str, Any]]
    outputs: Sequence[Path] | Callable[[], Sequence[Path]]
    costly: bool = False
    editable: bool = False
    weight: float | Callable[[], float] = 1.0


@dataclass(frozen=True)
class _Entry:
    """What `stages.json` notes of a stage: hashes of its inputs by name and of its outputs in order."""

    done: bool
    inputs: Mapping[str, str]
    outputs: tuple[str, ...] = ()
    facts: Mapping[str, Any] | None = None


def run_stages(
    folder: Path, stages: Sequence[Stage], progress: Progress = silent, redo: bool = False
) -> dict[str, dict[str, Any]]:
    """Do all stages that are not done yet.

    Args:
        folder: of the job, made if there is none; `stages.json` lies here.
        redo: do a costly stage again whose inputs changed.

    Returns:
        What each stage noted, by its name.

    Raises:
        CancelledError: Ctrl-C.
        UsageError: the inputs of a costly stage changed; names the first that did.
        InputError: an input is missing, or `stages.json` is damaged; besides what the stages raise.
        OutputError: another process works in the folder, or it cannot be written to.
    """
    with run_lock(folder):
        entries = _read(folder)
        for number, stage in enumerate(stages):
            place = f"{number + 1} of {len(stages)}"
            weights = [_now(each.weight) for each in stages]
            begin, end = (sum(weights[:count]) / sum(weights) for count in (number, number + 1))
            share = part_of(progress, begin, end)
            try:
                _do(folder, entries, stage, _named(share, f"stage {place}, {stage.name}"), redo)
            except (KeyboardInterrupt, CancelledError):
                kept = f"the stages before it and finished epochs are kept in {folder}"
                message = f"cancelled in stage {place} ('{stage.name}'); {kept}; run the same command to resume."
                raise CancelledError(message) from None
        return {stage.name: dict(entries[stage.name].facts or {}) for stage in stages}


def noted(folder: Path) -> dict[str, dict[str, Any]]:
    """Read what the stages of a job noted so far, by name; empty before it began.

    Raises:
        InputError: `stages.json` is damaged.
    """
    return {name: dict(entry.facts or {}) for name, entry in _read(folder).items()}


def has_left(folder: Path, name: str, path: Path) -> bool:
    """Return whether a stage whose only output is `path` has left what lies there.

    Such a stage has the path as its input "output", so that what was edited since is known, too.

    Raises:
        InputError: `stages.json` is damaged, or what lies there cannot be read.
    """
    entry = _read(folder).get(name)
    if entry is None or not entry.done:
        return entry is not None
    return entry.inputs.get("output") == _digest(str(path.resolve()), name) or entry.outputs == (content_sha256(path),)


def content_sha256(path: Path) -> str:
    """Hash a file, or the names and contents of all files of a folder.

    Raises:
        InputError: it cannot be read.
    """
    digest = hashlib.sha256()
    with unreadable_named(path):
        if not path.is_dir():
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        for inner in sorted(each for each in path.rglob("*") if each.is_file()):
            with inner.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{inner.relative_to(path).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def _do(folder: Path, entries: dict[str, _Entry], stage: Stage, progress: Progress, redo: bool) -> None:
    """Do one stage, unless what it made of the same inputs is still there."""
    inputs = {name: _digest(value, stage.name) for name, value in _now(stage.inputs).items()}
    entry, outputs = entries.get(stage.name), _now(stage.outputs)
    changed = [name for name, digest in inputs.items() if entry is not None and entry.inputs.get(name) != digest]
    is_done = entry is not None and entry.done and all(path.exists() for path in outputs)
    is_own = is_done and "output" not in changed  # else another's, which the caller has agreed to replace
    is_edited = is_own and entry is not None and entry.outputs != tuple(map(content_sha256, outputs))
    if is_done and not changed and (stage.editable or not is_edited):
        return
    if not redo and ((changed and is_edited) or (stage.costly and (changed or is_edited))):
        what = f"its input '{changed[0]}'" if changed else "what it made"
        ways = "revert it, choose another folder, or give --redo to repeat this stage and all later ones"
        changed_since = f"{what} has changed since stage '{stage.name}' in {folder} was completed"
        raise UsageError(f"{changed_since}: {ways}.", "other-recipe")
    again = entry is not None and not entry.done and not changed
    _write(folder, entries, stage, _Entry(False, inputs))
    progress("", 0.0)
    facts = stage.work(StageCall(again, progress))
    outputs = _now(stage.outputs)
    missing = [path for path in outputs if not path.exists()]
    if missing:
        raise InputError(f"The stage '{stage.name}' ended without {missing[0]}: run it again.", "missing-file")
    _write(folder, entries, stage, _Entry(True, inputs, tuple(map(content_sha256, outputs)), dict(facts or {})))


def _named(progress: Progress, name: str) -> Progress:
    """Let the progress of a stage begin with its name."""
    return lambda stage, fraction, detail="": progress(": ".join(filter(None, [name, stage])), fraction, detail)


def _digest(value: Any, stage: str) -> str:
    if not isinstance(value, Path):
        return hashlib.sha256(to_json(value).encode()).hexdigest()
    if not value.exists():
        raise InputError(f"{value} is not there, and the stage '{stage}' needs it: restore it.", "missing-file")
    return content_sha256(value)


def _now(value: _Value | Callable[[], _Value]) -> _Value:
    """Return a value that may depend on earlier stages."""
    return value() if callable(value) else value


def _write(folder: Path, entries: dict[str, _Entry], stage: Stage, entry: _Entry) -> None:
    entries[stage.name] = entry
    with atomic_file(folder / STAGES_FILE) as work:
        stages = {name: vars(each) for name, each in entries.items()}
        work.write_text(to_json({"stages": stages}) + "\n", encoding="utf-8")


def _read(folder: Path) -> dict[str, _Entry]:
    file = folder / STAGES_FILE
    if not is_there(file):
        return {}
    again = "remove it to begin again"
    with wrong_values_named(file, again, "damaged-file"):
        return dict(typed(dict[str, _Entry], read_json_object(file, again).get("stages"), "stages"))
