"""The process that reads images for another one (`reader_process`): `python -m SegWithUCore.io.reader_child`.

Requests come as JSON lines on stdin; answers leave as JSON lines, an image's voxels right behind its line. When stdin
closes, the parent is gone: the process ends at once, also in the middle of a file.
"""

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, BinaryIO

import SimpleITK as sitk

from ..util.errors import InputError
from ..util.processes import take_standard_streams
from .header_peek import FileGrid
from .input_reader import InputReader, image_description, image_voxels

REQUESTS = ("is_dicom", "folder_words", "grid", "read")
"""Methods of `InputReader` that may be asked for."""


def main() -> None:
    """Answer until stdin closes."""
    _set_apart()
    requests, answers = take_standard_streams()
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, lines), daemon=True).start()
    reader = InputReader()
    _send(answers, {"ready": True})
    while True:
        _answer(answers, reader, json.loads(lines.get()))


def _set_apart() -> None:
    """Leave Ctrl-C to the parent, dump no core (it would hold a patient's image), and die first for want of memory."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # Linux only
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _listen(requests: BinaryIO, lines: "queue.SimpleQueue[bytes]") -> None:
    for line in requests:
        lines.put(line)
    os._exit(0)  # from this thread, while another one reads a file


def _answer(answers: BinaryIO, reader: InputReader, request: dict[str, Any]) -> None:
    voxels: memoryview | None = None
    answer: dict[str, Any]
    try:
        if request["request"] not in REQUESTS:
            raise ValueError(f"there is no request {request['request']!r}")
        path = Path(os.fsdecode(bytes.fromhex(request["path"])))
        found = getattr(reader, request["request"])(path, **request["options"])
        if isinstance(found, sitk.Image):
            voxels, answer = image_voxels(found), {"image": image_description(found)}
        else:
            answer = {"value": found.to_json() if isinstance(found, FileGrid) else found}
    except InputError as error:
        answer = {"input_error": str(error)}
    except MemoryError:
        answer = {"memory_error": True}
    except Exception as error:  # noqa: BLE001 - a fault of ours: the parent raises it where it can be seen
        answer = {"unexpected": f"{type(error).__name__}: {error}", "details": traceback.format_exc()}
    _send(answers, answer, voxels)


def _send(answers: BinaryIO, answer: dict[str, Any], voxels: memoryview | None = None) -> None:
    """Write a line, in ASCII so that a name that is no text passes too, and what follows it."""
    try:
        answers.write(json.dumps(answer).encode("ascii") + b"\n")
        if voxels is not None:
            answers.write(voxels)
        answers.flush()
    except OSError:  # the reader of this pipe is gone
        os._exit(0)


if __name__ == "__main__":
    main()
