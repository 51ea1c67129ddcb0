"""A colleague's Slicer without torch: `python slicer_without_torch.py WORKLIST REVIEWER`.

Torch and its kin cannot be imported. Opens the worklist by its button, opens every case by a click, gives verdicts on
its first regions, and prints what it saw as JSON. Run by the tests of the section "Cases".
"""

from __future__ import annotations

import importlib.abc
import json
import sys
from pathlib import Path
from typing import Any

ABSENT = {"torch", "monai", "safetensors", "requests", "jsonschema"}


class NoTorch(importlib.abc.MetaPathFinder):
    """Refuses what a Slicer without the PyTorch extension lacks."""

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> None:
        """Refuse; None lets the others look."""
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)


def main(worklist: Path, reviewer: str) -> None:
    """See the file's own words."""
    sys.meta_path.insert(0, NoTorch())
    from listed_cases import Listing
    from opened_module import MODULE, Opened
    from SlicerHost.host import SlicerHost

    seen = {}
    with SlicerHost(MODULE) as host:
        listing = Listing(Opened(host), worklist.parent)
        listing.ui.reviewerEdit.text = reviewer
        listing.list_file(worklist)
        for name in listing.shown:
            listing.click(name)
            if listing.reviewing.session is None:
                listing.reviewing.start(reviewer)
            for verdict in ("corrected", "accepted", "rejected"):
                listing.reviewing.judge(verdict)
            listing.settled()
            seen[name] = {"status": listing.status(name), "images": listing.volumes(), "open": listing.open_case}
        listing.reviewing.panel.end()
        worker = listing.opened.worker.state.value
    print(json.dumps({"cases": seen, "worker": worker, "loaded": sorted(ABSENT & set(sys.modules))}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
