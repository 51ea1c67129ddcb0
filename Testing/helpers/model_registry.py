"""Write a registry of models, as an institution does by hand."""

import json
import shutil
from pathlib import Path
from typing import Any

from SegWithUCore.models.bundle import read_bundle
from SegWithUCore.models.bundle_files import describe_files
from SegWithUCore.models.model_name import folder_name
from SegWithUCore.models.model_row import allows_commercial_use


def entry_of(bundle_folder: Path) -> dict[str, Any]:
    """Describe a bundle for a registry."""
    bundle = read_bundle(bundle_folder)
    about = bundle.about
    licences = about["licence_weights"], about["licence_data"]
    return {
        **{key: about[key] for key in ("name", "version", "task", "licence_weights", "licence_data", "citation")},
        "commercial_use": allows_commercial_use(licences),
        "files": [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in describe_files(bundle_folder)],
        "modality": bundle.input.modality,
        "channels": list(bundle.input.channels),
        "structures": [label.name for label in bundle.labels[1:]],
        "calibrated": bundle.calibration is not None,
        "folder": folder_name(bundle.name, about["version"]),
    }


def add_to_registry(bundle: Path, registry: Path, **changes: Any) -> None:
    """Copy a bundle to the registry in a folder and list it there, with other fields than the bundle's in `changes`."""
    entry, path = entry_of(bundle), registry / "models.json"
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
