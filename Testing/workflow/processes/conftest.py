"""What tests of child processes share."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from worker_parent import Parent


@pytest.fixture
def start() -> Iterator[Callable[..., Parent]]:
    """Starts workers that are ended with the test."""
    parents: list[Parent] = []

    def begin(*paths: Path, **options: Any) -> Parent:
        parents.append(Parent(*paths, **options))
        return parents[-1]

    yield begin
    for parent in parents:
        parent.end()
