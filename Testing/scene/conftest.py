"""What tests of the scene share."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def scenes_closed() -> Iterator[None]:
    """Close what a test has opened."""
    from mrml_headless import close_all  # needs what only tests of the scene may need

    yield
    close_all()
