"""Translation of user-visible texts.

Slicer's own `tr` where there is one. The slicer-core wheel and the command line have no `slicer.i18n`: there the
English text is used as it is.
"""

from types import ModuleType

try:
    from slicer.i18n import getContext, translate
    from slicer.i18n import tr as _
except ImportError:

    def _(text: str) -> str:
        """Return the English text: there is no translator here."""
        return text

    def translate(_context: str, text: str) -> str:
        """Return the English text."""
        return text

    def getContext(_file: str) -> str:  # noqa: N802 - as Slicer names it
        """Return nothing: see `translate`."""
        return ""


def translated(text: str, table: ModuleType) -> str:
    """Translate a text that one of the engine's tables marks; others stay as they are."""
    return translate(getContext(str(table.__file__)), text) if text else ""


__all__ = ["_", "translated"]
