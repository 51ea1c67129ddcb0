"""The jobs of a call: which cases its arguments name, what their folders are called, and which cannot be begun."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..inference.segment import Job
from ..io.input_reader import InputReader
from ..io.inputs import FolderOfCases, GivenCase, cases_in, channel_inputs, find_input
from ..io.roi import RegionOfInterest
from ..util.errors import InputError, OutputError, UsageError
from ..util.input_files import is_plain, plain_name
from ..util.run_lock import Part

MAXIMUM_NAME_BYTES = 200
"""File systems take 255 bytes a name; temporary names need some of them."""


@dataclass(frozen=True)
class Failure:
    """A case that cannot even be begun: its name, what was given for it, and why."""

    name: str
    given: Path
    error: Exception


@dataclass(frozen=True)
class Asked:
    """What a call asks for.

    Attributes:
        paths: images, folders and tables that are given as cases.
        output: folder that receives one folder a case.
        tables: the cases of those paths that are tables.
        each: whether the paths are folders of cases.
        name: of the folder of a single case.
        channels, series: "NAME=FILE" and "[NAME=]UID" of a single case, as `channel_inputs` reads them.
        roi: region of interest; None for the whole image.
        form: of NIfTI files whose header has two places.
        unlike_training: go on although the image is unlike the training cases.
        include_image: put a copy of the image into the case folder.
    """

    paths: Sequence[Path]
    output: Path
    tables: Mapping[Path, Sequence[GivenCase]] = field(default_factory=dict)
    each: bool = False
    name: str | None = None
    channels: Sequence[str] = ()
    series: Sequence[str] = ()
    roi: RegionOfInterest | None = None
    form: str | None = None
    unlike_training: bool = False
    include_image: bool = False


def jobs_of(
    asked: Asked, model_channels: Sequence[str], reader: InputReader, note: Callable[[str], None]
) -> tuple[list[Job], list[Failure]]:
    """Make the job of each case, and say which cannot be begun.

    Args:
        model_channels: names of the model's channels, in its order.
        note: gets kinds of folders, and what is left out of them.

    Raises:
        UsageError: options need a single case, contradict each other, or a name is none of a case folder.
    """
    failures: list[Failure] = []
    cases = _given_cases(asked, reader, note, failures)
    jobs = []
    for name, case in zip(_case_names(cases, asked), cases, strict=True):
        try:
            inputs = channel_inputs(case, asked.channels, asked.series, model_channels)
        except InputError as error:
            failures.append(Failure(name, case.source, error))
            continue
        jobs.append(
            Job(
                name,
                [given.path for given in inputs],
                asked.output / name,
                asked.roi,
                unlike_training=asked.unlike_training,
                include_image=asked.include_image,
                series=[given.series for given in inputs],
                form=asked.form,
            )
        )
    return jobs, failures


def _given_cases(
    asked: Asked, reader: InputReader, note: Callable[[str], None], failures: list[Failure]
) -> list[GivenCase]:
    """Find the cases in the paths; whatever one place holds, the others go on."""
    cases: list[GivenCase] = []
    for path in _paths(asked, reader, note, failures) if asked.each else asked.paths:
        if path in asked.tables:
            cases += asked.tables[path]
            continue
        try:
            given = find_input(path, reader)
        except Exception as error:  # noqa: BLE001
            failures.append(Failure(plain_name(path.name), path, error))
            continue
        if given.kind:
            note(f"{path}: {given.kind}.")
        cases += given.cases
    if not asked.each:
        return cases
    problems = _name_problems([case.name for case in cases])
    for case, problem in zip(cases, problems, strict=True):
        if problem:
            failures.append(Failure(case.name, case.source, InputError(f"{case.source}: {problem}")))
    return [case for case, problem in zip(cases, problems, strict=True) if not problem]


def _paths(asked: Asked, reader: InputReader, note: Callable[[str], None], failures: list[Failure]) -> list[Path]:
    """List what lies in folders of cases; not the output folder."""
    if asked.name or asked.channels or asked.series:
        raise UsageError("--name, --channel and --series go with a single case: leave out --each.")
    paths: list[Path] = []
    for path in asked.paths:
        try:
            found = cases_in(path, reader) if path.is_dir() else FolderOfCases([path])
        except Exception as error:  # noqa: BLE001 - as in `_given_cases`
            failures.append(Failure(plain_name(path.name), path, error))
            continue
        paths += found.paths
        if found.left_out:
            note(f"{path}: left out: {found.left_out}.")
    output = os.path.realpath(asked.output)  # unlike Path.resolve, also of a link to itself
    return [path for path in paths if os.path.realpath(path) != output]


def _case_names(cases: Sequence[GivenCase], asked: Asked) -> list[str]:
    """Folder name of each case.

    Raises:
        UsageError: equal names, or options that need a single case.
    """
    numbered = next((case.source for case in cases if case.numbered), None)
    if len(asked.paths) > 1 and (asked.name or asked.channels or asked.series):
        raise UsageError("--name, --channel and --series go with a single case: segment the cases one by one.")
    if numbered and (asked.channels or asked.series):
        raise UsageError(f"--channel and --series do not go with {numbered}: the numbers of its files say the channel.")
    if len(cases) > 1 and asked.name:
        raise UsageError(f"--name goes with a single case, but {numbered} holds {len(cases)}: leave it out.")
    names = [case.name if asked.name is None else asked.name for case in cases]
    for problem in filter(None, _name_problems(names)):
        raise UsageError(problem)
    return names


def _name_problems(names: Sequence[str]) -> list[str | None]:
    """Say of each name why a case folder cannot have it; None if it can."""
    counts = Counter(name.casefold() for name in names)

    def problem(name: str) -> str | None:
        if counts[name.casefold()] > 1:
            return f"Two cases would both be named '{name}': give them one by one with --name."
        if not name or Path(name).name != name or name.startswith(".") or not is_plain(Path(name)):
            return f"'{name}' cannot be the name of a case folder: choose another with --name."
        if len(os.fsencode(name)) > MAXIMUM_NAME_BYTES:
            return f"'{name[:20]}...' is too long for the name of a case folder: choose another with --name."
        return None

    return [problem(name) for name in names]


def share_of(part: Part, jobs: Sequence[Job], failures: Sequence[Failure]) -> tuple[list[Job], list[Failure]]:
    """Return a part's share of the sorted cases, those that cannot be begun among them."""
    everything: list[Job | Failure] = sorted([*jobs, *failures], key=lambda case: case.name)
    share = part.share(everything)
    failed = [case for case in share if isinstance(case, Failure)]
    return [case for case in share if not isinstance(case, Failure)], failed


def check_output(folder: Path) -> None:
    """Find out before the work whether results can be written.

    Raises:
        OutputError: the place is no folder or not writable.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise OutputError(f"{existing} is a file: give a folder for --output.")
    if not is_plain(folder):
        raise OutputError(f"{folder} has a name that is not UTF-8: give another folder for --output.")
    if not os.access(existing, os.W_OK):
        raise OutputError(f"{existing} cannot be written to: give another folder for --output.")
