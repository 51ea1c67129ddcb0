"""Write a registry of models, as an institution does by hand."""

import json
import shutil
from pathlib import Path
from typing import Any

from SegWithUCore.models.bundle import read_bundle
from SegWithUCore.models.bundle_files import describe_files
from SegWithUCore.models.model_entry import ModelEntry, allows_commercial_use
from SegWithUCore.models.model_name import folder_name


def entry_of(bundle_folder: Path) -> ModelEntry:
    """Describe a bundle for a registry."""
    bundle = read_bundle(bundle_folder)
    about = bundle.about
    licences = about["licence_weights"], about["licence_data"]
    return ModelEntry(
        name=bundle.name,
        version=about["version"],
        task=about["task"],
        licence_weights=licences[0],
        licence_data=licences[1],
        commercial_use=allows_commercial_use(licences),
        citation=about["citation"],
        files=describe_files(bundle_folder),
        modality=bundle.input.modality,
        channels=tuple(bundle.input.channels),
        structures=tuple(label.name for label in bundle.labels[1:]),
        calibrated=bundle.calibration is not None,
        folder=folder_name(bundle.name, about["version"]),
    )


def add_to_registry(bundle: Path, registry: Path, **changes: Any) -> None:
    """Copy a bundle to the registry in a folder and list it there, with other fields than the bundle's in `changes`."""
    entry, path = entry_of(bundle).to_json(), registry / "models.json"
    if not (registry / entry["folder"]).exists():
        shutil.copytree(bundle, registry / entry["folder"], ignore=shutil.ignore_patterns(".*"))
    content = {"format": "segwithu-models", "format_version": 1, "models": []}
    if path.is_file():
        content = json.loads(path.read_text(encoding="utf-8"))
    content["models"] = [
        *(
            other
            for other in content["models"]
            if (other["name"], other["version"]) != (entry["name"], entry["version"])
        ),
        {**entry, **changes},
    ]
    path.write_text(json.dumps(content), encoding="utf-8")
