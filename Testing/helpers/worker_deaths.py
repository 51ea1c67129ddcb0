"""Cases that end, or hold up, the worker that makes them: by their names, when their folder is put in its place.

`deadly_cases` puts a hook of Python's own into every process started from here on; it works in Dask's workers alone.
"""

import os
from pathlib import Path

import pytest

HOOK = """
import os, signal, sys, time

def watch(event, arguments):
    if event != "os.rename":
        return
    name = os.path.basename(os.fsdecode(arguments[1]))
    if name.startswith("kills-"):
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("waits-"):
        open(os.path.join(os.environ["CASES_WAIT"], name), "w").close()
        while os.path.exists(os.path.join(os.environ["CASES_WAIT"], name)):
            time.sleep(0.01)

if any("spawn_main" in part for part in sys.orig_argv):
    sys.addaudithook(watch)
"""


def deadly_cases(folder: Path, environment: pytest.MonkeyPatch) -> Path:
    """Let cases such as "kills-1" and "waits-1" do what they say, in workers started from here on.

    Returns:
        A folder that holds a file for each case that waits; removing it lets the case go on.
    """
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
    waiting = folder / "waiting"
    waiting.mkdir()
    environment.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    environment.setenv("CASES_WAIT", str(waiting))
    return waiting
