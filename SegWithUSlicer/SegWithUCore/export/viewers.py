"""What other viewers need of a case: names and colours of labels for ITK-SNAP, and the commands that open it."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..case.case_file import SEGMENTATION_FILE, read_case
from ..case.case_image import IMAGE_FILE
from ..case.case_regions import ERROR_PROBABILITY_FILE
from ..models.input_spec import Label

LABELS_FILE = "itksnap_labels.txt"


def label_description(case: Mapping[str, Any]) -> str:
    """Make a label description file of ITK-SNAP."""
    rows = ["# ITK-SnAP Label Description File\n# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL\n"]
    for label in map(Label.from_json, case["structures"]):
        red, green, blue = label.color if label.value else (0, 0, 0)
        name, shown = label.name.replace('"', "'") if label.value else "Clear Label", int(label.value != 0)
        rows.append(f'{label.value:5d} {red:5d} {green:4d} {blue:4d} {shown:8d} {shown:2d} {shown:2d}    "{name}"\n')
    return "".join(rows)


def viewer_commands(folder: Path) -> list[str]:
    """Return the commands that open an exported case in ITK-SNAP and FSLeyes."""
    image, drawn, risk, labels = (
        shlex.quote(str(folder / name)) for name in (IMAGE_FILE, SEGMENTATION_FILE, ERROR_PROBABILITY_FILE, LABELS_FILE)
    )
    facts = read_case(folder)["maps"].get("error_probability")
    overlay = f" -o {risk}" if facts else ""
    colours = f" {risk} -cm hot -dr {facts['lower_threshold']:g} {facts['window'][1]:g}" if facts else ""
    return [f"itksnap -g {image} -s {drawn} -l {labels}{overlay}", f"fsleyes {image} {drawn} -ot label{colours}"]
