"""`segwithu export --volumes`: the volumes of all structures of all cases, as one table."""

import csv
from pathlib import Path

import segwithu


class VolumesExport(segwithu.ExportWriter):
    """Writes `volumes.csv`."""

    def __init__(self, work: Path, output: Path, settings: segwithu.ExportSettings, found: segwithu.Exported) -> None:
        super().__init__(work, output, settings, found)
        self.rows: list[list[object]] = []

    def add(self, name: str, folder: Path) -> None:
        digits = int(self.settings.options["digits"])
        for structure in segwithu.read_case(folder).structures:
            self.rows.append([name, structure.name, round(structure.volume_mm3 or 0.0, digits)])

    def finish(self) -> None:
        with (self.work / "volumes.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["case", "structure", "volume_mm3"], *self.rows])


VOLUMES = segwithu.ExportFormat(
    "write a table of the volumes of structures instead",
    VolumesExport,
    options={"--digits": {"type": int, "default": 1, "metavar": "N", "help": "digits after the point"}},
    anonymous="asked",
)
