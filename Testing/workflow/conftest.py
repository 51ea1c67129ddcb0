"""What tests of whole commands share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model bundle with random weights; no test changes it."""
    from segwithu_command import tiny_bundle

    return tiny_bundle(tmp_path_factory.mktemp("models") / "tiny")
