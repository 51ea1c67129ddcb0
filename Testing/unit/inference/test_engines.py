"""Which engine is taken and what is said, and that OpenVINO gives what torch gives."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from repository import PACKAGES, ROOT

from SegWithUCore.api import load_model, segment_image
from SegWithUCore.inference.engines import choice, openvino_engine, openvino_import
from SegWithUCore.inference.engines.base import Engine
from SegWithUCore.inference.engines.compiled_graphs import engine_differences, example_window
from SegWithUCore.inference.engines.openvino_engine import OpenVINOEngine
from SegWithUCore.inference.engines.openvino_import import OpenVINOImportError
from SegWithUCore.inference.model import Model
from SegWithUCore.models.bundle import Bundle, with_head
from SegWithUCore.models.installed import resolve_model
from SegWithUCore.util.errors import InputError, UsageError
from SegWithULab.training.dataset import find_cases

NEAR_TIE = 0.05
"""Difference of the two largest logits below which rounding may decide."""
has_openvino = pytest.mark.skipif(not choice.is_installed("openvino"), reason="openvino is not installed")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return resolve_model("hippocampus")


@pytest.fixture
def computer(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A computer whose packages and card are as asked; engines are loaded as words."""
    facts = SimpleNamespace(installed={"torch", "monai", "openvino"}, card=False, device="cpu", broken=None)

    def openvino(bundle: Bundle) -> str:
        if facts.broken or "openvino" not in facts.installed:
            raise OpenVINOImportError(facts.broken or "openvino is not installed")
        return "openvino"

    def torch(bundle: Bundle, device: str, otherwise: str) -> str:
        if "torch" not in facts.installed:
            raise UsageError(f"The engine torch is needed for '{bundle.name}', but {otherwise}: install it.")
        return f"torch on {device}"

    monkeypatch.setattr(choice, "is_installed", lambda name: name in facts.installed)
    monkeypatch.setattr(choice, "graphics_card", lambda: facts.card)
    monkeypatch.setattr(choice, "choose_device", lambda wanted: facts.device if wanted == "auto" else wanted)
    monkeypatch.setattr(openvino_engine, "OpenVINOEngine", openvino)
    monkeypatch.setattr(choice, "_torch", torch)
    yield facts


def test_auto_takes_the_graphics_card_then_openvino_then_torch(computer: SimpleNamespace, bundle: Bundle) -> None:
    paper = with_head(bundle, "paper")
    assert choice.open_engine(bundle)[0] == "openvino"
    engine, reason = choice.open_engine(paper)
    assert (engine, reason) == ("torch on cpu", "the graphs of 'hippocampus' are of its head 'context', not of 'paper'")
    computer.card, computer.device = True, "cuda"
    assert choice.open_engine(bundle) == ("torch on cuda", "it can use the graphics card")
    assert choice.open_engine(bundle, device="cpu")[0] == "openvino"
    computer.device = "cpu"  # a card that torch cannot use after all
    assert choice.open_engine(bundle)[0] == "openvino"
    assert choice.open_engine(bundle, device="cuda")[0] == "torch on cuda"
    computer.broken = "openvino cannot be imported (OSError: libtbb.so)"
    assert choice.open_engine(bundle) == ("torch on cpu", computer.broken)


def test_a_torch_for_the_card_that_does_not_load_or_lacks_monai_leaves_the_model_to_openvino(
    computer: SimpleNamespace, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    computer.card, computer.device = True, "cuda"
    computer.installed = {"torch", "openvino"}
    assert choice.open_engine(bundle)[0] == "openvino"
    assert choice.open_engine(with_head(bundle, "paper"))[0] == "torch on cuda"
    computer.installed = {"torch", "monai", "openvino"}

    def broken(wanted: str) -> str:
        raise OSError("libcudnn.so.9: cannot open shared object file")

    monkeypatch.setattr(choice, "choose_device", broken)
    assert choice.open_engine(bundle)[0] == "openvino"
    with pytest.raises(OSError, match="libcudnn"):
        choice.open_engine(with_head(bundle, "paper"))


@pytest.mark.parametrize(
    ("engine", "device", "head", "card", "order"),
    [
        ("auto", "auto", None, False, ("openvino", "torch")),
        ("auto", "auto", None, True, ("torch", "openvino")),
        ("auto", "cpu", None, True, ("openvino", "torch")),
        ("auto", "cuda", None, True, ("torch",)),
        ("auto", "auto", "paper", False, ("torch",)),
        ("torch", "cpu", None, False, ("torch",)),
        ("openvino", "auto", None, True, ("openvino",)),
        ("openvino", "mps", None, False, ()),
        ("openvino", "auto", "paper", False, ()),
    ],
)
def test_engines_that_may_run_a_model_in_their_order(
    computer: SimpleNamespace,
    bundle: Bundle,
    engine: str,
    device: str,
    head: str | None,
    card: bool,
    order: tuple[str, ...],
) -> None:
    computer.card = card
    assert choice.engine_order(with_head(bundle, head), engine, device) == order


def test_what_is_missing_is_one_sentence(computer: SimpleNamespace, bundle: Bundle) -> None:
    computer.installed = set()
    with pytest.raises(UsageError, match="torch is needed for 'hippocampus', but it is not installed, and openvino is"):
        choice.open_engine(bundle)
    with pytest.raises(UsageError, match="The engine openvino is not here, for openvino is not installed: pip install"):
        choice.open_engine(bundle, "openvino")
    with pytest.raises(UsageError, match="The engine openvino runs on the CPU, not on 'cuda'"):
        choice.open_engine(bundle, "openvino", "cuda")
    with pytest.raises(UsageError, match="There is no engine 'onnx': choose one of auto, torch, openvino"):
        choice.open_engine(bundle, "onnx")


@pytest.mark.parametrize(
    ("version_file", "drivers", "visible", "expected"),
    [
        ("cuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n", True, None, True),
        ("cuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n", False, None, False),
        ("cuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n", True, "", False),
        ("cuda: Optional[str] = None\nhip: Optional[str] = None\n", True, None, False),
        ("cuda = None\nhip = '6.4.1'\n", True, None, True),
    ],
)
def test_a_card_counts_if_torch_and_a_driver_are_for_it(
    version_file: str,
    drivers: bool,
    visible: str | None,
    expected: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "version.py").write_text(version_file)
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: SimpleNamespace(origin=str(tmp_path / "a.py")))
    monkeypatch.setattr(choice.platform, "system", lambda: "Linux")
    monkeypatch.setattr(choice, "DRIVERS", (str(tmp_path if drivers else tmp_path / "none"),))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert choice.graphics_card() is expected


def test_an_openvino_that_is_broken_or_too_old_is_a_clause(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise OSError("libopenvino.so.2640: cannot open\n shared object file")

    monkeypatch.setattr(openvino_import.importlib, "import_module", broken)
    with pytest.raises(
        OpenVINOImportError, match=r"openvino cannot be imported \(OSError: libopenvino.so.2640: cannot"
    ):
        openvino_import.import_openvino()
    old = SimpleNamespace(__version__="2024.6.0-17404-abc", Core=None)
    monkeypatch.setattr(openvino_import.importlib, "import_module", lambda name: old)
    with pytest.raises(OpenVINOImportError, match=r"openvino 2024.6.0 is too old: 2025.2 or newer"):
        openvino_import.import_openvino()


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> OpenVINOEngine:
    return OpenVINOEngine(bundle)


@has_openvino
class TestOpenVINO:
    def test_it_computes_in_float32_and_gives_what_it_gave_when_it_was_compiled(
        self, bundle: Bundle, engine: OpenVINOEngine
    ) -> None:
        pytest.importorskip("torch")
        identity = engine.identity()
        assert bundle.graphs is not None
        assert (identity["precision"], identity["graphs_sha256"]) == ("float32", bundle.graphs.sha256)
        window = example_window(len(bundle.input.channels), bundle.input.window_zyx)
        found = engine_differences(engine, Model(bundle, engine="torch").engine, window)
        assert set(found) == set(bundle.graphs.largest_difference)
        assert found["logits"] < 0.01 and found["ranking"] < 1e-3

    def test_maps_do_not_depend_on_how_many_voxels_come_at_once(self, engine: OpenVINOEngine) -> None:
        random = np.random.default_rng(1)
        channels = engine.num_classes + engine.response_channels
        chunk = random.normal(size=(channels, openvino_engine.FEW + 5)).astype(np.float32)
        whole, first = engine.maps(chunk, 1.2), engine.maps(chunk[:, :90], 1.2)
        rest = engine.maps(chunk[:, 90:], 1.2)
        for name in ("classes", "runner_up", "calibration", "ranking", "epistemic", "aleatoric"):
            parts = np.concatenate([getattr(first, name), getattr(rest, name)])
            np.testing.assert_allclose(getattr(whole, name), parts, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(whole.sums.expected, (first.sums + rest.sums).expected, rtol=1e-6)
        assert whole.sums.expected.sum() == pytest.approx(chunk.shape[1], rel=1e-5)

    def test_an_answer_that_is_not_finite_is_noticed(self) -> None:
        assert openvino_engine._is_finite(np.full(4, 3e38, np.float32))
        for bad in (np.nan, np.inf, -np.inf):
            assert not openvino_engine._is_finite(np.array([3e38, 3e38, bad], np.float32))

    def test_real_cases_come_out_as_with_torch(self, bundle: Bundle, data_folder: Path) -> None:
        pytest.importorskip("torch")
        cases, results = find_cases(f"{data_folder / 'hippocampus' / 'split.csv'}:test")[:2], []
        for name in ("torch", "openvino"):  # one after the other: both at once take twice the memory
            model = Model(bundle, engine=name)
            results.append([segment_image(case.channels[0], model)._case for case in cases])
        for torch, openvino in zip(*results, strict=True):
            assert openvino.model.engine["name"] == "openvino"
            differing = torch.maps.classes != openvino.maps.classes
            assert differing.mean() <= 1e-5
            chances = [each.maps.error_probability for each in (torch, openvino)]
            assert np.abs(chances[0] - chances[1]).max() < 2e-4  # as in `test_frozen.py`
            wrong = [
                sum(float(each.expected_wrong_mm3 or 0) for each in run.assessed.structures)
                for run in (torch, openvino)
            ]
            assert wrong[1] == pytest.approx(wrong[0], rel=1e-3)

    def test_nan_in_a_window_is_refused(self, bundle: Bundle, engine: Engine) -> None:
        window = np.full((1, *bundle.input.window_zyx), np.nan, np.float32)
        with pytest.raises(InputError, match="The network gives NaN or infinite values"):
            engine.window(window)

    def test_torch_is_neither_imported_to_choose_nor_to_segment(self) -> None:
        sample = ROOT / "Resources" / "SampleData" / "MNI152_T1_1mm.nii.gz"
        code = f"""
import sys
from SegWithUCore.api import load_model, segment_image
model = load_model("hippocampus", device="cpu")
segment_image({str(sample)!r}, model, roi=(-28, -22, -14, 36, 50, 36))
print(model.engine.name, sorted({{"torch", "monai"}} & set(sys.modules)))
"""
        environment = {**os.environ, "PYTHONPATH": str(PACKAGES)}
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert run.stdout.split("\n")[0] == "openvino []"

    def test_the_papers_head_runs_on_torch_and_says_why(self) -> None:
        pytest.importorskip("torch")
        model = load_model("hippocampus", device="cpu", head="paper")
        assert model.engine.name == "torch"
        assert "(the graphs of 'hippocampus' are of its head 'context', not of 'paper')" in model.engine_words


def test_a_model_that_was_calibrated_with_a_gate_is_refused(bundle: Bundle) -> None:
    calibration = {**(bundle.calibration or {}), "gate": {"log_odds": -8.0, "gain": 1.0, "cases": 20}}
    with pytest.raises(InputError) as refusal:
        Model(replace(bundle, calibration=calibration))
    assert refusal.value.code == "other-format-version"
