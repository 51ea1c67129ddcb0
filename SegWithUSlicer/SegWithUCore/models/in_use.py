"""Models that a process has loaded: they are marked as long as it lives, so that nobody deletes them meanwhile.

The mark is a shared lock on the weights file, which the system drops with the process, however that ends. On Windows
the open file is mark enough: its folder cannot be renamed.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ..util.errors import InputError, OutputError
from ..util.input_files import regular_file
from .bundle import WEIGHTS_FILE, Bundle

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment,unused-ignore]


def hold(bundle: Bundle) -> IO[bytes] | None:
    """Mark a model as in use until the returned file is closed, or forgotten; None where it cannot be marked."""
    if bundle.folder is None:
        return None
    path = bundle.folder / WEIGHTS_FILE
    try:
        regular_file(path)  # opening a pipe would wait for ever
        file = path.open("rb")
    except (InputError, OSError):  # loading it says why
        return None
    if fcntl is not None:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return file


@contextlib.contextmanager
def not_in_use(folder: Path) -> Iterator[None]:
    """Make sure that no process has the model loaded, or loads it while the block runs.

    Raises:
        OutputError: one has.
    """
    path = folder / WEIGHTS_FILE
    sentence = f"The model in {folder} is in use by another program: close it, or the module in Slicer, and try again."
    if fcntl is None or not path.is_file():
        try:
            yield
        except PermissionError as error:
            raise OutputError(sentence) from error
        return
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(sentence) from error
        except OSError:  # a file system without locks, as `hold` met
            pass
        yield
