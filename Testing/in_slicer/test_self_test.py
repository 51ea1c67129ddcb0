"""The self test, run as ctest runs it in Slicer: by the names of its test methods, without consent from anybody."""

from __future__ import annotations

import sys
import unittest
from collections.abc import Iterator

import numpy as np
import pytest
import slicer
from opened_module import Opened, sample_crop

NAME = "SegWithUSlicer"


@pytest.fixture
def module(opened: Opened) -> Iterator[object]:
    """The module's file as Slicer has loaded it."""
    yield sys.modules[NAME]


def _by_ctest(module: object) -> unittest.TestResult:
    """What slicer.testing.runUnitTest does with the class: it takes the test methods, and never runTest."""
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(module.SegWithUSlicerTest).run(result)  # type: ignore[attr-defined]
    return result


def _hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    from SegWithUCore.worker import check

    real = check.installed_versions()
    monkeypatch.setattr(check, "installed_versions", lambda: {**real, **dict.fromkeys(names)})


def test_it_is_skipped_where_the_engine_is_missing(
    opened: Opened, module: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slicer's dashboards have no engine, and a question in testing mode counts as declined."""
    _hide(monkeypatch, "openvino", "torch")
    opened.worker.stop()
    result = _by_ctest(module)
    assert (result.testsRun, result.errors, result.failures) == (1, [], [])
    assert [reason for _case, reason in result.skipped] == ["openvino missing"]
    assert opened.worker.state.value == "stopped"


def test_it_says_so_after_reload_and_test(module: object, monkeypatch: pytest.MonkeyPatch) -> None:
    _hide(monkeypatch, "openvino")
    case, messages = module.SegWithUSlicerTest(), []  # type: ignore[attr-defined]
    monkeypatch.setattr(case, "delayDisplay", messages.append)
    case.runTest()
    assert messages == ["skipped: openvino missing"]


def test_it_passes_with_the_engine_and_begins_with_an_empty_scene(
    module: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a small case; the workflow `self_test` takes the whole brain, as users do."""
    from SegWithUSlicerLib.scene import sample

    def small() -> sample.Sample:
        assert slicer.mrmlScene.GetFirstNodeByName("of another test") is None
        crop = sample_crop()
        slicer.util.setSliceViewerLayers(background=crop, fit=True)  # as `load_sample` does
        return sample.Sample(crop, "hippocampus")

    monkeypatch.setattr(sample, "load_sample", small)
    slicer.util.addVolumeFromArray(np.zeros((4, 4, 4)), name="of another test")
    result = _by_ctest(module)
    assert (result.testsRun, result.errors, result.failures, result.skipped) == (1, [], [], [])
