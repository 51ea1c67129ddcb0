"""How many processes died while they made a case: one that kills them must not kill every next one.

The count is a file beside the case folder with a line for each process that began the case and did not end it.
"""

import contextlib
import os
import socket
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from ..util.errors import OutputError

DEATHS_AT_MOST = 2
"""Processes that may die while they make a case: once may be chance."""


class DeadlyCaseError(OutputError):
    """Processes died again and again while they made this case."""

    def __init__(self, target: Path, deaths: int, memory: str | None) -> None:
        needs = "" if memory is None else f" (it {memory})"
        super().__init__(
            f"{target} was not made: {deaths} processes were killed while they made it, by the system when memory runs "
            f"out{needs}, by hand or by a power cut; free some memory and try it again with --take-over."
        )


def begun_path(target: Path) -> Path:
    """Return the file that counts, of a case folder."""
    return target.with_name(f".{target.name}.begun")


def deaths_of(target: Path) -> int:
    """Count the processes that died while they made a case.

    Raises:
        OutputError: the file cannot be read.
    """
    path = begun_path(target)
    try:
        return len(path.read_bytes().splitlines())
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise OutputError(f"Cannot read {path} ({error.strerror}): check its permissions.") from error


def begin(target: Path, run: str = "") -> None:
    """Note that this process begins a case.

    Args:
        run: whose processes are forgiven when it is ended by its user.

    Raises:
        OutputError: the place cannot be written to.
    """
    path, at = begun_path(target), datetime.now(UTC).isoformat(timespec="seconds")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"process {os.getpid()} on {socket.gethostname()} at {at}{f' in run {run}' if run else ''}\n")
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"Cannot write {path}: {reason}; free some space or choose another place.") from error


def ended(target: Path) -> None:
    """Forget all deaths of a case: it was made, or it failed."""
    with contextlib.suppress(OSError):  # a disk that is gone: an end by itself is then counted as a death
        begun_path(target).unlink(missing_ok=True)


def forget(output: Path, names: Iterable[str]) -> None:
    """Forget the deaths of these cases in `output`, so that they are tried again."""
    wanted = set(names)
    for path in output.glob(".*.begun") if output.is_dir() else []:
        if path.name.removeprefix(".").removesuffix(".begun") in wanted:
            ended(path.with_name(path.name.removeprefix(".").removesuffix(".begun")))


def forgive(targets: Iterable[Path], run: str) -> None:
    """Take back the deaths of the processes of a run that its user ended."""
    for target in targets:
        path = begun_path(target)
        with contextlib.suppress(OSError):  # gone, or the disk is: then the next run counts a death too many
            lines = path.read_text(encoding="utf-8").splitlines()
            others = [line for line in lines if not line.endswith(f" in run {run}")]
            if not others:
                path.unlink()
            elif len(others) < len(lines):
                path.write_text("\n".join(others) + "\n", encoding="utf-8")
