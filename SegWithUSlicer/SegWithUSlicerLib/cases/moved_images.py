"""Find images that have moved since their cases were segmented: asked for once, and checked by their voxels.

One answer serves the other cases whose images were moved in the same way, until Slicer ends: the changed part of the
path is replaced. A path guessed in this way counts only if its voxels are those that were segmented.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from SegWithUCore.util.errors import InputError

from ..i18n import _

if TYPE_CHECKING:
    import SimpleITK as sitk


class ImageMissingError(InputError):
    """The image of a case is not where it was, or another one is there; the message is for the user."""


class MovedImages:
    """The moves of images that the user has confirmed."""

    def __init__(self) -> None:
        self._moves: list[tuple[str, str]] = []

    def image(self, folder: Path, case: Mapping[str, Any], channel: int = 0) -> "sitk.Image":
        """Read the image of a case, with the voxels that were segmented.

        Args:
            case: the content of `case.json`.

        Raises:
            ImageMissingError: it is nowhere where it could be.
            InputError: `case.json` does not name its path.
        """
        from SegWithUCore.case.case_image import ELSEWHERE, case_image, image_path

        recorded = image_path(folder, case, channel)
        followed, why = _may_follow(folder, case, channel), ""
        for path in ([recorded] if followed else []) + list(self._guesses(recorded)):
            if not path.exists():
                continue
            try:
                return case_image(folder, case, path, channel)
            except InputError as error:
                # An error at the recorded path is reported, and a changed place; a wrong guess is just no answer.
                why = why or (str(error) if path == recorded or error.code == ELSEWHERE else "")
        text = _("The image of {case} is not at {path} any more: choose where it is now.")
        if not followed:
            text = _("The image of {case} was recorded at {path} by somebody else: choose where it is.")
        raise ImageMissingError(why or text.format(case=folder.name, path=recorded), code="" if why else "missing-file")

    def find(self, folder: Path, case: Mapping[str, Any]) -> Path | None:
        """Find the image of a case by the known moves. Returns None if it is at its recorded path, or not found."""
        from SegWithUCore.case.case_image import image_path

        recorded = image_path(folder, case, 0)
        if _may_follow(folder, case, 0) and recorded.exists():
            return None
        return next((path for path in self._guesses(recorded) if path.exists()), None)

    def learn(self, folder: Path, case: Mapping[str, Any], path: Path) -> "sitk.Image":
        """Remember the path that the user chose, if it is the image; returns the image.

        Raises:
            InputError: it is another one.
        """
        from SegWithUCore.case.case_image import case_image, image_path

        image = case_image(folder, case, path)
        self._moves.insert(0, _changed_part(image_path(folder, case, 0), path.absolute()))
        return image

    def _guesses(self, recorded: PurePath) -> Iterator[Path]:
        for old, new in self._moves:
            if recorded.is_relative_to(old):
                yield Path(new) / recorded.relative_to(old)


def _may_follow(folder: Path, case: Mapping[str, Any], channel: int) -> bool:
    """Check whether the path that a case names is in its folder, or was written by this user."""
    from SegWithUCore.case.case_image import OutsideError, trusted_path

    try:
        trusted_path(folder, case, channel)
    except OutsideError:
        return False
    return True


def _changed_part(old: Path, new: Path) -> tuple[str, str]:
    """Return the two paths without their common end; their folders if they are the same."""
    if old == new:  # a path recorded by another user was confirmed, for this folder only
        return str(old.parent), str(new.parent)
    while old.name == new.name and old != old.parent and new != new.parent:
        old, new = old.parent, new.parent
    return str(old), str(new)
