"""Find images that have moved since their cases were segmented: asked for once, checked by their voxels, remembered.

One answer serves the other cases whose images were moved in the same way: the part of the path that changed is put in
place of the old one. A place that was guessed so counts only if its voxels are those that were segmented.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from SegWithUCore.atomic_files import atomic_file
from SegWithUCore.errors import InputError, OutputError
from SegWithUCore.strict_json import read_json_object

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
        from SegWithUCore.case.case_image import case_image

        told = recorded_path(folder, case, channel)
        followed, why = may_follow(folder, case, channel), ""
        for place in ([told] if followed else []) + list(self._guesses(told)):
            if not place.exists():
                continue
            try:
                return case_image(folder, case, place, channel), place
            except InputError as error:
                # What is wrong at the place that the case names is told; a wrong guess is just no answer.
                why = why or (str(error) if place == told else "")
        text = _("The image of {case} is not at {place} any more: choose where it is now.")
        if not followed:
            text = _("The image of {case} is said to lie at {place}, by somebody else than you: choose where it is.")
        raise ImageMissingError(why or text.format(case=folder.name, place=told))

    def find(self, folder: Path, case: Mapping[str, Any]) -> Path | None:
        """Where the image of a case lies if not where its case says; None where it lies there, or nobody knows."""
        if self.is_at_recorded_path(folder, case):
            return None
        return next((place for place in self._guesses(recorded_path(folder, case, 0)) if place.exists()), None)

    @staticmethod
    def is_at_recorded_path(folder: Path, case: Mapping[str, Any]) -> bool:
        """Whether the image of a case lies where its case says; nobody looks where others lead out of its folder."""
        return may_follow(folder, case, 0) and recorded_path(folder, case, 0).exists()

    def learn(self, folder: Path, case: Mapping[str, Any], place: Path) -> "sitk.Image":
        """Take the user's answer, if it is the image; returns it.

        Raises:
            InputError: it is another one.
        """
        from SegWithUCore.case.case_image import case_image

        image = case_image(folder, case, place)
        old, new = _changed_part(recorded_path(folder, case, 0), place)
        self._moves = [(old, new), *(move for move in self._moves if move != (old, new))][:MOST_KEPT]
        # A settings folder that cannot be written only costs the user an answer after the next start.
        with suppress(OutputError), atomic_file(self._file) as work:
            work.write_text(json.dumps({"moves": self._moves}, ensure_ascii=False) + "\n", encoding="utf-8")
        return image

    def _guesses(self, told: PurePath) -> Iterator[Path]:
        for old, new in self._moves:
            if told == PurePath(old):
                yield Path(new)
            elif told.is_relative_to(old):
                yield Path(new) / told.relative_to(old)


def may_follow(folder: Path, case: Mapping[str, Any], channel: int) -> bool:
    """Whether the place that a case names lies in its folder, or this user wrote it.

    Raises:
        InputError: `case.json` does not say.
    """
    from SegWithUCore.case.case_image import OutsideError, trusted_place

    try:
        trusted_place(folder, case, channel)
    except OutsideError:
        return False
    return True


def recorded_path(folder: Path, case: Mapping[str, Any], channel: int) -> Path:
    """Where the image of a case should lie.

    Raises:
        InputError: `case.json` does not say.
    """
    from SegWithUCore.case.case_image import image_place

    return image_place(folder, case, channel)


def _changed_part(told: Path, now: Path) -> tuple[str, str]:
    """Return the two paths without their common end; their folders if they are the same."""
    old, new = told, now.absolute()
    if old == new:  # the user has confirmed what a case of others said: that holds for this folder and no other
        return str(old.parent), str(new.parent)
    while old.name == new.name and old != old.parent and new != new.parent:
        old, new = old.parent, new.parent
    return str(old), str(new)


def _read(file: Path) -> list[tuple[str, str]]:
    """Read the moves that were recorded earlier; a damaged file only costs the user an answer."""
    try:
        told = read_json_object(file)["moves"]
        return [(str(old), str(new)) for old, new in told]
    except (InputError, ValueError, KeyError, TypeError):
        return []
