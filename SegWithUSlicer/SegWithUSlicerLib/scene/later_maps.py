"""Maps of a large image that are loaded when they are chosen.

Where the case lies in a lasting folder, they are read from it, in a later session too. The files of a run in the
temporary folder are kept, apart from what is in the scene already, until the run goes, the scene is closed or Slicer
quits; a saved scene holds those maps that were loaded.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import slicer

from SegWithUCore.case.case_file import CASE_FILE, CaseDescription, read_description
from SegWithUCore.util.errors import InputError

from ..i18n import _
from .case_images import Volume
from .case_nodes import CaseNodes, find_cases
from .load_case import follow_parent_transform, put_in_folder
from .map_display import put_map
from .read_case import geometry_of, read_map_steps
from .steps import Steps, finish

_TOKEN = "files"


class Folder(Protocol):
    """A temporary folder that somebody must remove."""

    path: Path

    def remove(self) -> bool:
        """Remove it."""


_kept: dict[str, tuple[Folder, Path]] = {}
"""By a parameter of the run: the folder, and the case in it. A saved scene holds only the parameter."""


def keep_files(nodes: CaseNodes, folder: Folder, case_folder: Path) -> bool:
    """Take a temporary folder over if maps of the run are still to be read from it; False if it is not needed."""
    release(nodes)
    if not nodes.later:
        return False
    needed = {CASE_FILE, *(nodes.case.maps[name].file for name in nodes.later)}
    for path in sorted(folder.path.rglob("*"), reverse=True):
        if path.is_file() and not (path.parent == case_folder and path.name in needed):
            with contextlib.suppress(OSError):  # goes with the folder
                path.unlink()
    token = uuid4().hex
    nodes.hub.SetParameter(_TOKEN, token)
    _kept[token] = folder, case_folder
    return True


def release(nodes: CaseNodes) -> None:
    """Remove the files of a run that were kept."""
    kept = _kept.pop(nodes.hub.GetParameter(_TOKEN) or "", None)
    if kept is not None:
        kept[0].remove()


def release_gone(scene: "slicer.vtkMRMLScene | None") -> None:
    """Remove the files of runs that are not in the scene any more; of all runs without a scene."""
    if not _kept:
        return
    runs = [] if scene is None else find_cases(scene)
    there = {nodes.hub.GetParameter(_TOKEN) for nodes in runs}
    for token in [token for token in _kept if token not in there]:
        _kept.pop(token)[0].remove()


def source_folder(nodes: CaseNodes) -> Path | None:
    """Return the case folder that maps are read from; None if there is none, as in a scene from elsewhere."""
    kept = _kept.get(nodes.hub.GetParameter(_TOKEN) or "")
    return nodes.case_folder if kept is None else kept[1]


def loadable(nodes: CaseNodes) -> list[str]:
    """List the maps that are not loaded and can be."""
    folder = source_folder(nodes) if nodes.later else None
    if folder is None:
        return []
    return [name for name in nodes.later if (folder / nodes.case.maps[name].file).is_file()]


def load_map(nodes: CaseNodes, name: str) -> None:
    """Load a map that was put off; nothing happens where it is loaded already."""
    finish(load_map_steps(nodes, name))


def load_map_steps(nodes: CaseNodes, name: str) -> Steps[None]:
    """Do what `load_map` does in steps; the scene is touched in the last one.

    Raises:
        InputError: its file is gone or damaged, or is of another run by now.
    """
    if name in nodes.maps:
        return
    folder = source_folder(nodes)
    info = nodes.case.maps[name]
    if folder is None:
        raise InputError(_("The file of '{map}' is gone: segment the image again.").format(map=info.title))
    case: CaseDescription = read_description(folder)
    if case.raw.get("created") != nodes.case.raw.get("created"):
        text = _("{folder} holds another run by now, so its '{map}' is not shown: open the case again.")
        raise InputError(text.format(folder=folder, map=info.title))
    entry = yield from read_map_steps(folder / info.file, info, _reference(nodes))
    if nodes.hub.GetScene() is not None and name not in nodes.maps:
        put_map(nodes, entry)
        follow_parent_transform(nodes)
        put_in_folder(nodes)


def map_bytes(nodes: CaseNodes) -> float:
    """Return how much reading a map is, as the steps count it."""
    image = None if nodes.reference is None else _reference(nodes).image
    return 1.0 if image is None else 4.0 * image.GetNumberOfPoints()


def _reference(nodes: CaseNodes) -> Volume:
    """Return the grid of the run: of its input or, where that is gone, of a map that is loaded."""
    volumes: Sequence[slicer.vtkMRMLScalarVolumeNode] = [*nodes.inputs, *nodes.maps.values()]
    if not volumes:
        raise InputError(_("The image of this run is gone: load it and segment it again."))
    return geometry_of(volumes[0])
