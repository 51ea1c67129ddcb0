"""What the user is asked before anything is downloaded or deleted: what, how large, whose."""

from SegWithUCore.models.model_row import WITHDRAWN, ModelRow

from ..i18n import _
from .rows import size_text


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
