"""pytest fixtures: import them in a conftest.py (from SlicerHost.fixtures import slicer_host, open_module)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from . import missing_reason


def _host_class() -> Any:
    reason = missing_reason()
    if reason:
        pytest.skip(reason)
    from .host import SlicerHost

    return SlicerHost


@pytest.fixture
def slicer_host() -> Iterator[Any]:
    """A running application without a module; findings left at the end fail the test."""
    with _host_class()() as host:
        yield host


@pytest.fixture
def open_module() -> Iterator[Callable[..., Any]]:
    """A function that starts an application and opens the module of a file; options go to SlicerHost."""
    host_class = _host_class()
    with ExitStack() as stack:

        def start(path: str | Path, **options: Any) -> Any:
            return stack.enter_context(host_class(path, **options))

        yield start
