"""Before an evaluation: do the cases look like those that the model was trained with? Another organ is told at once."""

from collections.abc import Sequence

from ..errors import InputError
from ..imaging.volume import read_image
from ..inference.fingerprint import REFUSED, deviations
from ..inference.odd_input import odd_inputs
from ..inference.preprocessing import assessed_box
from ..models.bundle import Bundle
from ..training.dataset import Case

LOOKED_AT = 5
"""Cases that are compared, spread over all of them."""


def check_like_training(cases: Sequence[Case], bundle: Bundle) -> list[str]:
    """Compare some cases with the training cases; returns the warnings about them, each sentence once.

    Raises:
        InputError: most of them are so unlike that figures would mean nothing, or one cannot be read.
    """
    if bundle.fingerprint is None:
        return []
    step = max(1, len(cases) // LOOKED_AT)
    looked = list(cases)[::step][:LOOKED_AT]
    refused, notes = [], []
    for case in looked:
        images = [read_image(path) for path in case.channels]
        if len(images) != len(bundle.input.channels):
            continue  # what reads all of them says so
        box = assessed_box(images, bundle.input)
        parts = [box.crop(image) for image in images]
        found = [*odd_inputs(parts, bundle), *deviations(parts, bundle)]
        refused += [each.sentence for each in found if each.severity == REFUSED][:1]
        notes += [f"{case.name}: {each.sentence}" for each in found]
    if len(refused) * 2 > len(looked):
        which = "The case that was" if len(looked) == 1 else f"{len(refused)} of {len(looked)} cases that were"
        verb = "is" if len(looked) == 1 else "are"
        raise InputError(
            f"{which} compared with the training cases of '{bundle.name}' {verb} too unlike them for figures to mean "
            f"anything ({refused[0].rstrip('.')}): choose the model that was made for such images, or go on with "
            "--unlike-training."
        )
    return list(dict.fromkeys(notes))
