"""Do the cases of an evaluation look like those that the model was trained with?

Before it some are looked at, so that another organ is told at once; during it all are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from SegWithUCore.inference.deviation import NOTE, REFUSED, WARNING, Deviation
from SegWithUCore.inference.ood_check import input_deviations
from SegWithUCore.inference.preprocessing import assessed_box
from SegWithUCore.models.bundle import Bundle
from SegWithUCore.models.quality import checks_lacking
from SegWithUCore.util.errors import InputError

from ..training.case_reading import read_images
from ..training.dataset import Case

LOOKED_AT = 5
"""Cases that are compared, spread over all of them."""


def input_check(found: Mapping[str, Sequence[Deviation]], bundle: Bundle) -> dict[str, Any] | None:
    """Sum up the input check of an evaluation; None where the model does not know its training cases.

    Args:
        found: deviations of all cases, by name.

    Returns:
        `cases` looked at; `lacks`, the parts of the check that the model cannot do; `unlike`, the names of those with a
        warning or more; `noted`, of those with notes alone; and `found`, all sentences by case.
    """
    if bundle.fingerprint is None:
        return None
    worst = {name: {each.severity for each in said} for name, said in found.items()}
    return {
        "cases": len(found),
        "lacks": checks_lacking(bundle),
        "unlike": [name for name, severities in worst.items() if severities & {WARNING, REFUSED}],
        "noted": [name for name, severities in worst.items() if severities == {NOTE}],
        "found": {name: [each.to_json() for each in said] for name, said in found.items() if said},
    }


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
        images = read_images(case)
        if len(images) != len(bundle.input.channels):
            continue  # what reads all of them says so
        box = assessed_box(images, bundle.input)
        parts = [box.crop(image) for image in images]
        found = input_deviations(parts, bundle)
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
