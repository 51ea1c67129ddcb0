"""What all tests of the Slicer side share."""

import sys
from collections.abc import Iterator

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
