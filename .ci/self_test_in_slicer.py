"""Run the module's self test inside 3D Slicer, and leave Slicer with 0 only if it passed.

Never run here, for want of a Slicer; the nightly workflow calls it:

    Slicer --testing --additional-module-paths .../SegWithUSlicer --python-script .../.ci/self_test_in_slicer.py
"""

import importlib.metadata
import unittest

import slicer

NAME = "SegWithUSlicer.SegWithUSlicerTest.runTest"


def self_test_passes() -> bool:
    """Whether the self test passes; without torch it would be skipped, which does not count."""
    importlib.metadata.version("torch")
    result = unittest.TextTestRunner(verbosity=2).run(unittest.TestLoader().loadTestsFromName(NAME))
    return result.testsRun == 1 and result.wasSuccessful()


try:
    status = slicer.util.EXIT_SUCCESS if self_test_passes() else slicer.util.EXIT_FAILURE
except BaseException:
    slicer.util.exit(slicer.util.EXIT_FAILURE)
    raise
slicer.util.exit(status)
