"""Each case of an export, one after the other in this process or on workers that see the folder of the export."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..util.errors import InputError, OutputError, SegWithUError
from ..util.progress import Progress

if TYPE_CHECKING:
    from ..cluster.on_worker import CaseFunction
    from ..cluster.tasks import Answer, Task

EachCase = Callable[["Sequence[Task]", "CaseFunction"], "Iterator[Answer]"]
"""Does all cases by a function, and yields what became of each as it ends."""


def here(tasks: "Sequence[Task]", function: "CaseFunction") -> "Iterator[Answer]":
    """Do them one after the other in this process."""
    from ..cluster.tasks import answers_here

    return answers_here(tasks, function)


def each_outcome(
    each: EachCase,
    arguments: Mapping[str, tuple[Any, ...]],
    function: "CaseFunction",
    folders: Mapping[str, Path],
    stage: str,
    report: Progress | None = None,
) -> dict[str, tuple[dict[str, Any] | None, str]]:
    """Do a function of each case.

    Args:
        arguments, folders: of each case, by its name in the export.
        function: made with `exported`.

    Returns:
        By name what the function returned (None if the case failed), and why it failed.

    Raises:
        OutputError, OSError: the export cannot be written, which fails for all cases.
    """
    from ..cluster.tasks import Task

    done = {}
    tasks = [Task(name, given) for name, given in arguments.items()]
    if report is not None and tasks:
        report(stage, 0.0, folders[tasks[0].name].name)
    for number, answer in enumerate(each(tasks, function), start=1):
        name, value = answer.task.name, answer.value
        if report is not None:
            report(stage, number / len(tasks), folders[name].name)
        if value is not None and "cannot_write" in value:
            raise OutputError(value["cannot_write"])
        if value is not None and "errno" in value:
            raise OSError(*value["errno"])
        absolute = str(folders[name].absolute())
        done[name] = value, answer.reason.replace(absolute, str(folders[name]))
    return done


def exported(write: Callable[[], dict[str, Any]], folder: Path, names: Mapping[str, str]) -> dict[str, Any]:
    """Write one case; what would fail for all cases comes back as a value, for a failure is one case's.

    Args:
        folder: of the case, named in each failure.
        names: what stands in failures, and what the user knows it as.

    Raises:
        InputError: the case cannot be exported.
    """
    try:
        return write()
    except OutputError as error:
        return {"cannot_write": str(error)}
    except OSError as error:
        return {"errno": (error.errno, error.strerror)}
    except SegWithUError as error:
        sentence = str(error)
        for private, known in names.items():
            sentence = sentence.replace(private, known)
        raise InputError(sentence if str(folder) in sentence else f"{folder}: {sentence}") from error


def free_name(folder: Path, taken: Iterable[str]) -> str:
    """Name a case folder, with a number where two have its name; upper and lower case are one on many systems."""
    wanted, folded = folder.resolve().name, {name.casefold() for name in taken}
    names = [wanted, *(f"{wanted}-{number}" for number in range(2, len(folded) + 3))]
    return next(name for name in names if name.casefold() not in folded)
