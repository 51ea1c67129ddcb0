"""What tests of the benchmark share: toy networks and a frozen backbone of one of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from baselines.frozen_backbone import FrozenBackbone


@pytest.fixture(autouse=True)
def toys() -> Iterator[None]:
    """The toy networks, known by name, and one thread."""
    from segwithu_command import one_thread
    from toy_models import registered_toys

    with registered_toys(), one_thread():
        yield


@pytest.fixture
def backbone(tmp_path: Path) -> "FrozenBackbone":
    """A toy network with frozen weights."""
    from baseline_cases import toy_backbone

    return toy_backbone(tmp_path / "frozen")
