"""A run of the shipped model, ready to be reviewed through the panel: segmented once for a test file, then loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from opened_module import Opened
from real_slicer import reviews_folder

VERDICT_KEYS = {"accepted": "Ctrl+Alt+1", "corrected": "Ctrl+Alt+2", "rejected": "Ctrl+Alt+3", "second": "Ctrl+Alt+4"}


class Reviewing:
    """What tests of a review click, press and ask."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self.app = opened.app
        self.ui = opened.ui

    @property
    def panel(self) -> Any:
        """The section."""
        return self.opened.panel.review

    @property
    def session(self) -> Any:
        """The review that is open."""
        return self.panel.session

    @property
    def nodes(self) -> Any:
        """The run."""
        return self.opened.nodes

    @property
    def state(self) -> Any:
        """What holds."""
        return self.session.state

    @property
    def ids(self) -> list[int]:
        """The regions in the order of the list."""
        return [region.id for region in self.session.regions]

    @property
    def mask(self) -> Any:
        """The voxels of the current region."""
        from SegWithUSlicerLib.scene.review_nodes import region_mask

        return region_mask(self.nodes, self.session.current.id)

    def voxels(self) -> np.ndarray:
        """The current region's voxels on the input's grid, (z, y, x)."""
        found = self.mask
        whole = np.zeros(slicer.util.arrayFromVolume(self.nodes.inputs[0]).shape, bool)
        box = tuple(slice(at, at + size) for at, size in zip(found.offset_ijk[::-1], found.mask.shape, strict=True))
        whole[box] = found.mask
        return whole

    def editor(self) -> Any:
        """Open "Edit here", unless it is open."""
        if self.ui.editButton.collapsed:
            self.press("Ctrl+Alt+E")
        editor = self.panel.edit.editor
        assert editor is not None and not self.ui.editButton.collapsed
        return editor

    def paint_region(self, erase: bool = False) -> Any:
        """Paint the current region's voxels into its structure, or erase them; the editor."""
        editor = self.editor()
        editor.setActiveEffectByName("Paint")
        self.app.paint(editor, self.voxels(), erase)
        return editor

    def name(self, reviewer: str) -> None:
        """Type a name."""
        self.ui.reviewerEdit.text = reviewer

    def start(self, reviewer: str = "Ana") -> None:
        """The click that begins or goes on."""
        self.name(reviewer)
        self.ui.startReviewButton.click()
        assert self.session is not None, self.ui.reviewNoteLabel.text

    def press(self, key: str, widget: Any = None) -> None:
        """A key, by default where the keyboard is."""
        self.app.press_key(key, widget)

    def judge(self, verdict: str = "accepted") -> None:
        """A verdict by keyboard."""
        self.press(VERDICT_KEYS[verdict])

    def cell(self, region_id: int, column: int = 1) -> str:
        """What the table says about a region, by default its verdict in words: the cell has the sign."""
        from SegWithUCore.review.verdicts import Verdict

        text = str(self.ui.regionsTable.item(self.ids.index(region_id), column).text())
        return {each.kind.sign: f"{each.kind.sign} {each.text}" for each in Verdict}.get(text, text)

    def row(self) -> int:
        """The selected row."""
        return int(self.ui.regionsTable.currentRow())

    def off_peak_mm(self) -> tuple[float, float]:
        """How far the crosshair and the slices are from the peak of the current region."""
        peak = np.array(self.session.current.peak_ras_mm)
        crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode").GetCrosshairRAS()
        planes = []
        for view in self.app.slice_views.values():
            matrix = vtk.vtkMatrix4x4()
            vtk.vtkMatrix4x4.Invert(view.node.GetSliceToRAS(), matrix)
            planes.append(abs(matrix.MultiplyPoint([*peak, 1.0])[2]))
        return float(np.linalg.norm(np.array(crosshair) - peak)), max(planes)

    def appearance(self) -> dict[str, Any]:
        """Layers, zoom (mm of a pixel: panels that grow make views smaller), window/level and layout of all views."""
        seen: dict[str, Any] = {}
        for name, view in self.app.slice_views.items():
            c = view.composite
            layers = (c.GetBackgroundVolumeID(), c.GetForegroundVolumeID(), c.GetLabelVolumeID())
            zoom = view.node.GetFieldOfView()[1] / view.node.GetDimensions()[1]
            seen[name] = (*layers, c.GetForegroundOpacity(), round(zoom, 4))
        for volume in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
            display = volume.GetDisplayNode()
            if display is not None and hasattr(display, "GetWindow"):
                seen[volume.GetID()] = (display.GetWindow(), display.GetLevel())
        layout = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
        seen["layout"] = layout.GetViewArrangement() if layout is not None else None
        return seen

    def show_pet(self) -> Any:
        """A volume of the user's own over the bare image, in all views."""
        image = self.nodes.inputs[0]
        pet = slicer.util.addVolumeFromArray(slicer.util.arrayFromVolume(image).copy(), name="PET")
        pet.CopyOrientation(image)
        self.ui.mapBox.currentIndex = self.ui.mapBox.count - 1
        slicer.util.setSliceViewerLayers(background=image, foreground=pet, foregroundOpacity=0.35, fit=True)
        return pet

    def folder(self) -> Path:
        """Where reviews of runs without a folder lie."""
        return reviews_folder()

    def log(self, reviewer: str = "Ana") -> list[dict[str, Any]]:
        """The lines of a reviewer's log."""
        (path,) = self.folder().glob(f"*/review.{reviewer}.jsonl")
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def told(self, event: str, reviewer: str = "Ana") -> list[dict[str, Any]]:
        """The lines of one kind."""
        return [line for line in self.log(reviewer) if line["event"] == event]
