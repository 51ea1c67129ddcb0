"""The jobs of a call: which cases its arguments name, what their folders are called; and `failed.csv`."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..inference.case_result import Job
from ..inference.given_mask import MaskFile
from ..inference.settings import DEFAULTS, RunSettings
from ..io.inputs import FolderOfCases, GivenCase, cases_in, channel_inputs, channel_of, find_input, stem_of
from ..util.csv_files import read_csv, write_csv
from ..util.errors import InputError, OutputError, UsageError, os_errors_named
from ..util.input_files import is_plain, plain_name

# File systems take 255 bytes a name; temporary names need some of them.
MAXIMUM_NAME_BYTES = 200
COLUMNS = ["case", "input", "reason"]
_LONGEST_REASON = 4000


@dataclass(frozen=True)
class Failure:
    """A case that cannot be started: its name, what was given for it, and why."""

    name: str
    given: Path
    error: Exception


@dataclass(frozen=True)
class AskedCases:
    """The cases that a call asks for.

    Attributes:
        paths: images, folders and tables that are given as cases.
        tables: the cases of those paths that are tables.
        each: whether the paths are folders of cases.
        name: of the folder of a single case.
        channel, series: "NAME=FILE" and "[NAME=]UID" of a single case, as `channel_inputs` reads them.
        settings: of every job.
        masks: to judge, by the name of the case; for none, cases are segmented.
    """

    paths: Sequence[Path]
    tables: Mapping[Path, Sequence[GivenCase]] = field(default_factory=dict)
    each: bool = False
    name: str | None = None
    channel: Sequence[str] = ()
    series: Sequence[str] = ()
    settings: RunSettings = DEFAULTS
    masks: Mapping[str, MaskFile] = field(default_factory=dict)


def jobs_of(
    asked: AskedCases, output: Path, model_channels: Sequence[str], note: Callable[[str], None]
) -> tuple[list[Job], list[Failure]]:
    """Make the job of each case, and report which cannot be started.

    Args:
        output: folder that receives one folder a case.
        model_channels: names of the model's channels, in its order.
        note: gets kinds of folders, and what is left out of them.

    Raises:
        UsageError: options need a single case, or a name cannot be that of a case folder (with `each` one case fails).
    """
    failures: list[Failure] = []
    paths, each, name, channels, series = asked.paths, asked.each, asked.name, asked.channel, asked.series
    is_single = bool(name or channels or series)
    if is_single and (each or len(paths) > 1):
        raise UsageError("--name, --channel and --series go with a single case.", "contradicting-options")
    cases: list[GivenCase] = []
    for path in _inside(paths, output, note, failures) if each else paths:
        try:
            cases += asked.tables[path] if path in asked.tables else _found(path, note)
        except Exception as error:  # noqa: BLE001 - a fault in one place does not stop the others
            failures.append(Failure(plain_name(path.name), path, error))
    if is_single and cases and (len(cases) > 1 or (cases[0].numbered and (channels or series))):
        message = f"--name, --channel and --series cannot be combined with {paths[0]}, which already defines them."
        raise UsageError(message, "contradicting-options")
    jobs, names = [], [case.name if name is None else name for case in cases]
    taken: dict[str, list[Path]] = {}
    for case, own in zip(cases, names, strict=True):
        taken.setdefault(own.casefold(), []).append(case.source)
    for case, own in zip(cases, names, strict=True):
        problem = _name_problem(own, taken[own.casefold()])
        if problem and not each:
            raise UsageError(f"{problem}: rename a file, or segment it alone with --name.", "wrong-usage")
        try:
            if problem:
                raise InputError(f"{case.source}: {problem}: segment it alone with --name.", "unusable-name")
            inputs = channel_inputs(case, channels, series, model_channels)
        except InputError as error:
            failures.append(Failure(own, case.source, error))
            continue
        files, uids = [given.path for given in inputs], [given.series for given in inputs]
        mask = asked.masks[case.name] if asked.masks else None
        jobs.append(Job(own, files, output / own, asked.settings, series=uids, mask=mask))
    return jobs, failures


def with_masks(images: Path, masks: Path) -> tuple[list[tuple[GivenCase, Path]], list[str]]:
    """Find the mask of each image of a folder, by its name: that of the image, and what follows `_`, `-` or `.`.

    A mask is a file, or a folder with one file per structure. In BIDS the image's name counts without its suffix
    ("sub-01" of sub-01_T1w.nii.gz), and both may lie in folders of patients.

    Returns:
        Each case with its mask, and the names of the images that have none.

    Raises:
        InputError: an image has several masks, or none has one.
    """
    cases = [case for path in _entries_of(images) for case in find_input(path).cases]
    given, found, without = _entries_of(masks), list[tuple[GivenCase, Path]](), list[str]()
    stems = {path: stem_of(path) or path.name for path in given}
    for case in cases:
        key = case.name.rpartition("_")[0] if case.name.startswith("sub-") and "_" in case.name else case.name
        same = [path for path in given if re.fullmatch(rf"{re.escape(key)}([_.-].*)?", stems[path])]
        same = [path for path in same if stems[path] == case.name] or same
        if len(same) > 1:
            names = " and ".join(path.name for path in same[:2])
            raise InputError(f"{case.source} may have the mask {names}: give a table of both.", "unclear-mask")
        found += [(case, path) for path in same]
        without += [] if same else [case.name]
    if not found:
        raise InputError(f"No mask in {masks} has the name of an image in {images}: give a table of both.", "no-mask")
    return found, without


def _entries_of(folder: Path) -> list[Path]:
    """List the images, and folders of them, of a folder; if it has none, those of its folders of patients (BIDS)."""
    inner = [path for path in folder.glob("sub-*/**/*") if stem_of(path) and path.is_file()]
    return sorted(inner) or list(cases_in(folder).paths)


def _found(path: Path, note: Callable[[str], None]) -> Sequence[GivenCase]:
    given = find_input(path)
    if given.kind:
        note(f"{path}: {given.kind}.")
    return given.cases


def _inside(folders: Sequence[Path], output: Path, note: Callable[[str], None], failures: list[Failure]) -> list[Path]:
    """List what lies in folders of cases; not the output folder."""
    paths: list[Path] = []
    for path in folders:
        try:
            found = cases_in(path) if path.is_dir() else FolderOfCases([path])
        except Exception as error:  # noqa: BLE001 - as in `jobs_of`
            failures.append(Failure(plain_name(path.name), path, error))
            continue
        paths += found.paths
        if found.left_out:
            note(f"{path}: left out: {found.left_out}.")
    return [path for path in paths if os.path.realpath(path) != os.path.realpath(output)]


def _name_problem(name: str, sources: Sequence[Path]) -> str:
    """Say why no case folder can have a name that these files or folders give it; empty if one can."""
    if not name or Path(name).name != name or name.startswith(".") or not is_plain(Path(name)):
        return f"'{name}' cannot be the name of a case folder"
    if len(os.fsencode(name)) > MAXIMUM_NAME_BYTES:
        return f"'{name[:20]}...' is too long for the name of a case folder"
    if len(sources) < 2:
        return ""
    first, second = (plain_name(path.name) for path in sources[:2])
    channels = "; channels of one case in nnU-Net naming: give their folder" if channel_of(sources[1]) else ""
    return f"Two cases would both be named '{name}' ({first}, {second}{channels})"


def check_failed_file(path: Path) -> None:
    """Refuse a file in the place of the list of failed cases that is not such a list.

    Raises:
        OutputError: it is something else.
    """
    if os.path.lexists(path):
        try:
            header = read_csv(path)[:1]
        except InputError:
            header = []
        if header != [COLUMNS]:
            raise OutputError(f"{path} is not a list of failed cases: rename it.", "exists-already")


def write_failed(path: Path, rows: Sequence[tuple[str, Path, str]]) -> None:
    """Write the list of failed cases: name, what was given for it, reason; without any, remove an earlier list.

    Raises:
        OutputError: the place cannot be written to.
    """
    with os_errors_named(path):
        if rows:
            write_csv(path, COLUMNS, [(name, str(given), reason[:_LONGEST_REASON]) for name, given, reason in rows])
        else:
            path.unlink(missing_ok=True)
