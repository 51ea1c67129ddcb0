"""What a format of `segwithu export` is. Standard library alone: the command line lists the formats at every start."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

FACE = "a face, or burnt-in text, may be recognisable"


@dataclass(frozen=True)
class ExportSettings:
    """What is exported and how.

    Attributes:
        flagged: only flagged cases (`WorklistEntry.is_flagged`).
        anonymous: without reviews, names, dates, identifiers and paths.
        images: where the images of cases lie now that were moved, by case folder.
        image_folders: where the images of all other cases are looked for that do not lie in their case folders.
        options: values of the format's own options, by name ("with_image" of `--with-image`).
    """

    flagged: bool = False
    anonymous: bool = False
    images: Mapping[Path, Path] = field(default_factory=dict)
    image_folders: Sequence[Path] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Exported:
    """What was exported.

    Attributes:
        names: of the cases in the export, with the folders that they came from.
        troubles: why others were not exported, one sentence each.
        left_out: files of the exported cases that were not taken along, one sentence each.
        notes: on files that were, one sentence each.
        skipped: cases that no rule flags.
        names_file: keeps which case is which in an anonymous export, next to it; else None.
        files: DICOM files of each case, by its name.
        viewers: commands that open an exported case in other programs.
    """

    names: dict[str, Path] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: int = 0
    names_file: Path | None = None
    files: dict[str, list[str]] = field(default_factory=dict)
    viewers: list[str] = field(default_factory=list)


class ExportWriter(ABC):
    """Base of all formats: writes one export. The folder gets its name when all is written, or is removed.

    Attributes:
        work: the folder that becomes the export, empty at first.
        output: the name that it gets.
        found: what was exported; a writer may add notes.
    """

    def __init__(self, work: Path, output: Path, settings: ExportSettings, found: Exported) -> None:
        self.work, self.output, self.settings, self.found = work, output, settings, found

    @abstractmethod
    def add(self, name: str, folder: Path) -> None:
        """Write one case.

        Args:
            name: of the case in the export, "case-001" where it is anonymous.
            folder: the case folder.

        Raises:
            InputError: it cannot be exported; the others are.
        """

    def finish(self) -> None:  # noqa: B027 - most formats have something, none must
        """Write what is about all cases, after the last one."""


@dataclass(frozen=True)
class ExportFormat:
    """A format, `segwithu export --NAME`.

    Attributes:
        help: of its option.
        writer: makes the writer of one export; called with the arguments of `ExportWriter`.
        options: options of its own, with the arguments of `argparse.ArgumentParser.add_argument`.
        anonymous: whether its exports are anonymous: never, where it is asked for (`settings.anonymous`), or always.
    """

    help: str
    writer: Callable[[Path, Path, ExportSettings, Exported], ExportWriter]
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    anonymous: Literal["never", "asked", "always"] = "never"
