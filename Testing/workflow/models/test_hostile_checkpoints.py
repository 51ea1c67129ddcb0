"""Files of PyTorch that hold code, or are cut: refused with one code, and nothing of them is run."""

import functools
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunet_results import CONFIGURATION, plans, settings, write_result_folder
from segwithu_command import Command, entries, one_sentence

from SegWithUCore.network.weights import load_plain
from SegWithUCore.util.errors import InputError


class Runs:
    """Unpickling this would call a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def traps(mark: Path) -> dict[str, Any]:
    """Objects that would leave `mark`, or are no weights."""
    code = f"open({str(mark)!r}, 'w')"
    return {
        "os.system": Runs(os.system, f"touch {mark}"),
        "exec": Runs(exec, code),
        "eval": Runs(eval, code),
        "partial": functools.partial(Path.touch, mark),
        "getattr": Runs(getattr, {}, "clear"),
        "array": np.zeros(3),
        "object array": np.array([{}], dtype=object),
        "object scalar": Runs(np.float64(0).__reduce__()[0], np.dtype("O"), b"x"),
        "path": mark,
    }


def refusal(file: Path) -> str:
    """The sentence that refuses a file."""
    with pytest.raises(InputError) as caught:
        load_plain(file, "ask for weights alone")
    assert caught.value.code == "unusable-weights"
    assert str(file) in str(caught.value) and "ask for weights alone" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("way", ["zip", "legacy", "plain pickle"])
@pytest.mark.parametrize("kind", list(traps(Path("x"))))
def test_code_in_a_file_is_refused_and_not_run(kind: str, way: str, tmp_path: Path) -> None:
    mark, file = tmp_path / "ran", tmp_path / "evil.pth"
    trap = traps(mark)[kind]
    if way == "plain pickle":
        file.write_bytes(pickle.dumps({"trap": trap}, protocol=2))
    else:
        content = {"network_weights": {"a": torch.zeros(2)}, "trap": trap}
        torch.save(content, file, _use_new_zipfile_serialization=way == "zip")
    assert "weights_only" not in refusal(file)
    assert not mark.exists()


BUILD = b"\x80\x02cos\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02Rq\x03}q\x04b."
INST, OBJ, EXTENSION = b"(S'true'\nios\nsystem\n.", b"(cos\nsystem\nS'true'\no.", b"\x80\x02\x82\x01."


@pytest.mark.parametrize("content", [BUILD, INST, OBJ, EXTENSION], ids=["build", "inst", "obj", "extension"])
def test_code_by_other_instructions_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "evil.pth").write_bytes(content)
    refusal(tmp_path / "evil.pth")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_cut_file_is_refused_and_a_whole_one_is_read(legacy: bool, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"a": torch.arange(100.0)}, file, _use_new_zipfile_serialization=not legacy)
    whole = file.read_bytes()
    assert load_plain(file, "ask")["a"].tolist() == list(range(100))
    for length in (0, 20, len(whole) // 2, len(whole) - 20):
        file.write_bytes(whole[:length])
        refusal(file)
    file.write_text("what is this?")
    refusal(file)


def test_an_archive_that_unpacks_without_end_is_refused_before_it_does(tmp_path: Path) -> None:
    file = tmp_path / "bomb.pth"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"\x80\x02X\x00\x00\x80\x01" + b"a" * (24 << 20) + b".")
    assert "unpacks from" in refusal(file)


def test_a_program_of_torchscript_is_refused(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "net.pt"))
    refusal(tmp_path / "net.pt")


PLANS: dict[str, tuple[dict[str, Any], str]] = {
    "spacing 0": ({"spacing": [0, 1, 1]}, "spacing/0: 0 is less than the minimum of 0.001"),
    "spacing huge": ({"spacing": [1, 1, 1e308]}, "spacing/2"),
    "order 99": ({"resampling_fn_data_kwargs": {"order": 99}}, "resampling_fn_data_kwargs/order: 99"),
    "patch": ({"patch_size": [10**9, 8, 8]}, "patch_size/0"),
    "patch of parts": ({"patch_size": [8.5, 8, 8]}, "patch_size/0"),
    "masks": ({"use_mask_for_norm": []}, "use_mask_for_norm"),
    "schemes": ({"normalization_schemes": ["NoNormalization"] * 2}, "at normalization_schemes"),
}
NETWORK: dict[str, Any] = {
    "strides": [[0, 0, 0]] * 4,
    "kernel_sizes": [[99, 3, 3]] * 4,
    "features_per_stage": [10**7] * 4,
    "n_stages": 10**6,
    "n_conv_per_stage": [10**6] * 4,
    "nonlin": None,
}


@pytest.mark.parametrize("kind", [*PLANS, *NETWORK])
def test_an_absurd_entry_of_the_plans_is_named_as_the_plans_name_it(
    kind: str, segwithu: Command, tmp_path: Path
) -> None:
    folder, data = write_result_folder(tmp_path / "n"), plans()
    changes, words = PLANS.get(kind, ({}, f"architecture/arch_kwargs/{kind}"))
    settings(data).update(changes)
    if kind in NETWORK:
        settings(data)["architecture"]["arch_kwargs"][kind] = NETWORK[kind]
    (folder / "plans.json").write_text(json.dumps(data), encoding="utf-8")
    outcome = segwithu("import-nnunet", folder, "--output", tmp_path / "out" / "bundle")
    sentence = one_sentence(outcome, str(folder / "plans.json"), words)
    assert ".segwithu-" not in sentence
    assert CONFIGURATION in sentence or kind == "schemes"
    assert entries(tmp_path / "out") == []
