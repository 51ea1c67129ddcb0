"""What a training is fed: recipes, case lists, and windows that follow from (seed, epoch, case) alone."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from repository import PACKAGES, ROOT
from training_runs import Workshop, tiny_recipe

from SegWithUCore.models.input_spec import InputSpec
from SegWithUCore.util.errors import InputError, UsageError
from SegWithUCore.util.strict_json import check_schema, schema
from SegWithULab.training.augmentation import WindowSampler, augmentation, epoch_order, random_window
from SegWithULab.training.dataset import PreparedCase, check_channels, find_cases, left_right_axis, prepare
from SegWithULab.training.recipe import BackboneTraining, HeadTraining, read_recipe, read_recipe_json

WINDOW = (24, 32, 24)
RECIPE_SCHEMA = PACKAGES / "SegWithULab" / "training" / "recipe.schema.json"
BUNDLE_SCHEMA = PACKAGES / "SegWithUCore" / "models" / "bundle.schema.json"


@pytest.fixture(scope="module")
def workshop(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(data_folder, tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def cases(workshop: Workshop) -> list[PreparedCase]:
    spec = InputSpec.from_json(tiny_recipe()["input"] | {"normalisation": {"kind": "volume"}})
    return [prepare(case, spec, [0, 1, 2]) for case in find_cases(f"{workshop.table}:train")[:3]]


def sampler(cases: list[PreparedCase], seed: int = 3, transformed: bool = True) -> WindowSampler:
    return WindowSampler(cases, WINDOW, seed, augmentation(2) if transformed else None)


@pytest.mark.parametrize("transformed", [True, False])
def test_seed_epoch_and_case_determine_the_window(transformed: bool, cases: list[PreparedCase]) -> None:
    first, second = sampler(cases, transformed=transformed), sampler(cases, transformed=transformed)
    for epoch in range(3):  # other draws in between must not matter
        second.window_of(epoch, 1)
    np.random.rand(5)
    torch.rand(5)
    for key, tensor in first.window_of(7, 2).items():
        assert torch.equal(tensor, second.window_of(7, 2)[key]), key


@pytest.mark.parametrize("transformed", [True, False])
def test_another_epoch_case_or_seed_gives_another_window(transformed: bool, cases: list[PreparedCase]) -> None:
    base = sampler(cases, transformed=transformed)
    image = base.window_of(0, 0)["image"]
    assert not torch.equal(image, base.window_of(1, 0)["image"])
    assert not torch.equal(image, base.window_of(0, 1)["image"])
    assert not torch.equal(image, sampler(cases, seed=4, transformed=transformed).window_of(0, 0)["image"])


def test_every_epoch_visits_every_case_once_in_its_own_order() -> None:
    orders = [epoch_order(3, epoch, 20) for epoch in range(5)]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert len({tuple(order) for order in orders}) == 5
    assert epoch_order(3, 2, 20) == orders[2]


def marked_case(shape: tuple[int, int, int]) -> PreparedCase:
    """Every voxel has its own value, and labels follow it."""
    image = np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(1, *shape)
    return PreparedCase("marked", image, (image[0] % 3).astype(np.int16), (1, 1, 1), tuple(map(float, shape[::-1])))


@pytest.mark.parametrize("shape", [(10, 40, 24), (30, 33, 25), (5, 6, 7)])
def test_image_labels_and_validity_stay_together_and_padding_is_zero(shape: tuple[int, int, int]) -> None:
    case = marked_case(shape)
    starts = set()
    for seed in range(20):
        window = random_window(case, WINDOW, np.random.default_rng(seed))
        image, valid = window["image"], window["valid"]
        assert image.shape == (1, *WINDOW)
        assert torch.equal(valid > 0, image > 0)
        assert torch.equal(window["labels"], (image % 3) * valid)
        assert int(valid.sum()) == np.prod(np.minimum(shape, WINDOW))
        starts.add(float(image[image > 0][0]) + float(torch.nonzero(image)[0].sum()) * 1e6)
    assert len(starts) > 5  # places differ


def test_augmentation_keeps_padding_zero_and_labels_whole(cases: list[PreparedCase]) -> None:
    for epoch in range(6):
        window = sampler(cases).window_of(epoch, epoch % 3)
        assert (window["image"][window["valid"] == 0] == 0).all()
        assert set(window["labels"].unique().tolist()) <= {0.0, 1.0, 2.0}
        assert set(window["valid"].unique().tolist()) <= {0.0, 1.0}
        assert torch.isfinite(window["image"]).all()


@pytest.mark.parametrize(("orientation", "axis"), [("RAS", 2), ("LPS", 2), ("ARS", 1), ("SPL", 0)])
def test_mirroring_exchanges_left_and_right_and_nothing_else(orientation: str, axis: int) -> None:
    assert left_right_axis(orientation) == axis


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"backbone_training": {"epochs": 2, "learnign_rate": 1}},
            "at backbone_training: .*'learnign_rate'",
        ),
        ({"head_training": {"moments": 3}}, "at head_training: .*'moments'"),
        ({"labels": None}, "at labels: None is not of type 'array'; see Resources/Recipes for a complete one"),
        ({"input": {"channels": ["T1"]}}, "does not fit a recipe at input: 'modality' is a required"),
        ({"heads": {}}, "at the top level: .*'heads'"),
        ({"backbone": {"kind": "dynunet", "filter": [4]}}, r"at backbone: .*'filter'"),
        ({"backbone": {"kind": "dynunet"}}, r"at backbone: 'filters' is a required property"),
        ({"backbone": {"kind": "nnunet", "filters": [4]}}, "at backbone: .*'filters'"),
        ({"backbone": {"model": "brain"}}, r'takes its backbone from the model "brain": only train-head can'),
        ({"head": {"variant": "paper"}}, r"at head: 'taps' is a required property"),
        ({"backbone_training": {"any_turn": "no"}}, r"at backbone_training/any_turn: 'no' is not of type 'boolean'"),
        ({"head_training": {"mirror": 1}}, r"at head_training/mirror: 1 is not of type 'boolean'"),
        ({"head_training": {"epochs": 2.5}}, r"at head_training/epochs: 2.5 is not of type 'integer'"),
        ({"head_training": {"precision": "half"}}, r"at head_training/precision: 'half' is not one of"),
    ],
)
def test_a_wrong_field_of_a_recipe_is_one_clear_sentence(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(tiny_recipe() | change), encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read_recipe(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_schema_of_recipes_names_every_setting_and_no_other() -> None:
    blocks = json.loads(RECIPE_SCHEMA.read_text(encoding="utf-8"))["properties"]
    for block, kind in (("backbone_training", BackboneTraining), ("head_training", HeadTraining)):
        assert blocks[block]["properties"].keys() == {field.name for field in fields(kind)}
    of_bundle = json.loads(BUNDLE_SCHEMA.read_text(encoding="utf-8"))["properties"]["heads"]["items"]["properties"]
    for field, wanted in blocks["head"]["properties"].items():
        assert wanted.get("type", of_bundle[field].get("type")) == of_bundle[field].get("type")


@pytest.mark.parametrize("place", ["Resources", "Testing/Benchmarks/acdc", "examples/brainchop"])
def test_every_recipe_of_the_repository_fits_the_schema(place: str) -> None:
    found = sorted((ROOT / place).glob("[Rr]ecipes/*.json"))
    assert found
    for path in found:
        check_schema(read_recipe_json(path), schema(RECIPE_SCHEMA), str(path), "correct it")


def test_a_recipe_that_is_missing_or_no_json_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_recipe(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="is not valid JSON"):
        read_recipe(tmp_path / "broken.json")


def test_cases_in_both_train_and_select_are_refused(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    assert workshop.train("backbone", "shared", cases="select") == 2
    error = capsys.readouterr().err
    assert f"such as {workshop.names[6]}, are in --cases and --select" in error


def test_an_unknown_role_or_folder_lists_what_there_is(workshop: Workshop, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no case with role 'test': choose one of calibration, select, train"):
        find_cases(f"{workshop.table}:test")
    with pytest.raises(UsageError, match="no case with role 'selct': choose one of"):  # of several, each must be there
        find_cases(f"{workshop.table}:calibration+selct")
    with pytest.raises(UsageError, match="does not exist"):
        find_cases(str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="has no folder labelsTr"):
        find_cases(str(tmp_path))


def test_a_channel_that_was_not_fetched_is_refused_by_name(tmp_path: Path) -> None:
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    (tmp_path / "images" / "a_0000.nii.gz").touch()
    (tmp_path / "images" / "a_0001.nii.gz").symlink_to("../.git/annex/gone")
    (tmp_path / "labels" / "a.nii.gz").touch()
    with pytest.raises(InputError) as refusal:
        find_cases(str(tmp_path))
    assert refusal.value.code == "link-to-nothing"
    assert "a_0001.nii.gz" in str(refusal.value)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
def test_split_tables_are_read_as_spreadsheets_save_them(delimiter: str, encoding: str, tmp_path: Path) -> None:
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
        for name in ("Jäger 1", "b"):
            (tmp_path / part / f"{name}.nii.gz").touch()
    rows = [["case", "role", "patient"], ["Jäger 1", "train", "7"], ["b", "select", "8"], ["", "", ""]]
    text = "\r\n".join(delimiter.join(row) for row in rows)
    (tmp_path / "split.csv").write_bytes(text.encode(encoding))
    (case,) = find_cases(f"{tmp_path / 'split.csv'}:train")
    assert (case.name, case.patient) == ("Jäger 1", "7")


def test_a_table_without_its_columns_or_with_a_case_twice_is_one_clear_sentence(tmp_path: Path) -> None:
    table = tmp_path / "split.csv"
    table.write_text("name;part\na;train\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"split.csv begins with 'name;part' and needs the columns 'case', 'role'"):
        find_cases(f"{table}:train")
    table.write_text("case,role\na,train\nb,train\na,select\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"split.csv has 1 case\(s\) more than once, such as a"):
        find_cases(f"{table}:train")


def test_a_case_with_too_few_channels_is_named_before_any_image_is_read(workshop: Workshop) -> None:
    spec = InputSpec.from_json(tiny_recipe()["input"] | {"channels": ["T1", "T2"]})
    cases = find_cases(f"{workshop.table}:train")
    with pytest.raises(InputError, match=rf"Case {cases[0].name} has 1 image file\(s\) .*T1, T2.*_0001"):
        check_channels(cases, spec)


def test_nnunet_folders_are_found_with_and_without_channel_numbers(tmp_path: Path) -> None:
    for part, names in {"imagesTr": ["a_0000", "a_0001", "b"], "labelsTr": ["a", "b"]}.items():
        (tmp_path / part).mkdir()
        for name in names:
            (tmp_path / part / f"{name}.nii.gz").touch()
    found = find_cases(str(tmp_path))
    assert [case.name for case in found] == ["a", "b"]
    assert [path.name for path in found[0].channels] == ["a_0000.nii.gz", "a_0001.nii.gz"]
    (tmp_path / "imagesTr" / "b.nii.gz").unlink()
    with pytest.raises(InputError, match="has no image of case b"):
        find_cases(str(tmp_path))


def test_a_label_that_the_recipe_does_not_name_is_refused(workshop: Workshop) -> None:
    case = find_cases(f"{workshop.table}:train")[0]
    spec = InputSpec.from_json(tiny_recipe()["input"])
    with pytest.raises(InputError, match=r"holds the label 2, which the recipe does not name"):
        prepare(case, spec, [0, 1])
