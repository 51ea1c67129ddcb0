"""`calibrate --folds`: a model calibrated on training cases, too, which networks of folds predicted as new cases."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import compare_baselines
import pytest
from baselines import fold_backbones
from baselines.frozen_backbone import tensors_sha256
from repository import ROOT
from segwithu_command import Command, one_sentence

from SegWithUCore.models.bundle import OPACITY_3D, read_bundle, write_bundle_json
from SegWithUCore.models.bundle_files import check_whole
from SegWithUCore.models.bundle_network import load_network
from SegWithUCore.models.training_record import read_record
from SegWithUCore.network.weights import unique_state
from SegWithULab.calibration import fit_second_stage
from SegWithULab.calibration.cross_validation import Fold
from SegWithULab.training.dataset import Case, find_cases
from SegWithULab.training.recipe import read_recipe
from SegWithULab.training.run_folder import RunFolder
from SegWithULab.training.run_record import hashes_of

SHIPPED = ROOT / "Resources" / "Models" / "hippocampus"
RECIPE = ROOT / "Resources" / "Recipes" / "hippocampus.json"
OWN, FURTHER = 18, 10
SEEN = {"posterior hippocampus": 0.5}


@pytest.fixture
def compare(capfd: pytest.CaptureFixture[str]) -> Command:
    """Run the comparison with baselines in this process."""
    return Command(capfd, compare_baselines.main)


@pytest.fixture(scope="module")
def split(full_data_folder: Path) -> str:
    """The table of the real cases."""
    return str(full_data_folder / "hippocampus" / "split_by_scan.csv")


def table_of(cases: list[Case], target: Path, role: str) -> str:
    """A table of some cases, beside links to their files."""
    for part, which in (("images", "channels"), ("labels", "reference")):
        (target / part).mkdir(exist_ok=True)
        for case in cases:
            source = case.reference if which == "reference" else case.channels[0]
            (target / part / f"{case.name}.nii.gz").symlink_to(source.resolve())
    file = target / f"{role}.csv"
    file.write_text("case,role\n" + "".join(f"{case.name},{role}\n" for case in cases), encoding="utf-8")
    return f"{file}:{role}"


@pytest.fixture(scope="module")
def given(split: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that name own cases, training cases, and two runs, each of which has not seen half of these.

    The runs hold the shipped network: their training takes days, and what is looked at is who predicts what.
    """
    folder = tmp_path_factory.mktemp("folds")
    own, further = find_cases(f"{split}:calibration")[:OWN], find_cases(f"{split}:train")[:FURTHER]
    bundle = read_bundle(SHIPPED)
    network, names = load_network(bundle), [case.name for case in further]
    hashes = {name: sha256 for sha256, name in hashes_of(further, print).items()}
    for number in range(2):
        run = RunFolder(folder / f"fold{number}")
        run.path.mkdir()
        seen = {hashes[name]: name for name in names[number::2]}
        recipe = read_recipe(RECIPE)
        recipe.head["variant"] = bundle.default_head.variant
        run.start(recipe, {"voxels_sha256": {"train": seen}, "ood_reference": None})
        run.save_best("backbone", unique_state(network.backbone))
        run.save_best("head", network.head_state())
        for part in ("backbone", "head"):
            run.write_log(part, [{"epoch": 1, "loss": 1.0}])
        run.add_facts({"backbone_finished": 1, "head_finished": 1})
    runs = [str(folder / "fold0"), str(folder / "fold1")]
    return [
        *("--cases", table_of(own, folder, "calibration")),
        *("--folds", *runs, "--fold-cases", table_of(further, folder, "train")),
    ]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model before it was calibrated."""
    folder = Path(shutil.copytree(SHIPPED, tmp_path_factory.mktemp("plain") / "m"))
    for file in (*folder.glob("graph_*"), *folder.glob("second_stage_context*")):
        file.unlink()
    none = dict.fromkeys(("calibration", "metrics", "graphs"))
    write_bundle_json(replace(read_bundle(folder), display={OPACITY_3D: SEEN}, **none), folder)
    return folder


def test_a_model_is_calibrated_on_cases_of_folds_too(
    plain: Path, given: list[str], tmp_path: Path, segwithu: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_second_stage, "EPOCHS", 1)
    monkeypatch.setattr(fit_second_stage.FittedSecondStage, "helps", True)  # 18 cases and one epoch prove nothing
    target = tmp_path / "m"
    outcome = segwithu("calibrate", "--model", plain, "--no-graphs", "--output", target, *given)
    assert outcome.code == 0, outcome.err
    assert f"{FURTHER} training cases that cross-validation models predicted add" in outcome.out
    made = check_whole(target)
    assert made.calibration is not None
    assert made.display is not None and made.display[OPACITY_3D] == SEEN and "ranking" in made.display
    check = made.calibration["second_stage_check"]
    assert check["out_of_fold"]["cases"] == FURTHER and check["cases"] == OWN
    for block in (made.calibration["flags"], made.calibration["predicted_dice"]["1"]):
        assert (block["cases"], block["cross_validated_cases"]) == (OWN, FURTHER)
    assert made.calibration["volume_interval"]["1"]["cases"] == OWN
    card = (target / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"of {OWN} cases that the network has not been trained with, and " in card
    before, after = read_record(SHIPPED), read_record(target)
    assert before is not None and after is not None and before.roles is not None and after.roles is not None
    assert after.roles["train"] == before.roles["train"]


def test_what_a_model_is_compared_with_learns_from_them_too(
    given: list[str], split: str, tmp_path: Path, compare: Command
) -> None:
    call, folds, output = (
        ["--model", SHIPPED, "--repeats", "1", "--threads", "1"],
        given[2:],
        tmp_path / "o",
    )
    for option, role in (("--cases", "test"), ("--calibration", "calibration")):
        (tmp_path / role).mkdir()
        call += [option, table_of(find_cases(f"{split}:{role}")[:2], tmp_path / role, role)]
    call += ["--baselines", "softmax,image-trees"]
    found = []
    for name, more in (("both", folds), ("alone", [])):
        outcome = compare(*call, *more, "--output", output / name)
        assert outcome.code == 0, outcome.err
        found.append(json.loads((output / name / "baselines.json").read_text(encoding="utf-8")))
        text = (output / name / "baselines.md").read_text(encoding="utf-8")
        assert (f"Fitted on {FURTHER} training cases, too" in text) == (more is folds)
    both, alone = ({row["row"]: row["metrics"] for row in each["rows"]} for each in found)
    assert both["maximum softmax"] == alone["maximum softmax"]
    assert both["boosted trees with the image"] != alone["boosted trees with the image"]
    assert found[0]["folds"] == {"networks": 2, "cases": FURTHER, "rows": ["boosted trees with the image"]}
    assert found[1]["folds"] is None
    one_sentence(compare(*call, *folds[:3], "--output", tmp_path / "none"), "go together", code=2)


def test_a_benchmark_s_test_cases_are_none_that_folds_show_or_know(
    given: list[str], split: str, tmp_path: Path, compare: Command
) -> None:
    further = find_cases(given[-1])[:1]
    for role in ("copied", "calibration", "test"):
        (tmp_path / role).mkdir()
    copied = [Case("a", (tmp_path / "a.nii.gz",), tmp_path / "b.nii.gz")]
    shutil.copy(further[0].channels[0], copied[0].channels[0])
    shutil.copy(further[0].reference, copied[0].reference)
    call = ["--model", SHIPPED, "--repeats", "1", "--output", tmp_path / "o", *given[2:]]
    call += ["--calibration", table_of(find_cases(f"{split}:calibration")[:2], tmp_path / "calibration", "calibration")]
    test = table_of(find_cases(f"{split}:test")[:1], tmp_path / "test", "test")
    learning = ["--baselines", "image-trees"]
    refused = compare(*call, *learning, "--cases", table_of(copied, tmp_path / "copied", "test"))
    one_sentence(refused, "--fold-cases and --cases share 1 case(s)", "such as a", code=2)
    one_sentence(compare(*call, "--baselines", "softmax", "--cases", test), "None of the baselines learns", code=2)
    knowing = RunFolder(Path(given[3]))
    facts = knowing.facts()["voxels_sha256"]
    try:
        knowing.add_facts({"voxels_sha256": facts | {"select": hashes_of(find_cases(test), print)}})
        one_sentence(compare(*call, *learning, "--cases", test), "has seen 1 of the test cases", code=2)
    finally:
        knowing.add_facts({"voxels_sha256": facts})


def test_each_fold_keeps_its_own_network_and_cases(given: list[str], tmp_path: Path) -> None:
    runs = [RunFolder(Path(shutil.copytree(run, tmp_path / Path(run).name))) for run in given[3:5]]
    state = runs[1].load_best("backbone")
    runs[1].save_best("backbone", {name: tensor + 0.01 for name, tensor in state.items()})
    cases = [find_cases(given[-1])[number::2] for number in (1, 0)]
    folds = fold_backbones([Fold(run, own) for run, own in zip(runs, cases, strict=True)])
    assert [fold.cases for fold in folds] == cases
    assert [fold.backbone.sha256 for fold in folds] == [tensors_sha256(dict(run.load_best("backbone"))) for run in runs]
    assert folds[0].backbone.sha256 != folds[1].backbone.sha256


def test_cases_that_are_no_training_cases_are_refused(
    plain: Path, given: list[str], tmp_path: Path, segwithu: Command
) -> None:
    more = ["--fold-cases", given[1]]
    outcome = segwithu("calibrate", "--model", plain, "--output", tmp_path / "m", *given, *more)
    assert f"{OWN} of {OWN} --fold-cases are no training cases" in one_sentence(outcome, code=2)
    assert not (tmp_path / "m").exists()


def test_another_head_is_refused(plain: Path, given: list[str], tmp_path: Path, segwithu: Command) -> None:
    other = RunFolder(tmp_path / "other")
    other.path.mkdir()
    other.start(read_recipe(RECIPE, head={"cross_fit": 2}), {})
    runs = [*given[: given.index("--folds")], "--folds", str(other.path), *given[given.index("--fold-cases") :]]
    outcome = segwithu("calibrate", "--model", plain, "--output", tmp_path / "m", *runs)
    assert "has another head (variant) than the model hippocampus" in one_sentence(outcome, code=2)


@pytest.mark.parametrize(
    ("fact", "words"),
    [
        ({"head_finished": 0}, "The head in {0} is not finished, 1 of 8 epochs are completed"),
        ({"origin": "from elsewhere"}, "The backbone in {0} was not trained by train-backbone"),
        ({"backbone_source": "an nnU-Net"}, "The backbone in {0} was not trained by train-backbone"),
        ({"cases": ["hippocampus_319"]}, "The backbone in {0} was not trained by train-backbone"),
    ],
)
def test_a_network_of_which_nobody_knows_enough_is_refused(
    fact: dict[str, object], words: str, plain: Path, given: list[str], tmp_path: Path, segwithu: Command
) -> None:
    runs = given.index("--folds") + 1
    shutil.copytree(given[runs], tmp_path / "run")
    RunFolder(tmp_path / "run").add_facts(fact)
    call = ["calibrate", "--model", plain, "--output", tmp_path / "m", *given]
    call[call.index(given[runs])] = str(tmp_path / "run")
    outcome = segwithu(*call)
    assert words.format(tmp_path / "run") in one_sentence(outcome, code=outcome.code)
