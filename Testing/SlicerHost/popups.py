"""Modal dialogs without a user: a test queues answers, everything shown is kept, an unexpected dialog is a finding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from PySide6 import QtCore, QtWidgets

from .strict import record

Answer = Any  # a button's text, a QMessageBox button, True/False, a return value, or a callable taking the dialog


@dataclass
class Shown:
    """One dialog that the user would have seen."""

    kind: str
    title: str
    text: str
    details: str = ""
    buttons: list[str] = field(default_factory=list)


class Popups:
    """Queue of answers and record of what was shown."""

    def __init__(self) -> None:
        self.shown: list[Shown] = []
        self._answers: list[Answer] = []

    def answer(self, *answers: Answer) -> None:
        """Queue the answers to the next dialogs, in order."""
        self._answers.extend(answers)

    @property
    def unused(self) -> int:
        """Answers that no dialog has asked for."""
        return len(self._answers)

    def reset(self) -> None:
        """Forget everything shown and queued."""
        self.shown.clear()
        self._answers.clear()

    def ask(self, shown: Shown, otherwise: Any) -> Any:
        """Next queued answer; without one the dialog is a finding and is answered as if the user had dismissed it."""
        self.shown.append(shown)
        if self._answers:
            return self._answers.pop(0)
        record("popup", shown.kind, f"unexpected dialog [{shown.title}] {shown.text}")
        return otherwise


POPUPS = Popups()


def _button_of(box: QtWidgets.QMessageBox, answer: Answer) -> QtWidgets.QAbstractButton | None:
    if isinstance(answer, str):
        wanted = answer.replace("&", "").lower()
        for button in box.buttons():
            if QtWidgets.QAbstractButton.text(button).replace("&", "").lower() == wanted:
                return button
        raise AssertionError(f"the message box has no button {answer!r}")
    return box.button(QtWidgets.QMessageBox.StandardButton(int(answer)))


def run_message_box(box: Any) -> int:
    """exec() of a message box: the queued answer clicks one of its buttons."""
    native = QtWidgets.QMessageBox
    names = [QtWidgets.QAbstractButton.text(b).replace("&", "") for b in native.buttons(box)]
    title = QtWidgets.QWidget.windowTitle(box).strip()
    shown = Shown("QMessageBox", title, native.text(box), native.detailedText(box), names)
    answer = POPUPS.ask(shown, None)
    if callable(answer):
        answer = answer(box)
    if answer is None:
        return int(native.StandardButton.Cancel)
    button = _button_of(box, answer)
    if button is None:
        raise AssertionError(f"the message box [{title}] has no button for the answer {answer!r}")
    button.click()
    return int(native.standardButton(box, button))


def _keep_for_its_timer(dialog: Any) -> None:
    """No waiting here, but its timer will still close it: neither deleteLater() nor its parent may end it before."""
    QtCore.QCoreApplication.removePostedEvents(dialog, int(QtCore.QEvent.Type.DeferredDelete))
    QtWidgets.QWidget.setParent(dialog, None)


def run_dialog(dialog: Any) -> int:
    """exec() of another dialog. One that only shows a text (slicer.util.delayDisplay) passes without an answer."""
    labels = [QtWidgets.QLabel.text(label) for label in dialog.findChildren(QtWidgets.QLabel)]
    buttons = [QtWidgets.QAbstractButton.text(b) for b in dialog.findChildren(QtWidgets.QAbstractButton)]
    shown = Shown(type(dialog).__name__, QtWidgets.QWidget.windowTitle(dialog), " ".join(labels), "", buttons)
    if type(dialog).__name__ == "QDialog" and labels and not buttons:
        POPUPS.shown.append(shown)
        _keep_for_its_timer(dialog)
        return 0
    answer = POPUPS.ask(shown, 0)
    if callable(answer):
        answer = answer(dialog)
    return int(bool(answer)) if isinstance(answer, bool) else int(answer or 0)


def static_dialog(kind: str, otherwise: Any) -> Callable[..., Any]:
    """A static function such as QFileDialog.getOpenFileName: the queued answer is what it returns."""

    def ask(*args: Any) -> Any:
        texts = [a for a in args if isinstance(a, str)]
        title, text = [*texts, "", ""][:2]
        answer = POPUPS.ask(Shown(kind, title, text), otherwise)
        return answer(*args) if callable(answer) else answer

    return staticmethod(ask)  # type: ignore[return-value]
