"""brainchop's 18-class MeshNet on one head, as brainchop runs it; `brain.py meshnet` measures it.

Prepared as by brainchop's command (`-conform`, then minimum to maximum) and page (niivue's `conform`), which both do
what FreeSurfer's `mri_convert --conform` does: 256 x 256 x 256 voxels of 1 mm, axes L, I, A, grey values from the
minimum to that which .1 % of the voxels above 0 exceed as integers from 0 to 255. Afterwards only the largest connected
foreground is kept (26 neighbours). The command runs all 256 cubed voxels at once (`whole`), the page the box of what is
above .2 (`cut`), which shows the network a border of zeros that it was not trained with.

**Less memory, same numbers.** A voxel sees 46 voxels each way. Each layer is computed only where a later one reads it
(the region asked for, and what its remaining layers reach), and padded with zeros only at the border of the volume,
where the whole network pads, too.
"""

import json
import sys

import numpy as np
import SimpleITK as sitk
import torch
from placement import DATA, ROOT
from scipy.ndimage import label
from torch.nn import functional

from SegWithUCore.network.backbones.meshnet import MeshNet

FOLDER = DATA / "meshnet" / "model30chan18cls"
SIZE, LIA = 256, (1.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, -1.0, 0.0)
BINS, BRIGHTEST = 1000, 0.001
"""Of the histogram, and share of voxels above 0 that are brighter than 255, in FreeSurfer's `conform`."""
ABOVE = 0.2
"""Grey value (0 to 1) that the page's box is drawn round."""
PLANES = 16
"""Computed together: more take more memory."""
MARGIN = 4
"""Voxels round the head that are segmented, too."""
VALUES = {"Unknown": 0, "Cerebral-White-Matter": 2, "Cerebral-Cortex": 3, "Lateral-Ventricle": 4,
          "Inferior-Lateral-Ventricle": 4, "Cerebellum-White-Matter": 7, "Cerebellum-Cortex": 8, "Thalamus": 10,
          "Caudate": 11, "Putamen": 12, "Pallidum": 13, "3rd-Ventricle": 14, "4th-Ventricle": 15, "Brain-Stem": 16,
          "Hippocampus": 17, "Amygdala": 18, "Accumbens-area": 26, "VentralDC": 28}  # fmt: skip
"""Value of each class with sides merged, as the recipe's left one."""


def read_meshnet() -> MeshNet:
    """Read the network."""
    sys.path.insert(0, str(ROOT / "examples" / "brainchop"))
    from convert import read_tfjs_meshnet

    arguments, state = read_tfjs_meshnet(FOLDER / "model.json")
    network = MeshNet(**arguments)
    network.load_state_dict(state)
    return network.eval()


def class_values() -> np.ndarray:
    """Return the value of each class of the network."""
    names = json.loads((FOLDER / "colormap.json").read_text(encoding="utf-8"))["labels"]
    return np.array([VALUES[name] for name in names], np.uint8)


def conformed(image: sitk.Image) -> sitk.Image:
    """Conform an image as FreeSurfer does; float32 holding integers from 0 to 255."""
    grey = sitk.GetArrayViewFromImage(image).astype(np.float64)
    low, high = float(grey.min()), float(grey.max())
    counts, edges = np.histogram(grey, BINS, (low, high))
    below = np.concatenate([[0], np.cumsum(counts)])
    first = np.flatnonzero(below >= grey.size - int(BRIGHTEST * np.count_nonzero(grey)))[0]
    scale = 255 / (edges[first - 2] - low)
    middle = image.TransformContinuousIndexToPhysicalPoint([size / 2 for size in image.GetSize()])
    origin = np.array(middle) - np.reshape(LIA, (3, 3)) @ np.full(3, SIZE / 2)
    grid = (origin.tolist(), [1.0] * 3, LIA, low, sitk.sitkFloat32)
    moved = sitk.Resample(image, [SIZE] * 3, sitk.Transform(), sitk.sitkLinear, *grid)
    return sitk.Round(sitk.Clamp((moved - low) * scale, sitk.sitkFloat32, 0, 255))


def classes_in(network: MeshNet, image: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the classes that the network finds in a region of a volume, as if it had run on all of it.

    Args:
        image: float32 (z, y, x).
        low, high: first voxel of the region, and the one after its last.
    """
    convolutions = [block.conv for block in network.layers]
    radii = [conv.dilation[0] * (conv.kernel_size[0] // 2) for conv in convolutions]
    size, reach = np.array(image.shape), sum(radii)
    start, stop = np.maximum(low - reach, 0), np.minimum(high + reach, size)
    part = torch.from_numpy(image[tuple(slice(*ends) for ends in zip(start, stop, strict=True))].copy())[None]
    for block, radius in zip(network.layers, radii, strict=True):
        reach -= radius
        begin, end = np.maximum(low - reach, 0), np.minimum(high + reach, size)
        before, after = start - (begin - radius), (end + radius) - stop  # beyond the border of the volume
        part = _layer(block, part, before.tolist(), after.tolist(), is_last=block is network.layers[-1])
        start, stop = begin, end
    return part[0].numpy()


@torch.no_grad()
def _layer(block: torch.nn.Module, part: torch.Tensor, before: list, after: list, is_last: bool) -> torch.Tensor:
    """Run a layer on (channels, z, y, x), `PLANES` planes at a time; of the last one return the most probable class."""
    conv = block.conv
    reach = conv.dilation[0] * (conv.kernel_size[0] - 1)
    depth, (first, *_) = part.shape[1], before
    planes = depth + first + after[0] - reach
    found: torch.Tensor | None = None
    for at in range(0, planes, PLANES):
        until = min(at + PLANES, planes)
        ends = (at - first, until + reach - first)
        pads = [before[2], after[2], before[1], after[1], max(0, -ends[0]), max(0, ends[1] - depth)]
        slab = functional.pad(part[:, max(0, ends[0]) : min(depth, ends[1])], pads)
        slab = functional.conv3d(slab[None], conv.weight, conv.bias, dilation=conv.dilation)
        made = slab.argmax(1).to(torch.uint8) if is_last else block.activation(slab)[0]
        if found is None:
            found = made.new_empty((made.shape[0], planes, *made.shape[2:]))
        found[:, at:until] = made
    assert found is not None
    return found


def segmented(network: MeshNet, image: sitk.Image, is_cut: bool = False) -> sitk.Image:
    """Segment a head on the conformed grid; values are those of `VALUES`.

    Args:
        is_cut: as brainchop's page does, in the box of what is bright.
    """
    head = conformed(image)
    grey = sitk.GetArrayFromImage(head)
    grey = (grey - grey.min()) / np.float32(grey.max() - grey.min())
    places = np.argwhere(grey > (ABOVE if is_cut else 0))
    low, high = places.min(0), places.max(0) + 1
    if not is_cut:
        low, high = np.maximum(low - MARGIN, 0), np.minimum(high + MARGIN, SIZE)
    box = tuple(slice(*ends) for ends in zip(low, high, strict=True))
    classes = classes_in(network, grey[box], 0 * low, high - low) if is_cut else classes_in(network, grey, low, high)
    values = np.zeros(grey.shape, np.uint8)
    values[box] = class_values()[largest(classes)]
    drawn = sitk.GetImageFromArray(values)
    drawn.CopyInformation(head)
    return drawn


def largest(classes: np.ndarray) -> np.ndarray:
    """Keep the largest connected foreground."""
    parts, count = label(classes > 0, np.ones((3, 3, 3)))
    if not count:
        return classes
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.where(parts == sizes.argmax(), classes, 0)
