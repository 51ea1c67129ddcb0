"""What all tests of the Slicer side share."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

OUR_PACKAGES = ("SegWithUCore", "SegWithUSlicerLib")


@pytest.fixture(scope="module", autouse=True)
def our_modules_as_before() -> Iterator[None]:
    """Put our packages back as they were: Reload makes new ones, whose classes are not those of other test files."""
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] in OUR_PACKAGES}
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in OUR_PACKAGES]:
        del sys.modules[name]
    sys.modules.update(before)


@pytest.fixture(scope="session")
def segmented(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `images` and `cases`, made once for all test files; tests copy it."""
    from listed_cases import segment_cases  # needs what only tests of the host may need

    return segment_cases(data_folder, tmp_path_factory.mktemp("cohort"))
