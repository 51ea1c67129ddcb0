"""Translation of user-visible texts.

Slicer's own `tr` where there is one. The slicer-core wheel and the command line have no `slicer.i18n`: there the
English text is used as it is.
"""

try:
    from slicer.i18n import tr as _
except ImportError:

    def _(text: str) -> str:
        """Return the English text: there is no translator here."""
        return text


__all__ = ["_"]
