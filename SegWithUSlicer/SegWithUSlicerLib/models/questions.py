"""What the user is asked before anything is downloaded, replaced or deleted: what, how large, whose, how long."""

from pathlib import Path

from SegWithUCore.models.model_row import WITHDRAWN, ModelRow

from ..i18n import _
from .rows import size_text
from .tasks import ModelTask


def download_question(row: ModelRow) -> str:
    """Ask with size and licences of a version; what restricts its use is said in a sentence of its own."""
    lines = [
        _("Download {model}, {size}?").format(model=row.key, size=size_text(row.size) or _("size unknown")),
        row.task,
        _("Licence of the weights: {weights}. Licence of the training data: {data}.").format(
            weights=row.licence_weights, data=row.licence_data
        ),
    ]
    if not row.commercial_use:
        lines.append(_("These licences forbid commercial use. OK says that you agree to them."))
    if row.state == WITHDRAWN:
        lines.append(_("This version was withdrawn: {why} OK installs it all the same.").format(why=row.note))
    return "\n\n".join(lines)


def delete_question(row: ModelRow) -> str:
    """Ask which model goes, and from where."""
    text = _("Delete {model} ({size}) in {folder}?")
    return text.format(model=row.key, size=size_text(row.size), folder=row.folder)


def calibrate_question(row: ModelRow, target: Path) -> str:
    """Say what calibrating takes and what comes of it."""
    lines = [
        _("Calibrate {model} on your cases?").format(model=row.key),
        _(
            "Every case is segmented and compared with your labels. The model itself stays as it is: what predicts "
            "your cases better becomes a copy beside it, else the model's own calibration is kept. Fewer than 8 "
            "patients change nothing."
        ),
    ]
    if target.exists():
        lines.append(_("{folder} exists already and is replaced by the copy.").format(folder=target))
    return "\n\n".join(lines)


def adopt_question(task: ModelTask) -> str:
    """Say what adopting needs and how long it takes."""
    lines = [
        _("{title}?").format(title=task.title),
        _(
            "This trains an uncertainty head and needs torch (0.2 GB for the processor, about 3 GB for an NVIDIA "
            "card); if it is missing you are asked before it is installed. It takes minutes with a graphics card and "
            "hours without. You can cancel or close Slicer: what is finished is kept, and one click goes on."
        ),
        _("The model will be in {folder}.").format(folder=task.output),
    ]
    if Path(task.output).exists():
        lines.append(_("A model is there already; it is replaced when the new one is finished."))
    return "\n\n".join(lines)


def flag_question(flag: str) -> str:
    """Ask for what an adoption that was refused needs to know."""
    questions = {
        "--unseen": _(
            "nnU-Net's list of folds (splits_final.json) was not found beside these folders, nor its validation "
            "predictions, so nobody knows which cases the network has seen.\n\nWas it trained with none of the cases "
            "in the data set? OK says so; Cancel if you do not know, and copy splits_final.json into the result folder."
        ),
        "--redo": _(
            "An earlier adoption was begun with other cases or settings.\n\nOK trains its heads anew with these; "
            "Cancel keeps what is finished."
        ),
    }
    return questions[flag]
