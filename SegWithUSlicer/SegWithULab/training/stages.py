"""A long job as a list of stages, each done once and kept: whatever ends the job, the same call goes on behind it.

A stage says what it reads (`inputs`: files, folders, settings), what it leaves (`outputs`: files, folders) and how it
works. `run_stages` does them in order and notes in `stages.json` of the job's folder the hashes of both:

- a stage whose inputs and outputs are what was noted is *there* and is passed over;
- one that ended early is called again and goes on by itself (`Begun.again`), if its inputs are the same still;
- one whose inputs changed since is done anew; one that took long (`costly`) only if the user says so (`redo`);
- outputs that people may edit (`editable`), such as a recipe, are taken as they lie there, and what reads them follows;
  they are replaced only if the user says so, or if the outputs are to lie elsewhere by now.

Progress is one share over all stages, by the seconds that each is expected to take, with the time left at the pace so
far. Ctrl-C becomes one sentence: what is kept, and that the same
call goes on. Only one process works in a folder. Used by `segwithu train`; general enough for any such job:

    stages = [
        Stage("head", "training the head", train_head, {"backbone": run / "backbone_best.safetensors",
              "settings": recipe_block}, [run / "head_best.safetensors"], seconds=900, costly=True),
        Stage("calibrate", "calibrating", calibrate, {"head": run / "head_best.safetensors", "cases": names},
              [run / "calibrated"], seconds=60),
    ]
    noted = run_stages(folder, stages, progress)     # {"head": {...}, "calibrate": {...}}: what each `work` returned
"""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from SegWithUCore.util.atomic_files import atomic_file
from SegWithUCore.util.errors import CancelledError, InputError, OutputError, UsageError
from SegWithUCore.util.input_files import is_there
from SegWithUCore.util.progress import Progress, TimeLeft, silent
from SegWithUCore.util.run_lock import RunLockedError, run_lock
from SegWithUCore.util.strict_json import read_json_object, shown, to_json

STAGES_FILE = "stages.json"
FORMAT = 1
GO_ON = "run the same command to go on"
Input = Path | str | int | float | bool | None | Sequence[Any] | Mapping[str, Any]
"""A file or folder, whose content counts, or a setting that JSON can hold."""
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Begun:
    """What a stage's `work` is told.

    Attributes:
        again: an earlier call began this stage with the same inputs and did not end it: go on with what it left.
        progress: of this stage alone, 0 to 1.
    """

    again: bool
    progress: Progress


@dataclass(frozen=True)
class Stage:
    """One step of a long job.

    Attributes:
        name: short, for `stages.json` and messages.
        words: what is being done, for the progress ("training the head").
        work: does it; what it returns (JSON, or None) is noted, and handed out by `run_stages`, now and later.
        inputs: all that the outputs follow from, by name; files need to exist only when the stage begins. Where inputs,
            outputs or seconds depend on earlier stages, give a function.
        outputs: files and folders that `work` leaves, each whole or absent.
        seconds: expected; only their proportions count once something is done.
        costly: work of hours, never done anew unasked.
        editable: people may change its outputs; they are kept then.
        kept: says what an interrupted `work` leaves ("12 epochs"); empty for nothing.
    """

    name: str
    words: str
    work: Callable[[Begun], Mapping[str, Any] | None]
    inputs: Mapping[str, Input] | Callable[[], Mapping[str, Input]]
    outputs: Sequence[Path] | Callable[[], Sequence[Path]]
    seconds: float | Callable[[], float] = 60.0
    costly: bool = False
    editable: bool = False
    kept: Callable[[], str] = field(default=lambda: "")


def run_stages(
    folder: Path, stages: Sequence[Stage], progress: Progress = silent, redo: bool = False, go_on: str = GO_ON
) -> dict[str, dict[str, Any]]:
    """Do all stages that are not there yet.

    Args:
        folder: of the job, made if there is none; `stages.json` lies here.
        redo: do a costly stage anew whose inputs changed.
        go_on: what to do after an interruption, the end of that sentence.

    Returns:
        What each stage noted, by its name.

    Raises:
        CancelledError: Ctrl-C; with what is kept.
        UsageError: the inputs of a costly stage changed; names the first that did.
        InputError: an input is missing, or `stages.json` is damaged; besides what the stages raise.
        OutputError: another process works in the folder, or it cannot be written to.
    """
    with _alone(folder):
        job = _Job(folder, stages, progress)
        for number, stage in enumerate(stages):
            try:
                job.do(number, stage, redo)
            except KeyboardInterrupt:
                raise CancelledError(_kept_words(stages, number, folder, go_on)) from None
            except CancelledError as error:  # said by the stage itself, as by a child process
                raise CancelledError(_kept_words(stages, number, folder, go_on)) from error
        return {stage.name: job.facts(stage) for stage in stages}


def noted(folder: Path) -> dict[str, dict[str, Any]]:
    """Read what the stages of a job noted so far, by name; empty before it began.

    Raises:
        InputError: `stages.json` is damaged.
    """
    return {name: dict(entry.get("facts") or {}) for name, entry in _read(folder).items()}


def has_left(folder: Path, name: str, path: Path) -> bool:
    """Tell whether a stage that ended is what left the first of its outputs at `path`: there, or as it lies there now.

    Raises:
        InputError: `stages.json` is damaged, or what lies there cannot be read.
    """
    entry = _read(folder).get(name)
    if entry is None or not entry.get("done"):
        return entry is not None
    return _is_place(entry, path) or entry.get("outputs", {}).get("0") == content_sha256(path)


class _Job:
    """The stages of one call, with what is known of earlier ones."""

    def __init__(self, folder: Path, stages: Sequence[Stage], progress: Progress) -> None:
        self.folder, self.stages, self.progress = folder, stages, progress
        self.entries = _read(folder)
        self.passed_over: set[int] = set()
        self.left, self.share = TimeLeft(), 0.0

    def facts(self, stage: Stage) -> dict[str, Any]:
        return dict(self.entries[stage.name].get("facts") or {})

    def do(self, number: int, stage: Stage, redo: bool) -> None:
        """Do one stage, unless what it made of the same inputs is still there."""
        entry, given = self.entries.get(stage.name, {}), _now(stage.inputs)
        inputs = {name: _digest(value, stage.name) for name, value in given.items()}
        changed = [name for name in inputs if entry.get("inputs", {}).get(name) != inputs[name]] if entry else []
        there = bool(entry.get("done")) and all(path.exists() for path in _now(stage.outputs))
        edited = _edited(stage, entry) if there else None
        if there and not changed and (edited is None or (stage.editable and _is_place(entry, _now(stage.outputs)[0]))):
            self.passed_over.add(number)
            return
        if not redo and changed and (stage.costly or edited is not None):
            raise UsageError(_changed_words(stage, given[changed[0]], changed[0], entry, self.folder))
        if not redo and edited is not None and stage.costly:
            raise UsageError(_refusal(stage, f"{edited} has changed since", self.folder))
        again = bool(entry) and not changed and not entry.get("done")
        self._note(stage, {"done": False, "inputs": inputs, "settings": _settings(given)})
        begun = time.monotonic()
        facts = stage.work(Begun(again, self._progress_of(number, stage)))
        seconds = round(time.monotonic() - begun, 1)
        made = _now(stage.outputs)
        missing = [path for path in made if not path.exists()]
        if missing:
            raise InputError(f"The stage '{stage.name}' ended without {missing[0]}: run it again.")
        outputs = {str(place): content_sha256(path) for place, path in enumerate(made)}
        whole = {"done": True, "inputs": inputs, "settings": _settings(given), "outputs": outputs}
        if made and not made[0].resolve().is_relative_to(self.folder.resolve()):  # the folder itself may be moved
            whole["place"] = str(made[0].resolve())
        self._note(stage, {**whole, "seconds": seconds, "facts": dict(facts or {})})

    def _progress_of(self, number: int, of: Stage) -> Progress:
        numbered = [(place, max(_now(one.seconds), 0.1)) for place, one in enumerate(self.stages)]
        expected = {place: seconds for place, seconds in numbered if place not in self.passed_over}
        before = sum(seconds for place, seconds in expected.items() if place < number)

        def report(stage: str, fraction: float, detail: str = "") -> None:
            # Never less than before, although stages may be expected to take longer by now.
            self.share = max(self.share, (before + expected[number] * fraction) / sum(expected.values()))
            here, left = f"stage {number + 1} of {len(self.stages)}", self.left.message(self.share)
            after = f"all done in {left.removesuffix(' left')}" if left else ""
            self.progress(of.words, self.share, ", ".join(filter(None, [here, detail, after])))

        report("", 0.0)
        return report

    def _note(self, stage: Stage, entry: Mapping[str, Any]) -> None:
        self.entries[stage.name] = dict(entry)
        with atomic_file(self.folder / STAGES_FILE) as work:
            work.write_text(to_json({"format": FORMAT, "stages": self.entries}) + "\n", encoding="utf-8")


def content_sha256(path: Path) -> str:
    """Hash a file, or the names and contents of all files of a folder.

    Raises:
        InputError: it cannot be read.
    """
    digest = hashlib.sha256()
    with _named(path):
        if not path.is_dir():
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        for inner in sorted(path.rglob("*")):
            if inner.is_file():
                with inner.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
                digest.update(f"{inner.relative_to(path).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let no other process work in the folder.

    Raises:
        OutputError: one does.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(run_lock(folder))
        except RunLockedError as error:
            raise OutputError(
                f"{folder} is being worked on by {error.who}: wait until it ends, or end it first.", "folder-in-use"
            ) from error
        yield


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check the path and its permissions.") from error


def _digest(value: Input, stage: str) -> str:
    if not isinstance(value, Path):
        return hashlib.sha256(to_json(value).encode()).hexdigest()
    if not value.exists():
        raise InputError(f"{value} is not there, and the stage '{stage}' needs it: restore it, or begin again.")
    return content_sha256(value)


def _settings(inputs: Mapping[str, Input]) -> dict[str, Any]:
    """Return the inputs that are no files, so that a message can say what they were."""
    return {name: value for name, value in inputs.items() if not isinstance(value, Path)}


def _now(value: _Value | Callable[[], _Value]) -> _Value:
    """Return a value that may depend on earlier stages."""
    return value() if callable(value) else value


def _is_place(entry: Mapping[str, Any], path: Path) -> bool:
    """Whether a stage left the first of its outputs at `path`; where is noted only outside of the job's folder."""
    return entry.get("place") in (None, str(path.resolve()))


def _edited(stage: Stage, entry: Mapping[str, Any]) -> Path | None:
    """Return the first output that is not as the stage left it."""
    known = entry.get("outputs", {})
    changed = (
        path for number, path in enumerate(_now(stage.outputs)) if known.get(str(number)) != content_sha256(path)
    )
    return next(changed, None)


def _changed_words(stage: Stage, value: Input, name: str, entry: Mapping[str, Any], folder: Path) -> str:
    before = entry.get("settings", {}).get(name)
    if isinstance(value, Path):
        what = f"{value} has changed since"
    elif isinstance(value, Mapping) and isinstance(before, Mapping):
        field_ = next((key for key in {**before, **value} if before.get(key) != value.get(key)), name)
        what = f"{name}/{field_} was {shown(before.get(field_))} and is {shown(value.get(field_))}"
    else:
        what = f"{name} was {shown(before)} and is {shown(value)}"
    return _refusal(stage, what, folder)


def _refusal(stage: Stage, what: str, folder: Path) -> str:
    return (
        f"The stage '{stage.name}' in {folder} was made with something else ({what}): change it back, choose another "
        "folder, or pass --redo to make this stage and those that follow anew."
    )


def _kept_words(stages: Sequence[Stage], number: int, folder: Path, go_on: str) -> str:
    kept = [stage.name for stage in stages[:number]]
    of_this = stages[number].kept()
    if of_this:
        kept.append(f"{of_this} of '{stages[number].name}'")
    words = f"kept in {folder}: {', '.join(kept)}" if kept else f"nothing was finished yet in {folder}"
    return f"cancelled in stage {number + 1} of {len(stages)} ('{stages[number].name}'); {words}; {go_on}."


def _read(folder: Path) -> dict[str, dict[str, Any]]:
    file = folder / STAGES_FILE
    if not is_there(file):
        return {}
    data = read_json_object(file, "remove it to begin again")
    stages = data.get("stages")
    if data.get("format") != FORMAT or not isinstance(stages, dict):
        raise InputError(f"{file} is no list of stages of this version: remove it to begin again.")
    if not all(isinstance(entry, dict) for entry in stages.values()):
        raise InputError(f"{file} is damaged: remove it to begin again.")
    return stages
