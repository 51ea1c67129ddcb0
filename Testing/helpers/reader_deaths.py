"""Files that end, or hold up, the process that reads them, whatever the readers are made of: by their names.

`deadly_names` puts a hook of Python's own into every process started from here on; it works in the reading process
alone and there answers the opening of such a file with a signal, or not at all.
"""

import os
from pathlib import Path

import pytest

HOOK = """
import os, re, signal, sys, time

def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        name = os.fsdecode(arguments[0])
        if found := re.search("ends-(SIG[A-Z]+)", name):
            os.kill(os.getpid(), getattr(signal, found[1]))
        if "hangs-" in name:
            open(os.environ["READER_HANGS"], "w").close()
            time.sleep(1000)

if "SegWithUCore.io.input_reader" in sys.orig_argv:
    sys.addaudithook(watch)
"""


def write_hook(folder: Path) -> Path:
    """Write the hook into a folder for PYTHONPATH; returns the folder."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
    return folder


def deadly_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let names such as "ends-SIGSEGV.nii.gz" and "hangs-1.nii.gz" do what they say.

    Returns:
        A file that is there once a reading process hangs.
    """
    write_hook(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("READER_HANGS", str(folder / "hangs"))
    return folder / "hangs"
