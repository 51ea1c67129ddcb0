"""The scene as one .mrb file, whole or not at all."""

import shutil
import tempfile
from pathlib import Path

import slicer

from SegWithUCore.atomic_files import TEMPORARY_PREFIX
from SegWithUCore.errors import OutputError

from .i18n import _


def save_bundle(target: Path) -> Path:
    """Save the scene; an earlier file is replaced only by a whole one.

    Raises:
        OutputError: the place cannot be written to, or the disk is full.
    """
    failed = _("Cannot write {path}: free some space or choose another place.").format(path=target)
    scene = slicer.mrmlScene
    try:
        work = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=target.parent))
    except OSError as error:
        raise OutputError(failed) from error
    place = scene.GetURL(), scene.GetRootDirectory()
    try:
        # Under its own name in a folder beside: Slicer names the folder inside the bundle after the file.
        made = work / target.name
        if not slicer.util.saveScene(str(made)) or not made.is_file() or not made.stat().st_size:
            raise OutputError(failed)
        made.replace(target)
        place = str(target), str(target.parent)
    except OSError as error:
        raise OutputError(failed) from error
    finally:
        # Slicer remembers where it saved and offers that place again.
        scene.SetURL(place[0] or "")
        scene.SetRootDirectory(place[1] or "")
        shutil.rmtree(work, ignore_errors=True)
    return target
