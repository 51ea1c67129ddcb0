"""Model bundles: whole ones are listed, shown and verified; whatever is damaged is named, and nothing is segmented."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from segwithu_command import (
    MODEL,
    PATIENCE_S,
    SAMPLE,
    Command,
    changed_description,
    child,
    entries,
    finished,
    one_sentence,
    real_image,
    refused,
    tiny_bundle,
)

from SegWithUCore.models.bundle import block_sha256, file_sha256, read_bundle, write_bundle_json

WEIGHTS = "weights.safetensors"


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    """A copy of the bundle to be damaged."""
    return Path(shutil.copytree(tiny, tmp_path / "models" / "tiny"))


def _set(place: str, value: object) -> Callable[[Path], None]:
    return lambda folder: changed_description(folder, place, value)


def _text(content: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / "bundle.json").write_bytes(content)

    return damage


def _table(**columns: object) -> Callable[[Path], None]:
    """Change columns of the error-probability table, with the hash that belongs to the change."""

    def damage(folder: Path) -> None:
        block = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))["calibration"]
        block["error_probability"].update(columns)
        changed_description(folder, "calibration", block)
        changed_description(folder, "calibration_sha256", block_sha256(block))

    return damage


def _flip(share: float) -> Callable[[Path], None]:
    """Flip one bit of the weights file."""

    def damage(folder: Path) -> None:
        content = bytearray((folder / WEIGHTS).read_bytes())
        content[int((len(content) - 1) * share)] ^= 1
        (folder / WEIGHTS).write_bytes(content)

    return damage


def _cut_weights(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def _cut_weights_with_their_hash(folder: Path) -> None:
    _cut_weights(folder)
    changed_description(folder, "weights_sha256", file_sha256(folder / WEIGHTS))


DAMAGES: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "no JSON": (_text(b'{"format_version": 1,'), ("bundle.json is not valid JSON", "restore")),
    "no UTF-8": (_text(b"\xff\xfe{}"), ("bundle.json is not valid JSON", "restore")),
    "nested without end": (_text(b"[" * 100_000), ("bundle.json is nested more than 100 levels", "restore")),
    "a list": (_text(b"[]"), ("bundle.json does not fit the bundle format", "restore")),
    "unknown field": (_set("figgures", 1), ("bundle.json does not fit", "'figgures'")),
    "unknown field deeper": (_set("input/windows", 1), ("bundle.json does not fit", "at input", "'windows'")),
    "missing field": (_set("input/window", ...), ("bundle.json does not fit", "at input", "'window'")),
    "wrong kind": (_set("input/window", "big"), ("bundle.json does not fit", "input/window", "'big'")),
    "later format": (_set("format_version", 2), ("bundle.json does not fit", "format_version")),
    "axes": (_set("input/orientation", "RRS"), ("bundle.json", "RRS", "one letter of each")),
    "window": (_set("input/window", [35, 52, 36]), ("bundle.json", "[35, 52, 36]", "input/window")),
    "channels": (_set("input/channels", ["T1", "T2"]), ("tiny", "T1, T2", "bundle.json")),
    "labels": (_set("labels/2/value", 1), ("bundle.json", "[0, 1, 1]")),
    "no default head": (_set("heads/0/default", False), ("bundle.json", "one default")),
    "backbone kind": (_set("backbone/kind", "unet9"), ("'unet9'", "dynunet")),
    "backbone argument": (_set("backbone/arguments/size", 3), ("'dynunet'", "'size'")),
    "backbone 2D": (_set("backbone/arguments/spatial_dims", 2), ("tiny", "bundle.json")),
    "variant": (_set("heads/0/variant", "other"), ("'other'", "paper")),
    "tap": (_set("heads/0/taps/0", "nowhere"), ("'nowhere'", "input_block")),
    "probes": (_set("heads/0/probes", 5), (WEIGHTS, "do not fit", "expected")),
    "calibration": (_set("calibration/cases", 28), ("bundle.json", "does not match its hash")),
    "calibration hash": (_set("calibration_sha256", None), ("bundle.json", "does not match its hash")),
    "short table": (_table(ranking=[0.0, 1.0]), ("bundle.json", "[2, 200]", "calibration")),
    "falling table": (_table(ranking=[1.0, 0.0], probability=[0.0, 1.0]), ("bundle.json", "error_probability/ranking")),
    "falling chances": (
        _table(ranking=[0.0, 1.0], probability=[1.0, 0.0]),
        ("bundle.json", "error_probability/probability"),
    ),
    "bit at the start": (_flip(0), (WEIGHTS, "damaged or was changed", "SHA-256")),
    "bit in the middle": (_flip(0.5), (WEIGHTS, "damaged or was changed", "SHA-256")),
    "bit at the end": (_flip(1), (WEIGHTS, "damaged or was changed", "SHA-256")),
    "cut weights": (_cut_weights, (WEIGHTS, "damaged or was changed", "SHA-256")),
    "cut weights, hash of them": (_cut_weights_with_their_hash, (WEIGHTS, "not a whole safetensors file")),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), (WEIGHTS, "does not exist")),
}

ONLY_LOADING_TELLS = {"channels", "backbone kind", "backbone argument", "backbone 2D", "variant", "tap", "probes"}
"""What fits the format and the weights file, but no network: told by `models verify --load` and before segmenting."""


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_bundle_is_named_and_nothing_is_segmented(
    kind: str, segwithu: Command, copy: Path, data_folder: Path, tmp_path: Path
) -> None:
    damage, words = DAMAGES[kind]
    damage(copy)
    one_sentence(segwithu.segment(real_image(data_folder), model=copy, output=tmp_path / "results"), *words)
    assert not (tmp_path / "results").exists()
    one_sentence(segwithu("models", "verify", copy, "--load"), *words)
    if kind not in ONLY_LOADING_TELLS:
        one_sentence(segwithu("models", "verify", copy), *words)


@pytest.mark.skipif(os.name != "posix", reason="pipes that lie in a folder")
@pytest.mark.parametrize("file", ["bundle.json", WEIGHTS])
def test_a_pipe_in_a_bundle_is_refused_and_not_waited_for(file: str, copy: Path, data_folder: Path) -> None:
    (copy / file).unlink()
    os.mkfifo(copy / file)
    output = copy.parent / "results"
    process = child("segment", real_image(data_folder), "--model", copy, "--output", output)
    refused(finished(process, PATIENCE_S), "unusable-input", copy / file)
    assert not output.exists()


def test_verify_names_a_part_without_weights(segwithu: Command, copy: Path) -> None:
    tensors = load_file(copy / WEIGHTS)
    save_file({name: tensor for name, tensor in tensors.items() if name.startswith("backbone.")}, copy / WEIGHTS)
    changed_description(copy, "weights_sha256", file_sha256(copy / WEIGHTS))
    one_sentence(segwithu("models", "verify", copy), WEIGHTS, "no weights of 'heads.paper'")


def test_unknown_model_is_named_with_those_that_exist(segwithu: Command, data_folder: Path, tmp_path: Path) -> None:
    for model, words in ((Path("liver"), "liver"), (tmp_path, str(tmp_path))):
        call = (real_image(data_folder), "--model", model, "--output", tmp_path / "results")
        sentence = one_sentence(segwithu("segment", *call), "hippocampus", "folder of a bundle", code=2)
        assert words.lower() in sentence.lower()
        one_sentence(segwithu("models", "show", model), "hippocampus", code=2)
    assert entries(tmp_path) == []


@pytest.fixture
def user_models(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own folder with a whole bundle and a damaged one."""
    folder = tmp_path / "my models"
    for name in ("tiny", "torn"):
        shutil.copytree(tiny, folder / name)
    changed_description(folder / "torn", "about/name", "torn")
    monkeypatch.setenv("SEGWITHU_MODELS", str(folder))
    return folder


def test_models_of_the_box_and_of_the_user_are_listed(segwithu: Command, user_models: Path) -> None:
    outcome = segwithu("models", "list")
    assert (outcome.code, outcome.err) == (0, "")
    assert [line.split()[0] for line in outcome.out.splitlines()[2:]] == ["brain", "hippocampus", "tiny", "torn"]
    told = segwithu("models", "list", "--json").events
    assert [model["name"] for model in told[0]["models"]] == ["brain", "hippocampus", "tiny", "torn"]  # type: ignore[attr-defined]


def test_list_names_a_damaged_model_beside_the_whole_ones(segwithu: Command, user_models: Path) -> None:
    (user_models / "torn" / "bundle.json").write_text("{")
    outcome = segwithu("models", "list")
    assert outcome.code == 1
    assert [line.split()[0] for line in outcome.out.splitlines()[2:]] == ["brain", "hippocampus", "tiny"]
    assert len(outcome.messages) == 1
    assert outcome.messages[0].startswith(f"segwithu: {user_models / 'torn' / 'bundle.json'} is not valid JSON")


def test_a_folder_of_models_that_may_not_be_read_is_passed_over_with_a_warning(
    segwithu: Command, tmp_path: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    monkeypatch.setenv("SEGWITHU_MODELS", str(closed))
    usual = Path.iterdir

    def forbidden(path: Path) -> Iterator[Path]:
        if path == closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return usual(path)

    monkeypatch.setattr(Path, "iterdir", forbidden)  # tests run as root, whom no permission stops
    for call in (("models", "list"), ("models", "verify")):
        outcome = segwithu(*call)
        assert outcome.code == 0
        assert "hippocampus" in outcome.out
        assert outcome.messages == [
            f"Warning: the folder of models {closed} is passed over, for it cannot be read (Permission denied)."
        ]
    segmented = segwithu.segment(real_image(data_folder), model=Path("hippocampus"), output=tmp_path / "out")
    assert segmented.code == 0
    assert any(str(closed) in message for message in segmented.messages)
    one_sentence(segwithu("models", "show", "liver"), "liver", str(closed), code=2)


def test_verify_loads_every_model_and_names_the_damaged_one(segwithu: Command, user_models: Path) -> None:
    for options in ((), ("--load",)):
        outcome = segwithu("models", "verify", *options)
        assert outcome.out.splitlines() == ["brain: whole", "hippocampus: whole", "tiny: whole", "torn: whole"]
    _flip(0.7)(user_models / "torn")
    for call in (("models", "verify"), ("models", "verify", "--load")):
        outcome = segwithu(*call)
        assert outcome.code == 1
        assert outcome.out.splitlines() == ["brain: whole", "hippocampus: whole", "tiny: whole"]
        assert len(outcome.messages) == 1
        assert str(user_models / "torn" / WEIGHTS) in outcome.messages[0]


def test_model_of_the_user_is_found_by_name_and_segments(
    segwithu: Command, user_models: Path, data_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "results"
    assert segwithu.segment(real_image(data_folder), model=Path("torn"), output=output).code == 0
    case = json.loads((output / "hippocampus_319" / "case.json").read_text(encoding="utf-8"))
    assert case["model"]["name"] == "torn"


def test_show_says_what_the_model_in_the_box_knows(segwithu: Command) -> None:
    bundle = read_bundle(MODEL)
    outcome = segwithu("models", "show", "hippocampus")
    assert (outcome.code, outcome.err) == (0, "")
    words = ["T1", "anterior hippocampus", "CC-BY-SA", "Antonelli", bundle.about["version"]]
    assert [word for word in words if word not in outcome.out] == []
    data = segwithu("models", "show", "hippocampus", "--json").events[0]
    assert data.pop("event") == "result"
    assert data == json.loads((MODEL / "bundle.json").read_text(encoding="utf-8"))


def test_show_says_that_a_model_is_not_calibrated(segwithu: Command, tmp_path: Path) -> None:
    assert "not calibrated" in segwithu("models", "show", tiny_bundle(tmp_path / "raw", calibrated=False)).out


def _exchanged(boxes: list[dict[str, Any]]) -> None:
    for box in boxes:
        box["side"] = {"left": "right", "right": "left"}[box["side"]]


PLACEMENTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "exchanged boxes": lambda block: _exchanged(block["boxes"]),
    "a side twice": lambda block: block["boxes"][1].update(side="left"),
    "a box twice": lambda block: block["boxes"].__setitem__(1, block["boxes"][0]),
    "left on the right": lambda block: block["boxes"][0].update(centre_ras_mm=[24.8, -23.3, -12.7]),
    "one box, on the other side": lambda block: (_exchanged(block["boxes"]), block["boxes"].pop()),
    "far away": lambda block: block["boxes"][0].update(centre_ras_mm=[-1e9, -23.3, -12.7]),
    "no least similarity": lambda block: block.update(least_similarity=0),
    "no least Dice": lambda block: block.update(least_dice=0),
}


@pytest.fixture
def placing(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A copy of the model of the hippocampi, and its block `placement`."""
    folder = Path(shutil.copytree(MODEL, tmp_path / "placing"))
    return folder, json.loads((folder / "bundle.json").read_text(encoding="utf-8"))["placement"]


def _all_refuse(segwithu: Command, folder: Path, code: str, output: Path) -> None:
    for call in (("models", "import", folder), ("models", "verify", folder),
                 ("segment", SAMPLE, "-m", folder, "-o", output)):  # fmt: skip
        refused(segwithu(*call), code, folder / "bundle.json")
    assert not output.exists()


@pytest.mark.parametrize("kind", PLACEMENTS)
def test_boxes_that_cannot_be_right_are_refused_though_their_hash_fits(
    kind: str, placing: tuple[Path, dict[str, Any]], segwithu: Command, tmp_path: Path
) -> None:
    """Exchanged boxes exchange left and right in every case, and nothing in a case shows it."""
    folder, block = placing
    PLACEMENTS[kind](block)
    changed_description(folder, "placement", block)
    changed_description(folder, "placement_sha256", block_sha256(block))
    code = "unusable-input" if kind in ("far away", "no least similarity", "no least Dice") else "damaged-bundle"
    _all_refuse(segwithu, folder, code, tmp_path / "results")


def test_boxes_have_a_hash_which_older_bundles_lack(
    placing: tuple[Path, dict[str, Any]], segwithu: Command, tmp_path: Path
) -> None:
    folder, block = placing
    written = write_bundle_json(read_bundle(folder), folder)
    assert json.loads((folder / "bundle.json").read_text(encoding="utf-8")) == json.loads(
        (MODEL / "bundle.json").read_text(encoding="utf-8")
    )
    block["boxes"][0]["centre_ras_mm"][0] -= 3
    changed_description(folder, "placement", block)
    _all_refuse(segwithu, folder, "damaged-bundle", tmp_path / "results")
    changed_description(folder, "placement", ...)
    _all_refuse(segwithu, folder, "damaged-bundle", tmp_path / "results")
    changed_description(folder, "placement", asdict(written.placement))
    changed_description(folder, "placement_sha256", ...)
    assert read_bundle(folder).placement == written.placement
