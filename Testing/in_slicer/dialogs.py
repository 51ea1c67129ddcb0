"""Dialogs without a user: a test queues answers, every question is kept, an unexpected one fails the test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import qt
import slicer


@dataclass
class Dialogs:
    """Queue of answers, and what was asked."""

    asked: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    _answers: list[Any] = field(default_factory=list)

    def answer(self, *answers: Any) -> None:
        """Queue the answers to the next dialogs: True or False to a question, a path to a choice of files."""
        self._answers.extend(answers)

    @property
    def unused(self) -> int:
        """Answers that no dialog has asked for."""
        return len(self._answers)

    def reset(self) -> None:
        """Forget everything."""
        self.asked.clear()
        self.unexpected.clear()
        self._answers.clear()

    def _ask(self, text: str, otherwise: Any) -> Any:
        self.asked.append(text)
        if self._answers:
            return self._answers.pop(0)
        self.unexpected.append(text)
        return otherwise

    @contextmanager
    def instead_of_slicers(self) -> Iterator[None]:
        """Answer in place of the user in this block."""

        def confirm(text: str, *_: Any, **__: Any) -> bool:
            return bool(self._ask(text, False))

        class Files:
            @staticmethod
            def choose(_parent: Any, title: str, *_: Any) -> str:
                return str(self._ask(title, ""))

            getExistingDirectory = getOpenFileName = choose  # noqa: N815  (Qt's names)

        with (
            mock.patch.object(slicer.util, "confirmOkCancelDisplay", confirm),
            mock.patch.object(qt, "QFileDialog", Files),
        ):
            yield
