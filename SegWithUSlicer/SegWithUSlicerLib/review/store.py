"""Where a review is stored: in the case folder or the user's own folder, with a copy in the scene.

Files are in the case folder if the run was loaded from a permanent one; else in a folder of the user's own, named by
a key made from hashes: the same image, model, region of interest and regions find their review again, and the name
does not reveal the patient. The scene carries a copy of each reviewer's log, so that an .mrb is complete by itself.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import slicer

from SegWithUCore.case.case_file import read_case
from SegWithUCore.review.reviewer import version_path
from SegWithUCore.review.reviews import Elsewhere
from SegWithUCore.review.session import case_key
from SegWithUCore.util.atomic_files import atomic_file
from SegWithUCore.util.errors import InputError, OutputError
from SegWithUCore.util.strict_json import parse_json

from ..i18n import _
from ..scene.case_nodes import CaseNodes, add_hidden_node
from ..scene.review_nodes import regions_hash
from ..scene.segmentation import CONTENT_ATTRIBUTE, content_hash, is_whole_nrrd, segment_id

REVIEWS_FOLDER = Path("SegWithU") / "Reviews"
LOG_ATTRIBUTE = "SegWithU.ReviewLog"
_LOG_ROLE = "segwithu.review_log"
_REVIEWED_BY = "reviewed_by"


def review_folder(nodes: CaseNodes, root: Path) -> Path:
    """Return the folder of a run's logs and of its reviewed segmentation; the first writer makes it.

    Args:
        root: the folder of Slicer's user settings.
    """
    folder = nodes.case_folder
    if folder is not None and os.access(folder, os.W_OK) and is_same_case(folder, nodes):
        return folder
    return root / REVIEWS_FOLDER / case_key(nodes.case.raw, regions_hash(nodes))


def review_folder_elsewhere(root: Path) -> Elsewhere:
    """Return a finder of the reviews of a case whose own folder cannot be written to.

    Args:
        root: the folder of Slicer's user settings.
    """

    def locate(folder: Path, case: Mapping[str, Any], regions_sha256: str) -> Path | None:
        if os.access(folder, os.W_OK):
            return None
        return root / REVIEWS_FOLDER / case_key(case, regions_sha256)

    return locate


def keep_log(nodes: CaseNodes, file_name: str, text: str) -> None:
    """Keep the text of one reviewer's log with the scene, in place of an earlier copy.

    Args:
        file_name: of the reviewer's log.
    """
    node = _named_logs(nodes).get(file_name)
    if node is None:
        title = _("{input} {file}").format(input=nodes.label, file=file_name)
        node = add_hidden_node(nodes.hub.GetScene(), "vtkMRMLTextNode", title)
        node.SetAttribute(LOG_ATTRIBUTE, json.dumps(file_name))
        # A file of its own in the scene: the log grows, and what is in the scene's XML is read at once.
        node.SetForceCreateStorageNode(slicer.vtkMRMLTextNode.CreateStorageNodeAlways)
        nodes.hub.AddNodeReferenceID(_LOG_ROLE, node.GetID())
    node.SetText(text)


def kept_log(nodes: CaseNodes, file_name: str) -> str:
    """Return the scene's copy of a log; "" if there is none."""
    node = _named_logs(nodes).get(file_name)
    # Slicer's text file may have gone through Windows.
    return "" if node is None else (node.GetText() or "").replace("\r\n", "\n")


def kept_log_names(nodes: CaseNodes) -> list[str]:
    """List the file names of the logs that the scene carries."""
    return sorted(_named_logs(nodes))


def reviewed_by(nodes: CaseNodes) -> str:
    """Return the log name of the reviewer whose edits the scene's segmentation holds; "" if there is none yet."""
    return nodes.hub.GetParameter(_REVIEWED_BY) or ""


def set_reviewed_by(nodes: CaseNodes, log_name: str) -> None:
    """Remember whose edits the scene's segmentation holds."""
    nodes.hub.SetParameter(_REVIEWED_BY, log_name)


def save_reviewed(nodes: CaseNodes, folder: Path, log_name: str) -> Path:
    """Write the segmentation as it is now as a reviewer's version, completely or not at all.

    By Slicer's own writer, which keeps everything that Slicer knows about segments: status, codes, layers, segments of
    the reviewer's own.

    Raises:
        OutputError: the segmentation was deleted, or the file on the disk is incomplete.
    """
    from SegWithUCore.case.segmentation_file import mark_image  # slow to import: SimpleITK

    target = version_path(folder, log_name)
    if nodes.segmentation is None:
        raise OutputError(_("Cannot write {path}: the segmentation was deleted.").format(path=target))
    with atomic_file(target) as work:
        storage = slicer.vtkMRMLSegmentationStorageNode()
        storage.SetFileName(str(work))
        written = storage.WriteData(nodes.segmentation)
        # Checked, because a full disk is not always reported.
        if not written or not is_whole_nrrd(work):
            raise OutputError(_("Cannot write {path}: free some space or choose another place.").format(path=target))
        channels = (nodes.case.raw.get("input") or {}).get("channels") or [{}]
        mark_image(work, str(channels[0].get("voxels_sha256") or ""))  # a damaged scene must not lose the edits
    return target


def has_unkept_edits(nodes: CaseNodes, folder: Path, log_name: str) -> bool:
    """Check whether the scene's segmentation differs from the model's and from what a reviewer's file holds.

    Args:
        log_name: the file name of the reviewer's log; "" for edits that belong to no reviewer.
    """
    node = nodes.segmentation
    if node is None or node.GetAttribute(CONTENT_ATTRIBUTE) == content_hash(node):
        return False
    path = version_path(folder, log_name)
    return not (log_name and path.is_file() and content_hash(_read(path, nodes)) == content_hash(node))


def load_reviewed(nodes: CaseNodes, folder: Path, log_name: str) -> bool:
    """Put a reviewer's version into the run's segmentation; False if there is none, or nothing differs.

    Raises:
        InputError: the file is damaged, or was made at another place or on another image. The segmentation then stays
            as it was.
    """
    from SegWithUCore.case.segmentation_file import check_reviewed

    path, node = version_path(folder, log_name), nodes.segmentation
    if node is None or not path.is_file():
        return False
    reviewed = _read(path, nodes)
    if reviewed.GetSegmentation().GetNumberOfSegments() == 0:
        text = _("{path} cannot be read: remove it to begin from the model's result.")
        raise InputError(text.format(path=path), code="damaged-file")
    if content_hash(reviewed) == content_hash(node):
        return False
    check_reviewed(path, folder, nodes.case.raw)
    with slicer.util.NodeModify(node):
        node.GetSegmentation().DeepCopy(reviewed.GetSegmentation())
    return True


def is_same_case(folder: Path, nodes: CaseNodes) -> bool:
    """Check whether the folder holds the run in the scene: it may hold a newer one than the saved scene."""
    try:
        return read_case(folder).get("created") == nodes.case.raw.get("created")
    except InputError:
        return False


def log_nodes(nodes: CaseNodes) -> list["slicer.vtkMRMLTextNode"]:
    """Return the scene's copies of the logs."""
    return [node for node in nodes.all_in(_LOG_ROLE) if node.GetAttribute(LOG_ATTRIBUTE)]


def _named_logs(nodes: CaseNodes) -> dict[str, "slicer.vtkMRMLTextNode"]:
    return {parse_json(node.GetAttribute(LOG_ATTRIBUTE), node.GetName()): node for node in log_nodes(nodes)}


def _read(path: Path, nodes: CaseNodes) -> "slicer.vtkMRMLSegmentationNode":
    """Read a segmentation file into a node outside any scene; without segments if it cannot be read."""
    result = slicer.vtkMRMLSegmentationNode()
    if not is_whole_nrrd(path):
        return result
    # In a scene of its own while it is read: the reader makes a display node, and complains where it cannot.
    scene = slicer.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(path))
    if storage.ReadData(node):
        result.SetAndObserveSegmentation(_with_own_ids(node.GetSegmentation(), nodes))
    scene.Clear(True)
    return result


def _with_own_ids(found: "slicer.vtkSegmentation", nodes: CaseNodes) -> "slicer.vtkSegmentation":
    """Return a segmentation whose structures have our IDs, which `segwithu correct` and other programs do not write.

    They are known by their names, else by their label values, as in `read_reviewed`.
    """
    segments = {identifier: found.GetSegment(identifier) for identifier in found.GetSegmentIDs()}
    by_name = {structure.name: segment_id(structure.value) for structure in nodes.case.structures}
    by_value = {structure.value: segment_id(structure.value) for structure in nodes.case.structures}
    has_names = any(segment.GetName() in by_name for segment in segments.values())
    result = slicer.vtkSegmentation()
    result.SetSourceRepresentationName(found.GetSourceRepresentationName())
    for identifier, segment in segments.items():
        own = by_name.get(segment.GetName()) if has_names else by_value.get(segment.GetLabelValue())
        is_free = own is not None and own not in segments and result.GetSegment(own) is None
        result.AddSegment(segment, own if is_free else identifier)
    return result
