"""Find images that have moved since their cases were segmented: asked for once, checked by their voxels, remembered.

One answer serves the other cases whose images were moved in the same way: the changed part of the path is replaced.
A path guessed in this way counts only if its voxels are those that were segmented.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from SegWithUCore.util.atomic_files import atomic_file
from SegWithUCore.util.errors import InputError, OutputError
from SegWithUCore.util.strict_json import read_json_object

from ..i18n import _

if TYPE_CHECKING:
    import SimpleITK as sitk

FILE_NAME = "moved-images.json"
MOST_KEPT = 200


class ImageMissingError(InputError):
    """The image of a case is not where it was, or another one is there; the message is for the user."""


class MovedImages:
    """The moves of images that the user has confirmed.

    Args:
        file: keeps them from one start of Slicer to the next.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._moves: list[tuple[str, str]] = _read(file)

    def image(self, folder: Path, case: Mapping[str, Any], channel: int = 0) -> "tuple[sitk.Image, Path]":
        """Read the image of a case, with the voxels that were segmented, and return its path too.

        Args:
            case: the content of `case.json`.

        Raises:
            ImageMissingError: it is nowhere where it could be.
            InputError: `case.json` does not say where it should be.
        """
        from SegWithUCore.case.case_image import ELSEWHERE, case_image

        recorded = recorded_path(folder, case, channel)
        followed, why = may_follow(folder, case, channel), ""
        for path in ([recorded] if followed else []) + list(self._guesses(recorded)):
            if not path.exists():
                continue
            try:
                return case_image(folder, case, path, channel, check_volumes=False), path  # loading does
            except InputError as error:
                # An error at the recorded path is reported, and a changed place; a wrong guess is just no answer.
                why = why or (str(error) if path == recorded or error.code == ELSEWHERE else "")
        text = _("The image of {case} is not at {path} any more: choose where it is now.")
        if not followed:
            text = _("The image of {case} was recorded at {path} by somebody else: choose where it is.")
        raise ImageMissingError(why or text.format(case=folder.name, path=recorded))

    def find(self, folder: Path, case: Mapping[str, Any]) -> Path | None:
        """Find the image of a case by the known moves. Returns None if it is at its recorded path, or not found."""
        if self.is_at_recorded_path(folder, case):
            return None
        return next((path for path in self._guesses(recorded_path(folder, case, 0)) if path.exists()), None)

    @staticmethod
    def is_at_recorded_path(folder: Path, case: Mapping[str, Any]) -> bool:
        """Check whether the image of a case is at its recorded path; a path by others that leaves its folder is not."""
        return may_follow(folder, case, 0) and recorded_path(folder, case, 0).exists()

    def learn(self, folder: Path, case: Mapping[str, Any], path: Path) -> "sitk.Image":
        """Record the path that the user chose, if it is the image; returns the image.

        Raises:
            InputError: it is another one.
        """
        from SegWithUCore.case.case_image import case_image

        image = case_image(folder, case, path, check_volumes=False)
        old, new = _changed_part(recorded_path(folder, case, 0), path)
        self._moves = [(old, new), *(move for move in self._moves if move != (old, new))][:MOST_KEPT]
        # A settings folder that cannot be written only costs the user an answer after the next start.
        with suppress(OutputError), atomic_file(self._file) as work:
            work.write_text(json.dumps({"moves": self._moves}, ensure_ascii=False) + "\n", encoding="utf-8")
        return image

    def _guesses(self, recorded: PurePath) -> Iterator[Path]:
        for old, new in self._moves:
            if recorded == PurePath(old):
                yield Path(new)
            elif recorded.is_relative_to(old):
                yield Path(new) / recorded.relative_to(old)


def may_follow(folder: Path, case: Mapping[str, Any], channel: int) -> bool:
    """Check whether the path that a case names is in its folder, or was written by this user.

    Raises:
        InputError: `case.json` does not say.
    """
    from SegWithUCore.case.case_image import OutsideError, trusted_path

    try:
        trusted_path(folder, case, channel)
    except OutsideError:
        return False
    return True


def recorded_path(folder: Path, case: Mapping[str, Any], channel: int) -> Path:
    """Return where the image of a case should lie.

    Raises:
        InputError: `case.json` does not say.
    """
    from SegWithUCore.case.case_image import image_path

    return image_path(folder, case, channel)


def _changed_part(recorded: Path, now: Path) -> tuple[str, str]:
    """Return the two paths without their common end; their folders if they are the same."""
    old, new = recorded, now.absolute()
    if old == new:  # the user has confirmed what a case of others said: that holds for this folder and no other
        return str(old.parent), str(new.parent)
    while old.name == new.name and old != old.parent and new != new.parent:
        old, new = old.parent, new.parent
    return str(old), str(new)


def _read(file: Path) -> list[tuple[str, str]]:
    """Read the moves that were recorded earlier; a damaged file only costs the user an answer."""
    try:
        recorded = read_json_object(file)["moves"]
        return [(str(old), str(new)) for old, new in recorded]
    except (InputError, ValueError, KeyError, TypeError):
        return []
