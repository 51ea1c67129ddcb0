"""What tests of cohorts share."""

from collections.abc import Iterator

import pytest
from ready_commands import ReadyCommands


@pytest.fixture(scope="module")
def commands() -> Iterator[ReadyCommands]:
    """Processes of the command that start at once."""
    ready = ReadyCommands()
    yield ready
    ready.close()
