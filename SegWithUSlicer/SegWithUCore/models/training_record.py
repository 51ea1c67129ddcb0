"""How a model was trained: recipe, epochs, curves, and voxel hashes of the cases of each role, in its bundle.

The folder `training/` of a bundle holds `record.json` (this file's format), the logs as tables and the curves as
pictures. A bundle without it says nothing about its training, and nothing is assumed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..util.atomic_files import write_text
from ..util.errors import wrong_values_named
from ..util.input_files import is_there
from ..util.strict_json import read_json_object, to_json, typed

TRAINING_FOLDER, RECORD_FILE = "training", "record.json"
VERSION = 1
MAXIMUM_BYTES = 16 << 20
"""Of a record: 70 bytes a case."""
ROLE_WORDS = {
    "train": "a training case",
    "select": "a validation case (select)",
    "calibration": "a calibration case",
    "test": "a test case",
}


@dataclass(frozen=True)
class TrainingRecord:
    """What is known of a model's training.

    Attributes:
        recipe: as the run had it, defaults filled in; None if the model was not trained here.
        trainings: of each part, in order: `part`, `epochs` made, of `planned`, `best_epoch` (counted from 1) and its
            validation scores.
        roles: SHA-256 of the voxels of each case, by role; None where they were left out.
        remarks: sentences for the model card, such as that cases were seen before.
    """

    recipe: Mapping[str, Any] | None = None
    trainings: tuple[Mapping[str, Any], ...] = ()
    roles: Mapping[str, Sequence[str]] | None = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def with_role(self, role: str, hashes: Sequence[str], remarks: Sequence[str] = ()) -> "TrainingRecord":
        """Return the record with the cases of a role, in place of earlier ones.

        Args:
            hashes: None where hashes are to be left out.
            remarks: further sentences.
        """
        roles = None if self.roles is None else {**self.roles, role: sorted(hashes)}
        return replace(self, roles=roles, remarks=(*self.remarks, *(r for r in remarks if r not in self.remarks)))

    def to_json(self) -> dict[str, Any]:
        """Return the content of `record.json`."""
        data = asdict(self)
        return {"format_version": VERSION, "voxels_sha256": data.pop("roles"), **data}


def read_record(bundle: Path | None) -> TrainingRecord | None:
    """Read the record of a bundle; None if it has none.

    Raises:
        InputError: it is damaged.
    """
    path = None if bundle is None else bundle / TRAINING_FOLDER / RECORD_FILE
    if path is None or not is_there(path):
        return None
    wanted = "restore the model from its source"
    data = read_json_object(path, wanted, MAXIMUM_BYTES)
    with wrong_values_named(path, wanted):
        return typed(TrainingRecord, {**data, "roles": data["voxels_sha256"]})


def write_record(bundle: Path, record: TrainingRecord) -> None:
    """Write the record of a bundle."""
    write_text(bundle / TRAINING_FOLDER / RECORD_FILE, to_json(record.to_json()) + "\n")
