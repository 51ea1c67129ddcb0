"""Cases as single HTML files that open offline from a mail, with an index: anonymous, and cut to what matters."""

import base64
import gzip
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..case.case_file import read_description
from ..export.anonymous import anonymous_copy
from ..export.case_export import image_file_of
from ..export.formats import FACE, Exported, ExportSettings, ExportWriter
from ..io.roi import VoxelBox, whole_grid
from ..report.render import render
from ..review.columns import Table, columns_of
from ..review.worklist import counts_text, make_worklist
from ..util.errors import InputError, UsageError
from .case_page import PageCase
from .case_store import settings_json
from .case_volumes import CaseVolumes, read_volumes
from .static_files import FOLDER, PAGE, STYLE, joined_script

# Margin of the image around the assessed part.
AROUND_MM = 20.0
INDEX = "index.html"
ID = "file"
_STYLE_LINK = '<link rel="stylesheet" href="style.css">'
_SCRIPT_LINK = '<script type="module" src="main.js"></script>'
_CHARSET = '<meta charset="utf-8">'
_END = "</body>"


class PageExport(ExportWriter):
    """A page for each case and an index, all of them anonymous."""

    def __init__(self, work: Path, output: Path, settings: ExportSettings, found: Exported) -> None:
        """Begin the pages.

        Raises:
            UsageError: whether an image may leave the house must be said before it is written.
        """
        super().__init__(work, output, settings, found)
        self._with_image = bool(settings.options.get("with_image"))
        if self._with_image == bool(settings.options.get("without_image")):
            raise UsageError(f"--page needs --with-image ({FACE}) or --without-image.", "contradicting-options")
        if self._with_image:
            found.notes += [f"The pages contain the image: {FACE}. Names, dates, identifiers and paths are left out."]

    def add(self, name: str, folder: Path) -> None:
        """Write the page of a case; its copy without names stays until the index is made."""
        image = image_file_of(folder, self.settings) if self._with_image else None
        anonymous_copy(folder, self.work / name, name, image, self._with_image)
        page = case_page(self.work / name, self._with_image)
        (self.work / f"{name}.html").write_text(page, encoding="utf-8")

    def finish(self) -> None:
        """Write the index."""
        copies = [self.work / name for name in self.found.names]
        (self.work / INDEX).write_text(_index(copies, self._with_image), encoding="utf-8")
        for copy in copies:
            shutil.rmtree(copy)


def case_page(folder: Path, with_image: bool) -> str:
    """Make the page of a case.

    Args:
        folder: of the case, without names.

    Raises:
        InputError: it is damaged.
    """
    volumes = read_volumes(folder, read_description(folder), with_image=with_image)
    crop = around(volumes)
    if volumes.image is not None:
        volumes.image = replace(volumes.image, volume=volumes.image.volume.crop(crop))
    case = PageCase(volumes, crop)
    if case.regions_trouble:
        raise InputError(f"{folder}: {case.regions_trouble}")
    shown = {"labels": volumes.labels, **{name: volumes.map(name) for name in volumes.description.maps}}
    if volumes.image is not None:
        shown["image"] = volumes.image.volume
    parts: dict[str, Any] = {name: volume.data for name, volume in shown.items()}
    parts["masks"] = case.masks.data
    return joined_page(
        {
            "case": case.to_json(ID),
            "worklist": {**settings_json(), "title": case.volumes.description.name, "cases": []},
            "volumes": {name: _packed(data) for name, data in parts.items()},
        }
    )


def around(volumes: CaseVolumes) -> VoxelBox:
    """Return the box of what was assessed and `AROUND_MM` around it, within the grid."""
    box, grid = volumes.assessed, volumes.grid
    margin = np.ceil(AROUND_MM / np.array(grid.spacing)).astype(int)
    wide = VoxelBox.between(np.subtract(box.index, margin), np.add(box.index, box.size) + margin)
    return wide.shared_with(whole_grid(grid))


def joined_page(data: Mapping[str, Any]) -> str:
    """Join page, style, scripts and data into one HTML file that may load nothing, and run no other script.

    Raises:
        ValueError: the page is not as it should be; the page's tests find it.
    """
    page = (FOLDER / PAGE).read_text(encoding="utf-8")
    for part in (_CHARSET, _STYLE_LINK, _SCRIPT_LINK, _END):
        if page.count(part) != 1:
            raise ValueError(f"{PAGE} has {page.count(part)} times {part}")
    style, script = (FOLDER / STYLE).read_text(encoding="utf-8"), joined_script()
    if "</script" in script.lower() or "<!--" in script or "</style" in style.lower():
        raise ValueError("a script or the style holds what would end it")
    policy = (
        f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; img-src data: blob:; "
        "connect-src 'none'; base-uri 'none'; form-action 'none'"
    )
    meta = f'{_CHARSET}\n<meta http-equiv="Content-Security-Policy" content="{policy}">'
    page = page.replace(_CHARSET, meta).replace(_STYLE_LINK, f"<style>{style}</style>").replace(_SCRIPT_LINK, "")
    embedded = f'<script type="application/json" id="segwithu-data">{_embedded(data)}</script>\n'
    return page.replace(_END, f"{embedded}<script>{script}</script>\n{_END}")


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _embedded(data: Mapping[str, Any]) -> str:
    """Write JSON that ends no script, whatever a name in it holds."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _packed(data: bytes | memoryview) -> str:
    return base64.b64encode(gzip.compress(data, 6, mtime=0)).decode()


def _index(copies: Sequence[Path], with_image: bool) -> str:
    """List the pages, worst first."""
    worklist = make_worklist(list(copies))
    return render(
        "pages.html",
        title="Cases to review",
        heading="Cases to review",
        columns=columns_of(Table.INDEX, worklist.entries),
        entries=worklist.entries,
        lead=[f"{counts_text(worklist.entries)}.", worklist.order],
        alerts=worklist.warnings,
        with_image=with_image,
    )
