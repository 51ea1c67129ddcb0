"""A network that draws nothing, and one that draws everything: warned of first wherever the model or its cases show."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from safetensors.torch import load_file, save_file
from segwithu_command import MODEL, Command, Outcome
from toy_models import registered_toys, write_toy_bundle

from SegWithUCore.case.case_file import read_case
from SegWithUCore.models.bundle import file_sha256, read_bundle, write_bundle_json
from SegWithUCore.models.quality import EMPTY_KIND, QUALITY_KIND, model_warnings

CALIBRATION, SEGMENTED = 10, 2


def biased(target: Path, bias: float) -> Path:
    """The shipped network, not calibrated, with flattened logits and this much more for the background."""
    target.mkdir()
    bundle, tensors = read_bundle(MODEL), load_file(MODEL / "weights.safetensors")
    for part in ("weight", "bias"):
        tensors[f"backbone.output_block.conv.conv.{part}"] *= 0.1
    tensors["backbone.output_block.conv.conv.bias"][0] += bias
    save_file(tensors, target / "weights.safetensors")
    plain = replace(
        bundle,
        heads=(replace(bundle.default_head, calibration=None, display=None, metrics=None),),
        weights_sha256=file_sha256(target / "weights.safetensors"),
        ood_reference={**(bundle.ood_reference or {}), "volumes_mm3": {}},
        **dict.fromkeys(("calibration", "metrics", "display", "graphs", "placement")),
    )
    write_bundle_json(plain, target)
    return target


def table_of(folder: Path, data: Path, role: str, count: int) -> str:
    """A table of so many cases of a role, in a folder of their images and references."""
    with (data / "split.csv").open(encoding="utf-8", newline="") as file:
        names = [row["case"] for row in csv.DictReader(file) if row["role"] == role][:count]
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
        for name in names:
            (folder / part / f"{name}.nii.gz").symlink_to(data / part / f"{name}.nii.gz")
    return str(folder)


def first_line(outcome: Outcome) -> str:
    assert outcome.code == 0, outcome.err
    return outcome.out.splitlines()[0]


@pytest.mark.slow
@pytest.mark.parametrize(("bias", "draws_nothing"), [(4.0, True), (-4.0, False)])
def test_a_useless_network_is_named_first_everywhere(
    bias: float, draws_nothing: bool, full_data_folder: Path, tmp_path: Path, segwithu: Command
) -> None:
    data, model, seg = full_data_folder / "hippocampus", tmp_path / "model", tmp_path / "seg"
    plain = biased(tmp_path / "plain", bias)
    cases = table_of(tmp_path / "calibration", data, "calibration", CALIBRATION)
    made = segwithu("calibrate", "--model", plain, "--cases", cases, "--output", model, "--no-graphs")
    bundle = read_bundle(model)
    (warning, *others) = model_warnings(bundle)
    assert first_line(made) == f"Warning: {warning}"
    quality = (bundle.calibration or {})["quality"]
    assert {entry["missed"] for entry in quality.values()} == {CALIBRATION if draws_nothing else 0}
    shown = segwithu("models", "show", model)
    assert shown.code == 0, shown.err
    for card in (shown.out, (model / "MODEL_CARD.md").read_text(encoding="utf-8")):
        assert card.split("\n\n")[1] == f"**Warning: {warning}**"

    images = table_of(tmp_path / "test", data, "test", SEGMENTED)
    done = segwithu("segment", f"{images}/images", "--each", "--model", model, "--output", seg)
    assert done.code == 0
    assert done.err.count(f"Warning: {warning}") == SEGMENTED
    for folder in sorted(seg.glob("hippocampus_*")):
        case = read_case(folder)
        kinds = [entry["kind"] for entry in case["ood"]["warnings"] if entry["severity"] == "warning"]
        expected = [QUALITY_KIND] * (1 + len(others)) + [EMPTY_KIND] * (2 if draws_nothing else 0)
        assert kinds[: len(expected)] == expected
        assert case["flags"][0]["rule"] == "model"
        report = segwithu("report", folder)
        assert report.code == 0
        page = (folder / "report.html").read_text(encoding="utf-8")
        assert page.index("does not draw" if draws_nothing else "too poor") < page.index('class="lead"')
    index = (seg / "index.html").read_text(encoding="utf-8")
    assert f"{SEGMENTED} do not use" in index
    assert index.index("does not draw" if draws_nothing else "too poor") < index.index('class="lead"')

    listed = segwithu("worklist", seg, "--output", tmp_path / "list")
    assert listed.messages[0] == f"Warning: {warning}"
    assert f"{SEGMENTED} do not use" in listed.out
    assert json.loads((tmp_path / "list" / "worklist.json").read_text(encoding="utf-8"))["warnings"][0] == warning
    with (tmp_path / "list" / "worklist.csv").open(encoding="utf-8", newline="") as file:
        assert all(row["flags"].startswith("model") and warning in row["reasons"] for row in csv.DictReader(file))
    pages = segwithu("export", seg, "--page", "--without-image", "--output", tmp_path / "pages")
    assert pages.code == 0, pages.err
    for page in (tmp_path / "pages").glob("case-*.html"):
        text = page.read_text(encoding="utf-8")
        assert '"level": "do not use", "reason": "The model does not draw a structure' in text
        assert ('"Nothing was drawn of the anterior hippocampus' in text) is draws_nothing
    index = (tmp_path / "pages" / "index.html").read_text(encoding="utf-8")
    assert index.index("does not draw a structure, or too poorly") < index.index('class="lead"')

    measured = segwithu("evaluate", "--model", model, "--cases", images)
    assert measured.code == 0
    assert "Not calibrated" not in measured.out
    assert ("ECE near the surface -;" in measured.out) is draws_nothing


def test_an_empty_segmentation_of_a_model_that_knows_no_case_is_flagged(tmp_path: Path, segwithu: Command) -> None:
    image = tmp_path / "dark.nii.gz"
    dark = np.random.default_rng(0).uniform(0, 0.3, (12, 12, 12)).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(dark), str(image))
    with registered_toys():
        write_toy_bundle(tmp_path / "toy", "local", (8, 8, 8))
        outcome = segwithu("segment", image, "--model", tmp_path / "toy", "--output", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    case = read_case(tmp_path / "out" / "dark")
    (warning,) = [entry for entry in case["ood"]["warnings"] if entry["kind"] == EMPTY_KIND]
    assert (warning["severity"], warning["structure"]) == ("warning", 1)
    assert (case["flags"][0]["rule"], case["flags"][0]["structure"]) == ("empty structure", "class 1")
    assert case["light"] == {"level": "do not use", "reason": case["flags"][0]["message"]}
