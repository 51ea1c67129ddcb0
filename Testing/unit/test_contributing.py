"""The examples of CONTRIBUTING.md do what they say: each is run as it stands there."""

import csv
import json
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from baseline_cases import toy_backbone, toy_case
from baselines import select_baselines
from baselines.base import BASELINES, BaselineInputs
from baselines.benchmark import prediction_metrics
from repository import ROOT
from toy_models import ToyBackbone, registered_toys

from SegWithUCore.cli.__main__ import main
from SegWithUCore.cli.export import FORMATS
from SegWithUCore.network.heads import HEADS
from SegWithUCore.network.segwithu import SegWithU
from SegWithUCore.network.specs import HEAD_TEXT

STEPS = 30


@pytest.fixture(autouse=True)
def registries_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What an example registers is gone after its test."""
    registries: tuple[dict[str, Any], ...] = (HEADS, HEAD_TEXT, BASELINES, FORMATS)
    for registry in registries:
        for name, entry in list(registry.items()):
            monkeypatch.setitem(registry, name, entry)
    kept = [dict(registry) for registry in registries]
    yield
    for registry, entries in zip(registries, kept, strict=True):
        for name in set(registry) - set(entries):
            del registry[name]


def run_example(heading: str) -> dict[str, Any]:
    """Run the code under a heading as a module; returns its names."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    module = types.ModuleType(f"example_{heading.replace(' ', '_').lower()}")
    sys.modules[module.__name__] = module
    exec(compile(code, f"CONTRIBUTING.md, {heading}", "exec"), module.__dict__)
    return vars(module)


def test_the_head_is_trained_and_gives_maps() -> None:
    run_example("Adding a head")
    torch.manual_seed(0)
    network = SegWithU(ToyBackbone(True), ["output"], torch.zeros(1, 1, 8, 8, 8), "entropy", features=4)
    image, labels = torch.rand(2, 1, 8, 8, 8), torch.randint(4, (2, 1, 8, 8, 8))
    optimiser = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=0.03)
    losses = []
    for _ in range(STEPS):
        logits, maps = network(image)
        loss = HEADS["entropy"].loss(logits, maps, labels, torch.ones_like(labels), torch.Generator())
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
        losses.append(float(loss.total.detach()))
    assert losses[-1] < losses[0] - 0.05  # labels are random, so most of it stays
    with torch.no_grad():
        logits, maps = network.eval()(image)
    assert logits.shape == (2, 4, 8, 8, 8)
    for found in (maps.ranking, maps.calibration):
        assert found.shape == (2, 1, 8, 8, 8)
        assert torch.isfinite(found).all()
    assert float(maps.calibration.min()) >= 0


def test_the_baseline_is_selected_by_its_name_and_scores_a_case(tmp_path: Path) -> None:
    run_example("Adding a baseline")
    with registered_toys():
        backbone = toy_backbone(tmp_path / "frozen")
        case = toy_case(backbone)
        chosen = select_baselines(["random"], BaselineInputs(backbone))
        (built,) = chosen.baselines
        (answer,) = built.answers(case).values()
    everywhere = {"whole": None, "band": np.ones(case.classes.shape, bool)}
    assert 0.4 < prediction_metrics(answer, case, everywhere)["auroc whole"] < 0.6
    assert list(BASELINES)[-1] == "random"
    assert chosen.not_run == {}


def test_the_export_writes_a_table_by_its_option(tmp_path: Path) -> None:
    run_example("Adding an export format")
    structures = [{"value": 1, "name": "left", "volume_mm3": 12.5}, {"value": 2, "name": "right", "volume_mm3": 0.0}]
    case = {"format": "segwithu-case", "format_version": 1, "name": "one", "structures": structures}
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "case.json").write_text(json.dumps(case), encoding="utf-8")
    assert main(["export", str(tmp_path / "one"), "--volumes", "--output", str(tmp_path / "out")]) == 0
    with (tmp_path / "out" / "volumes.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            ["case", "structure", "volume_mm3"],
            ["one", "left", "12.5"],
            ["one", "right", "0.0"],
        ]
