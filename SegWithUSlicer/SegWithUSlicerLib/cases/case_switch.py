"""Load a case folder into the scene, and remove it again if nothing would be lost.

A case is only removed from the scene if all of it is on disk; what is not stays, and is reported.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer

from SegWithUCore.util.errors import InputError

from ..i18n import _
from ..review import store
from ..scene.case_images import Volume, ijk_to_ras, image_from, make_right_handed
from ..scene.case_nodes import CaseNodes, find_cases, remove_node
from ..scene.load_case import load_case, remove_folder
from ..scene.steps import pause
from .moved_images import ImageMissingError, MovedImages

if TYPE_CHECKING:
    import SimpleITK as sitk

IMAGE_ATTRIBUTE = "SegWithU.CaseImage"
"""On volumes that were loaded together with a case, and go with it."""


def find_images(
    folder: Path, raw: Mapping[str, Any], moved: MovedImages, first: "sitk.Image | None" = None
) -> tuple[dict[str, "sitk.Image"], list[str]]:
    """Read the images of a case, known by their voxels.

    Args:
        raw: the content of `case.json`.
        first: that of the first channel, where it was read already.

    Returns:
        The image of each channel by its name, in the model's order, and a message for each further channel that is
        missing.

    Raises:
        ImageMissingError: the first is nowhere where it could be.
        InputError: `case.json` does not name its images.
    """
    image = moved.image(folder, raw) if first is None else first
    recorded = raw["input"]["channels"]
    channels, notes = {str(recorded[0].get("name") or _("image")): image}, []
    for number, channel in enumerate(recorded[1:], 1):
        try:
            channels[str(channel.get("name") or number)] = moved.image(folder, raw, number)
        except ImageMissingError as error:
            notes.append(_("Shown without {channel}: {reason}").format(channel=channel.get("name"), reason=error))
    return channels, notes


def put_case(folder: Path, name: str, images: Mapping[str, "sitk.Image"] | None) -> CaseNodes:
    """Load a case folder into Slicer's scene, with its images; after an error the scene is as it was.

    Args:
        name: of the case; what the nodes are named after.
        images: of each channel, as `find_images` gives them; None shows the case without its image.

    Raises:
        InputError: the folder is damaged or does not fit the image.
    """
    if images is None:
        return load_case(folder, None, lasting=True)
    volumes = []
    try:
        for number, (channel, image) in enumerate(images.items()):
            volumes.append(_put_volume(image, name if number == 0 else f"{name} {channel}"))
            pause()
        return load_case(folder, volumes[0], volumes[1:], lasting=True)
    except BaseException:
        for volume in volumes:
            remove_node(volume)
        raise


def unkept_work(nodes: CaseNodes, root: Path) -> str:
    """Return why a case must stay in the scene; "" if everything about it is on disk.

    Args:
        root: the folder of Slicer's user settings.
    """
    folder = nodes.case_folder
    logs, text = store.review_folder(nodes, root), ""
    if folder is None or not store.is_same_case(folder, nodes):
        text = _("{case} stays in the scene: the folder that it was loaded from does not hold it any more.")
    elif not all(_holds(logs / name, store.kept_log(nodes, name)) for name in store.kept_log_names(nodes)):
        text = _("{case} stays in the scene: lines of its review are not on the disk. Save the scene.")
    elif store.has_unkept_edits(nodes, logs, store.reviewed_by(nodes)):
        text = _("{case} stays in the scene: its edited segmentation is not on the disk. Start its review, or save it.")
    return text.format(case=nodes.label)


def remove_case(nodes: CaseNodes, with_images: bool = True) -> None:
    """Take a case, and the images that were loaded with it, out of the scene.

    Volumes that the user loaded, and images that another run was made from, stay.

    Args:
        with_images: False leaves the images: something works on them.
    """
    scene = nodes.hub.GetScene()
    others = [other for other in find_cases(scene) if other.hub is not nodes.hub]
    used = {volume.GetID() for other in others for volume in other.inputs}
    images = [node for node in nodes.inputs if node.GetAttribute(IMAGE_ATTRIBUTE) and node.GetID() not in used]
    remove_folder(nodes)
    parts = [*nodes.spatial, nodes.regions_text, *store.log_nodes(nodes), nodes.hub]
    for part in [*parts, *(images if with_images else [])]:
        if part is not None:
            remove_node(part)
            pause()


def find_open(folder: Path) -> CaseNodes | None:
    """Find the case of a folder, if it is in the scene and the folder still holds the same run."""
    found = [nodes for nodes in open_cases() if nodes.case_folder == folder.absolute()]
    return next((nodes for nodes in reversed(found) if store.is_same_case(folder, nodes)), None)


def open_cases() -> list[CaseNodes]:
    """List the cases in the scene that were loaded from a permanent folder."""
    return [nodes for nodes in find_cases(slicer.mrmlScene) if nodes.case_folder is not None]


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_bytes().startswith(text.encode())
    except OSError:
        return False


def _put_volume(image: "sitk.Image", name: str) -> "slicer.vtkMRMLScalarVolumeNode":
    """Make a volume of an image, voxel by voxel, on its own grid, right-handed."""
    import SimpleITK

    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(_("The image of {name} is no volume with one value a voxel.").format(name=name))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    node.SetAttribute(IMAGE_ATTRIBUTE, "1")
    pause()
    matrix = ijk_to_ras(image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    volume = Volume(image_from(SimpleITK.GetArrayViewFromImage(image)), matrix)
    make_right_handed(volume)
    node.SetIJKToRASMatrix(volume.ijk_to_ras)
    node.SetAndObserveImageData(volume.image)
    node.CreateDefaultDisplayNodes()
    return node
