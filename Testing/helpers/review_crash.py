"""A Slicer that dies in mid-review: loads a scene, judges, draws, and is gone without any goodbye.

Run by `test_module_review_resume`; prints the folder of the settings, where the review was kept, the region where it
stopped, and a checksum of the labels that were drawn.
"""

from __future__ import annotations

import os
import sys
import zlib
from pathlib import Path

import numpy as np
from opened_module import MODULE, Opened
from reviewing import Reviewing
from SlicerHost.host import SlicerHost


def labels_checksum(reviewing: Reviewing) -> int:
    """Of the label of every voxel: an edit may move voxels between structures, which no count of voxels tells."""
    from SegWithUSlicerLib.review.edits import read_labels

    return zlib.crc32(read_labels(reviewing.nodes).tobytes())


def main() -> None:
    """review_crash.py SCENE"""
    with SlicerHost(MODULE) as host:
        host.load_scene(Path(sys.argv[1]))
        reviewing = Reviewing(Opened(host))
        reviewing.start("Ana")
        for verdict in ("accepted", "rejected", "second"):
            reviewing.judge(verdict)
        reviewing.press("Ctrl+Alt+E")
        editor = reviewing.panel.edit.editor
        editor.setActiveEffectByName("Paint")
        found = reviewing.mask
        image = reviewing.nodes.inputs[0].GetImageData()
        stroke = np.zeros(image.GetDimensions()[::-1], bool)
        box = tuple(slice(at, at + size) for at, size in zip(found.offset_ijk[::-1], found.mask.shape, strict=True))
        stroke[box] = found.mask
        host.paint(editor, stroke)
        host.wait(lambda: any(reviewing.folder().glob("*/segmentation_reviewed.Ana.seg.nrrd")))
        reviewing.ui.commentEdit.text = "half written"
        print(f"{reviewing.folder()}\n{reviewing.session.current.id}\n{labels_checksum(reviewing)}", flush=True)
        os._exit(3)


if __name__ == "__main__":
    main()
