"""A head and an export of somebody else's package, which pip installs: trained, used, exported, refused."""

import csv
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from exchanged_cases import CASES
from plugin_packages import install_plugin, write_package
from segwithu_command import MODEL, Command, changed_description, real_image, refused
from training_runs import Workshop, tiny_recipe

from SegWithUCore.case.case_file import read_case
from SegWithUCore.cli.__main__ import main
from SegWithUCore.models.bundle import read_bundle

NAME, VERSION = "segwithu-example", "1.0"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_plugin(tmp_path_factory.mktemp("site"))


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package can be imported during the test."""
    monkeypatch.syspath_prepend(site)
    yield site
    for name in [name for name in sys.modules if name.startswith(("segwithu_example", "other_heads"))]:
        del sys.modules[name]


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for packages that are written by hand."""
    monkeypatch.syspath_prepend(tmp_path / "other")
    return tmp_path / "other"


@pytest.fixture(scope="module")
def bundle(site: Path, data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose head is the package's, trained and calibrated by the commands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        shop = Workshop(data_folder, tmp_path_factory.mktemp("shop"))
        brief = {"epochs": 2, "validate_every": 2, "warmup_steps": 1}
        recipe = tiny_recipe(head={"variant": "entropy"}, backbone_training=brief, head_training={"epochs": 1})
        assert shop.train("backbone", "run", recipe=recipe) == 0
        assert shop.train("head", "run") == 0
        cases = ["--cases", f"{shop.table}:calibration", "--threads", "1"]
        target = shop.folder / "model"
        assert main(["calibrate", "--run", str(shop.folder / "run"), *cases, "--output", str(target)]) == 0
    return target


@pytest.mark.slow
def test_a_trained_head_names_its_package_in_bundle_card_and_case(
    installed: Path, bundle: Path, segwithu: Command, data_folder: Path, tmp_path: Path
) -> None:
    (head,) = read_bundle(bundle).heads
    assert head.plugin is not None
    assert (head.variant, head.plugin.name, head.plugin.version) == ("entropy", NAME, VERSION)
    assert f"{NAME} {VERSION}" in (bundle / "MODEL_CARD.md").read_text(encoding="utf-8")
    outputs = {engine: tmp_path / engine for engine in ("torch", "openvino")}
    for engine, output in outputs.items():
        call = (real_image(data_folder), "--engine", engine)
        assert segwithu.segment(*call, model=bundle, output=output).code == 0
        (case,) = output.iterdir()
        assert read_case(case)["model"]["plugin"] == {"name": NAME, "version": VERSION}
    assert segwithu("check", outputs["torch"]).code == 0
    assert segwithu("export", outputs["torch"], "--anonymous", "--output", tmp_path / "sent").code == 0
    assert read_case(tmp_path / "sent" / "case-001")["model"]["plugin"] == {"name": NAME, "version": VERSION}


@pytest.mark.slow
def test_without_the_package_torch_refuses_and_compiled_graphs_run(
    bundle: Path, segwithu: Command, data_folder: Path, tmp_path: Path
) -> None:
    call, output = (real_image(data_folder), "--engine"), tmp_path / "out"
    refused(segwithu.segment(*call, "torch", model=bundle, output=output), "needs-package", NAME, "pip install", code=2)
    assert not any(output.glob("*"))
    assert segwithu.segment(*call, "openvino", model=bundle, output=output).code == 0


@pytest.mark.slow
def test_a_package_of_another_name_or_version_does_not_take_the_place_in_silence(
    bundle: Path, other: Path, segwithu: Command, data_folder: Path, tmp_path: Path, installed: Path
) -> None:
    shutil.copytree(installed / "segwithu_example", other / "segwithu_example")
    point = "entropy = segwithu_example.head:ENTROPY"
    sys.path.remove(str(installed))
    write_package(other, "other-heads", heads=point)
    call, output = (real_image(data_folder), "--engine", "torch", "--resume"), tmp_path / "out"
    outcome = segwithu.segment(*call, model=bundle, output=output)
    refused(outcome, "needs-package", NAME, "other-heads", code=2)
    shutil.rmtree(other / "other-heads-2.0.dist-info")
    write_package(other, NAME, VERSION, heads=point)
    assert segwithu.segment(*call, model=bundle, output=output).code == 0
    shutil.rmtree(other / f"{NAME}-{VERSION}.dist-info")
    write_package(other, NAME, "1.1", heads=point)
    outcome = segwithu.segment(*call, model=bundle, output=output)
    assert (outcome.code, outcome.error_codes) == (1, ["case-outdated"]), outcome.err
    outcome = segwithu.segment(*call, "--overwrite", model=bundle, output=output)
    (case,) = [path for path in output.iterdir() if path.is_dir()]
    assert outcome.code == 0
    assert read_case(case)["model"]["plugin"]["version"] == "1.1"
    assert any("1.1 is installed" in warning["message"] for warning in read_case(case)["ood"]["warnings"])


def test_the_export_has_its_options_and_its_table(
    installed: Path, segmented_cases: Path, segwithu: Command, tmp_path: Path
) -> None:
    shown = segwithu("export", "--help").out
    assert "--volumes" in shown and "with --volumes: digits" in shown
    outcome = segwithu("export", segmented_cases, "--volumes", "--digits", "3", "--output", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    with (tmp_path / "out" / "volumes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    structures = [(name, each) for name in CASES for each in read_case(segmented_cases / name)["structures"][1:]]
    wanted = [[name, each["name"], str(round(each["volume_mm3"], 3))] for name, each in structures]
    assert rows == [["case", "structure", "volume_mm3"], *wanted]
    refused(
        segwithu("export", segmented_cases, "--digits", "3", "--output", tmp_path / "x"),
        "contradicting-options", "--digits", "--volumes", code=2,
    )  # fmt: skip
    both = ("--volumes", "--bids", "--output", tmp_path / "x")
    refused(segwithu("export", segmented_cases, *both), "contradicting-options", "--bids", code=2)


BROKEN = {
    "cannot be imported": ("broken-plugin", "volumes = other_heads:X", "import no_such_package", "no_such_package"),
    "is none": ("broken-plugin", "volumes = other_heads:X", "X = 5", "int"),
    "has options of others": (
        "broken-plugin",
        "volumes = other_heads:X",
        "import segwithu\nX = segwithu.ExportFormat('x', print, {'--flagged': {'help': 'x'}})",
        "--flagged",
    ),
    "is called as ours": ("two-plugins", "bids = other_heads:X", "", "segwithu and other-heads 2.0"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_an_export_that_is_broken_or_clashes_is_refused_and_stops_no_other(
    kind: str, other: Path, segmented_cases: Path, segwithu: Command, tmp_path: Path
) -> None:
    code, point, module, named = BROKEN[kind]
    write_package(other, "other-heads", code=module, exports=point)
    try:
        call = ("export", segmented_cases / CASES[0], "--output", tmp_path / "out")
        name = point.split()[0]
        refused(segwithu(*call, f"--{name}"), code, named, name, "other-heads 2.0", code=2)
        assert not (tmp_path / "out").exists()
        assert named in " ".join(segwithu("export", "--help").out.split())
        assert segwithu(*call).code == 0
    finally:
        sys.modules.pop("other_heads", None)


def test_heads_that_are_broken_or_clash_are_refused_and_stop_no_other(
    installed: Path, other: Path, segwithu: Command, data_folder: Path, tmp_path: Path
) -> None:
    """The shipped model's second head is run by torch: whose name nobody else uses."""
    image, model = real_image(data_folder), tmp_path / "model"
    shutil.copytree(MODEL, model)
    points = "entropy = other_heads:X\nbroken = other_heads:X\ncontext = other_heads:X"
    write_package(other, "other-heads", code="X = 5", heads=points)

    def with_variant(variant: str, *options: str) -> tuple[int, list[str], str]:
        heads = json.loads((model / "bundle.json").read_text(encoding="utf-8"))["heads"]
        number = next(number for number, head in enumerate(heads) if head["name"] == "paper")
        changed_description(model, f"heads/{number}/variant", variant)
        call = (image, "--head", "paper", "--engine", "torch", *options)
        outcome = segwithu.segment(*call, model=model, output=tmp_path / variant)
        return outcome.code, outcome.error_codes, outcome.err

    code, found, said = with_variant("broken")
    assert (code, found) == (2, ["broken-plugin"])
    assert "other-heads 2.0" in said and "broken = other_heads:X" in said
    for variant, packages in (("entropy", f"other-heads 2.0 and {NAME} {VERSION}"), ("context", "segwithu and other")):
        code, found, said = with_variant(variant)
        assert (code, found) == (2, ["two-plugins"])
        assert packages in said
    code, found, said = with_variant("nobody")
    assert code == 1 and "entropy" in said
    assert with_variant("paper")[0] == 0
    (case,) = (tmp_path / "paper").iterdir()
    assert "plugin" not in read_case(case)["model"]


@pytest.mark.parametrize("name", ["x; rm -rf", "--index-url=http://x", "", "a/b"])
def test_a_bundle_names_no_command_in_place_of_a_package(name: str, tmp_path: Path, segwithu: Command) -> None:
    shutil.copytree(MODEL, tmp_path / "model")
    plugin = {"name": name, "version": "1.0", "description": "x", "ranking": "x"}
    changed_description(tmp_path / "model", "heads/0/plugin", plugin)
    outcome = segwithu("models", "verify", tmp_path / "model")
    assert outcome.code == 1
    assert "heads/0/plugin/name" in outcome.err
