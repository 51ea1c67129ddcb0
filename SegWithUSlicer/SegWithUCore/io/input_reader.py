"""Everything that is done with image files before a case is computed, in this process or in a child of its own.

Run as a module (`python -m SegWithUCore.io.input_reader`) it is that child: it answers what `reader_process` asks on
stdin. When stdin closes, the parent is gone: the child ends at once, also in the middle of a file.
"""

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import traceback
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, BinaryIO

import SimpleITK as sitk

from ..util.errors import InputError
from ..util.processes import take_standard_streams
from .dicom_folder import scan_folder
from .dicom_series import read_series, series_header
from .grid import VoxelGrid
from .volume import Header, Volume, is_dicom, read_header, read_volume


class InputReader:
    """Looks at image files and DICOM folders, and reads them, in this process; `ReaderProcess` does it in a child."""

    def is_dicom(self, file: Path) -> bool:
        """Whether a file is DICOM."""
        return is_dicom(file)

    def folder_words(self, folder: Path) -> str:
        """Describe what a folder of DICOM files holds: "DICOM series, 113 slices".

        Raises:
            InputError: as `scan_folder`.
        """
        return scan_folder(folder).description

    def series_uids(self, folder: Path) -> list[str]:
        """List the UIDs of the DICOM series in a folder.

        Raises:
            InputError: as `scan_folder`.
        """
        return list(scan_folder(folder).series)

    def header(self, path: Path, series: str | None = None) -> Header:
        """Read the header of an image file, or of the DICOM series of a folder; no voxel is read.

        Args:
            series: as in `read`.

        Raises:
            InputError: as `read`, as far as headers tell.
        """
        return series_header(path, series) if path.is_dir() else read_header(path)

    def read(self, path: Path, series: str | None = None, header: Header | None = None) -> Volume:
        """Read one channel: an image file, or the DICOM series of a folder.

        Args:
            series: end of the UID of the series to take from a folder with several.
            header: what `header` gave for it, so that it is not read again.

        Raises:
            InputError: as `read_volume` and `read_series`.
        """
        return read_series(path, series, header) if path.is_dir() else read_volume(path, header)


IN_THIS_PROCESS = InputReader()
"""For work that a file may end: tests, scripts, a single image."""
_KEPT_HEADERS = 16
"""Of files that are read next: the channels of a case."""


def main() -> None:
    """Answer until stdin closes."""
    _set_apart()
    requests, answers = take_standard_streams()
    asked: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, asked), daemon=True).start()
    kept: dict[int, Header] = {}
    _send(answers, {"ready": True})
    while True:
        _send(answers, *_answer(kept, *asked.get()))


def _set_apart() -> None:
    """Leave Ctrl-C to the parent, dump no core (it would hold a patient's image), and die first for want of memory."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # Linux only
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _listen(requests: BinaryIO, asked: "queue.SimpleQueue[Any]") -> None:
    for line in requests:
        asked.put(json.loads(line))
    os._exit(0)  # from this thread, while another one reads a file


def _answer(
    kept: dict[int, Header], name: str, path: str, series: str | None, token: int
) -> tuple[dict[str, Any], sitk.Image | None]:
    """Call a method of `InputReader`; returns what it gave or raised, and the image of a volume.

    Args:
        kept: headers by their tokens.
        token: of a header, by which it is asked for again when the voxels are read.
    """
    place = Path(os.fsdecode(bytes.fromhex(path)))
    try:
        if name == "read":
            volume = IN_THIS_PROCESS.read(place, series, kept.pop(token, None))
            return _described(volume), volume.image
        if name == "header":
            if len(kept) >= _KEPT_HEADERS:
                kept.clear()
            kept[token] = header = IN_THIS_PROCESS.header(place, series)
            return {"header": asdict(replace(header, source=token))}, None
        return {"value": getattr(IN_THIS_PROCESS, name)(place)}, None
    except InputError as error:
        return {"input_error": str(error)}, None
    except MemoryError:
        return {"memory_error": True}, None
    except Exception as error:  # noqa: BLE001 - a fault of ours: the parent raises it where it can be seen
        return {"unexpected": f"{type(error).__name__}: {error}\n{traceback.format_exc()}"}, None


def _described(volume: Volume) -> dict[str, Any]:
    """Say all of a volume but its voxels."""
    image = volume.image
    return {
        "header": asdict(replace(volume.header, source=None)),
        "grid": asdict(VoxelGrid.of(image)),
        "metadata": {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()},
        "voxel_type": sitk.GetArrayViewFromImage(image).dtype.str,
    }


def _send(answers: BinaryIO, answer: dict[str, Any], image: sitk.Image | None = None) -> None:
    """Write a line, in ASCII so that a name that is no text passes too, and the voxels of an image behind it."""
    try:
        answers.write(json.dumps(answer).encode("ascii") + b"\n")
        if image is not None:
            answers.write(sitk.GetArrayViewFromImage(image).data.cast("B"))
        answers.flush()
    except OSError:  # the reader of this pipe is gone
        os._exit(0)


if __name__ == "__main__":
    main()
