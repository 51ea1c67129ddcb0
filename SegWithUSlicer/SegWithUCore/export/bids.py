"""Export cases as BIDS derivatives: segmentation, its table of labels, the error probability, and what made them.

A case that was segmented from an image in BIDS naming keeps its subject and session.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..case.case_file import SEGMENTATION_FILE, naming_case, read_case
from ..case.case_files import case_volume
from ..case.case_regions import ERROR_PROBABILITY_FILE
from ..case.segmentation_file import read_reviewed
from ..case.structures_table import COLUMNS, structure_rows
from ..io.grid import VoxelGrid
from ..models.input_spec import Label
from ..review.reviewed_case import read_shown_case
from ..review.reviewer import log_path, version_path
from ..util.errors import InputError
from ..util.strict_json import to_json
from ..version import __version__
from .anonymous import anonymous_facts, strip_metadata, write_volume
from .formats import ExportWriter

BIDS_VERSION = "1.10.0"
_NAME = re.compile(r"(sub-[a-zA-Z0-9]+)(_ses-[a-zA-Z0-9]+)?((?:_[a-z]+-[a-zA-Z0-9]+)*)(?:_[a-zA-Z0-9]+)?")
# Entities of an image that its segmentations may have, too.
_KEPT = re.compile("_(?:acq|ce|rec|run)-[a-zA-Z0-9]+")
_README = "Segmentations by SegWithU and the probability that they are wrong, for research, not for clinical use.\n"


class BidsExport(ExportWriter):
    """Derivatives: one subject per case, or as the case's name says."""

    def add(self, name: str, folder: Path) -> None:
        """Write the files of one case.

        Raises:
            InputError: a volume is missing, damaged or not the case's own, or the subject has these files already.
        """
        with naming_case(folder):
            case = read_case(folder)
            place, stem = bids_name(name if self.settings.anonymous else str(case["name"]))
            origin = "Made elsewhere, judged by the model" if case.get("judged") else "Made by the model"
            image = case_volume(folder, case, SEGMENTATION_FILE, labels=True)
            made = {"segwithu": (image, origin, case)}
            shown = case if self.settings.anonymous else read_shown_case(folder)  # anonymous: without reviews
            if (reviewer := shown.get("reviewed_by")) is not None:
                version, grid = version_path(folder, log_path(folder, reviewer).name), VoxelGrid.of(image)
                drawn = grid.image(read_reviewed(version, grid, case)[0]) if version.is_file() else image
                made["reviewed"] = (drawn, "Corrected or accepted by a reviewer", shown)
            # Nothing but figures, so that it names no path or person in any export.
            figures = {name: anonymous_facts(facts, stem, "") for name, (_, _, facts) in made.items()}
            volumes: dict[str, tuple[Any, Any]] = {
                f"{name}_dseg": (drawn, {"Description": what, "Case": figures[name]})
                for name, (drawn, what, _) in made.items()
            }
            if "error_probability" in case["maps"]:
                words = {
                    "Description": "Probability that the voxel's label in desc-segwithu_dseg is wrong; -1: not assessed"
                }
                volumes["error_probseg"] = (case_volume(folder, case, ERROR_PROBABILITY_FILE), words)
            target = self.work / place
            if (target / f"{stem}_desc-segwithu_dseg.nii.gz").exists():
                message = f"{folder} would be {stem}, as another case: export them into two folders, or rename one."
                raise InputError(message, "unusable-name")
            target.mkdir(parents=True, exist_ok=True)
            for kind, (image, words) in volumes.items():
                path = target / f"{stem}_desc-{kind}"
                write_volume(strip_metadata(image), path.with_name(f"{path.name}.nii.gz"))
                path.with_name(f"{path.name}.json").write_text(to_json(words), encoding="utf-8")
                if kind.endswith("dseg"):
                    path.with_name(f"{path.name}.tsv").write_text(_table(case), encoding="utf-8")
            for name, facts in figures.items():
                (target / f"{stem}_desc-{name}_volumes.tsv").write_text(_volumes(facts), encoding="utf-8")

    def finish(self) -> None:
        """Describe the data set."""
        made_by = {"DatasetType": "derivative", "GeneratedBy": [{"Name": "SegWithU", "Version": __version__}]}
        description = {"Name": self.output.name, "BIDSVersion": BIDS_VERSION, **made_by}
        (self.work / "dataset_description.json").write_text(to_json(description), encoding="utf-8")
        (self.work / "README.md").write_text(_README, encoding="utf-8")


def bids_name(name: str) -> tuple[Path, str]:
    """Return the folder of a case and the beginning of its files' names.

    Raises:
        InputError: nothing in the name may be part of a name in BIDS.
    """
    match = _NAME.fullmatch(name) or _NAME.fullmatch(f"sub-{re.sub('[^a-zA-Z0-9]', '', name)}")
    if match is None:
        raise InputError(f"The name {name} has no letters or digits that BIDS allows: rename it.", "unusable-name")
    subject, session, entities = match[1], match[2] or "", match[3]
    return Path(subject, session.removeprefix("_"), "anat"), subject + session + "".join(_KEPT.findall(entities))


def _volumes(case: Mapping[str, Any]) -> str:
    """Make the table of structures, totals and asymmetries; what is not known is n/a."""
    rows = [COLUMNS, *structure_rows(case)]
    return "".join("\t".join(" ".join(str(cell).split()) or "n/a" for cell in row) + "\n" for row in rows)


def _table(case: Mapping[str, Any]) -> str:
    """Make the table of labels."""
    rows = ["index\tname\tcolor"]
    for label in map(Label.from_json, case["structures"]):
        rows.append(f"{label.value}\t{' '.join(label.name.split())}\t#{bytes(label.color).hex()}")
    return "\n".join(rows) + "\n"
