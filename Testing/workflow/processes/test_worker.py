"""The worker computing as a real child process: its events, its results, its errors."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from repository import ROOT
from worker_parent import ON_LINUX, REGION, SAMPLE, Parent, request_of, segment_request

from SegWithUCore.inference.ood_check import input_deviations
from SegWithUCore.io.roi import RegionOfInterest, voxel_box
from SegWithUCore.io.volume import read_image
from SegWithUCore.models.installed import resolve_model
from SegWithUCore.util.errors import code_of
from SegWithUCore.worker.__main__ import failure
from SegWithUCore.worker.check import PACKAGES

# Every attempt to reach a network leaves a trace in a file.
NETWORK_ALARM = """
import os, socket
def _refuse(self, address, *rest):
    with open(os.environ["NETWORK_ALARM"], "a") as file:
        file.write(repr(address) + "\\n")
    raise OSError("no network here")
socket.socket.connect = socket.socket.connect_ex = _refuse
"""


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parent]:
    """One worker for the tests that compute, with an alarm on the network."""
    folder = tmp_path_factory.mktemp("alarm")
    (folder / "sitecustomize.py").write_text(NETWORK_ALARM, encoding="utf-8")
    parent = Parent(folder, NETWORK_ALARM=str(folder / "attempts.txt"))
    parent.alarm = folder / "attempts.txt"  # type: ignore[attr-defined]
    assert parent.event()["event"] == "started"
    yield parent
    parent.end()


@ON_LINUX
def test_started_event_comes_before_any_engine_and_a_check_loads_only_the_one_that_is_needed(warm: Parent) -> None:
    maps = Path(f"/proc/{warm.process.pid}/maps")
    assert "libopenvino" not in maps.read_text(encoding="utf-8")
    checked = warm.ask({"request": "check", "id": "c"})
    assert checked["event"] == "checked"
    assert checked["id"] == "c"
    assert checked["usable"], checked["packages"]
    wanted = [package.name for package in PACKAGES if package.engine in (None, "openvino")]
    assert [entry["name"] for entry in checked["packages"]] == wanted
    assert checked["devices"][0]["name"] == "cpu"
    assert "libopenvino" in maps.read_text(encoding="utf-8")
    assert "libtorch" not in maps.read_text(encoding="utf-8")
    checked = warm.ask(request_of("check", id="t", engine="torch"))
    assert [entry["name"] for entry in checked["packages"]][-2:] == ["torch", "monai"]
    assert checked["usable"], checked["packages"]
    assert "libtorch" in maps.read_text(encoding="utf-8")


def test_two_queued_runs_are_done_in_order_and_the_second_is_warm(warm: Parent, tmp_path: Path) -> None:
    for name in ("first", "second"):
        warm.send(segment_request(tmp_path / name, name))
    first = warm.until(lambda event: event["event"] in ("result", "error"))
    second = warm.until(lambda event: event["event"] in ("result", "error"))
    assert (first[-1]["event"], first[-1]["id"]) == ("result", "first"), first[-1]
    assert (second[-1]["event"], second[-1]["id"]) == ("result", "second"), second[-1]
    assert "loading the model" in [event["stage"] for event in first[:-1]]
    assert "loading the model" not in [event["stage"] for event in second[:-1]]
    assert first[-1]["structures"] == second[-1]["structures"]
    assert {event["id"] for event in second} == {"second"}
    fractions = [event["fraction"] for event in second[:-1]]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert any(event["seconds_left"] is not None for event in second[:-1])
    assert not list(tmp_path.glob(".segwithu-*"))


def test_case_folder_equals_that_of_the_command_line(warm: Parent, tmp_path: Path) -> None:
    image = tmp_path / "Köpfe 頭部 1" / "bild ä.nii.gz"
    image.parent.mkdir()
    shutil.copy(SAMPLE, image)
    answer = warm.ask(segment_request(tmp_path / "Fälle 例" / "case", file=image, include_image=True))
    assert answer["event"] == "result", answer
    from SegWithUCore.cli.__main__ import main

    roi = ",".join(str(n) for n in REGION)
    output = tmp_path / "Kommando"
    call = ["segment", str(image), "--model", "hippocampus", f"--roi={roi}", "--device", "cpu", "--include-image"]
    assert main([*call, "--name", "case", "--output", str(output)]) == 0
    ours, theirs = Path(answer["case"]), output / "case"
    assert sorted(p.name for p in ours.iterdir()) == sorted(p.name for p in theirs.iterdir())
    for path in sorted(theirs.glob("*.n*")):
        mine, other = sitk.ReadImage(str(ours / path.name)), sitk.ReadImage(str(path))
        assert mine.GetOrigin() == other.GetOrigin()
        # Other numbers of threads add up in another order: maps were up to 2e-4 apart between one thread and two.
        np.testing.assert_allclose(*map(sitk.GetArrayFromImage, (mine, other)), rtol=0, atol=1e-3, err_msg=path.name)
    facts = [json.loads((folder / "case.json").read_text(encoding="utf-8")) for folder in (ours, theirs)]
    for entry in facts:
        for changing in ("created", "timings_s", "peak_memory_mb"):
            del entry[changing]
    assert facts[0].keys() == facts[1].keys()
    assert facts[0]["input"] == facts[1]["input"]
    assert answer["engine"] == facts[0]["engine"] == facts[1]["engine"]
    assert [s["voxels"] for s in facts[0]["structures"]] == [s["voxels"] for s in facts[1]["structures"]]
    assert answer["structures"] == facts[0]["structures"]
    call = {"request": "save", "case": str(ours), "files": [""], "reviews": ""}
    saved = warm.ask({**call, "id": 3, "target": str(tmp_path / "saved" / "Kopf 頭部")})
    assert (saved["event"], saved["id"]) == ("saved", 3), saved
    assert main(["check", saved["case"]]) == 0
    refused = warm.ask({**call, "id": 4, "target": saved["case"]})
    assert (refused["event"], refused["kind"], refused["id"]) == ("error", "output", 4)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"files": ["/nowhere/image.nii.gz"]}, "input", "does not exist"),
        ({"files": []}, "usage", "files"),
        ({"files": [str(SAMPLE), str(SAMPLE)]}, "input", "[other-channels]"),
        ({"model": "no such model"}, "usage", "choose one of"),
        ({"device": "abacus"}, "usage", "not available"),
        ({"roi": [900, 0, 0, 10, 10, 10]}, "input", "outside the image"),
        ({"roi": [0, 0, 0, 10, -1, 10]}, "usage", "region of interest"),
        ({"roi": [0, 0, 0]}, "usage", "roi"),
        ({"request": "dance"}, "usage", "different versions"),
        ({"target": str(ROOT / "Resources")}, "output", "exists already"),
    ],
)
def test_bad_request_gives_one_error_and_the_worker_stays(
    warm: Parent, tmp_path: Path, change: dict[str, Any], kind: str, words: str
) -> None:
    call = {**segment_request(tmp_path / "case", "bad"), **change}
    answer = warm.ask(call if "request" in change else request_of("segment", **call))
    assert (answer["event"], answer["kind"], answer["id"]) == ("error", kind, "bad")
    assert words in answer["text"]
    assert answer["details"] is None
    assert not any(tmp_path.iterdir())
    assert warm.ask({"request": "check", "id": 2})["event"] == "checked"


@pytest.mark.parametrize("text", ["\ud800", "/tmp/\ud800x", "n" * 5000], ids=["surrogate", "in a path", "long"])
@pytest.mark.parametrize("field", ["model", "head", "name", "target", "device", "engine", "files"])
def test_a_text_that_can_be_no_name_is_refused(warm: Parent, tmp_path: Path, field: str, text: str) -> None:
    value = [text] if field == "files" else text
    asked = [request_of("segment", **{**segment_request(tmp_path / "case", "bad"), field: value})]
    if field in ("model", "head", "device", "engine"):
        asked.append(request_of("check", **{"id": "bad", "model": "hippocampus", field: value}))
    for request in asked:
        answer = warm.ask(json.dumps(request))  # with escapes, for half a character has no UTF-8
        code = code_of(answer["text"])
        assert (answer["event"], answer["id"], answer["kind"]) == ("error", "bad", "usage")
        assert code == "unusable-request"
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("line", ["this is no JSON", "[1, 2]", '{"id": 3}', '{"request": 7}'])
def test_line_that_is_no_request_gives_one_error(warm: Parent, line: str) -> None:
    answer = warm.ask(line)
    assert answer["event"] == "error" and answer["kind"] in ("usage", "input")


def test_a_segmentation_instead_of_an_image_may_be_insisted_on(warm: Parent, tmp_path: Path) -> None:
    labels = sitk.GetImageFromArray((np.indices((36, 50, 35)).sum(0) % 3).astype(np.uint8))
    sitk.WriteImage(labels, str(tmp_path / "channel_0.nrrd"))
    request = segment_request(tmp_path / "case", roi=None, files=[str(tmp_path / "channel_0.nrrd")])
    answer = warm.ask(request)
    assert (answer["kind"], answer["refused"]) == ("input", True)
    assert "3 different values only" in answer["text"] and "--" not in answer["text"]
    (found,) = (each for each in answer["warnings"] if each["severity"] == "refused")
    assert (found["kind"], found["message"]) == ("grey values", answer["text"])


def test_both_sides_of_a_whole_head_are_found_and_nothing_is_said_of_its_size(warm: Parent, tmp_path: Path) -> None:
    answer = warm.ask(segment_request(tmp_path / "case", roi=None))
    assert answer["event"] == "result"
    assert len(answer["structures"]) == 5
    assert "field of view" not in {entry["kind"] for entry in answer["warnings"]}
    image = voxel_box(RegionOfInterest.of(REGION), read_image(SAMPLE)).crop(read_image(SAMPLE))
    # The sample is an average of 152 heads: smoother than any of them, which is worth a note but no warning.
    for change, expected in ((1, {"note"}), (-1, {"note", "warning"})):
        found = input_deviations([image * change], resolve_model("hippocampus"))
        assert {entry.severity for entry in found} == expected


def test_predicted_working_grid_is_the_one_that_preprocessing_makes() -> None:
    from SegWithUCore.inference.preprocessing import to_working_grid, working_size
    from SegWithUCore.io.grid import VoxelGrid
    from SegWithUCore.io.volume import reorient
    from SegWithUCore.models.installed import resolve_model

    spec = resolve_model("hippocampus").input
    image = sitk.Image([31, 22, 9], sitk.sitkFloat32)
    image.SetSpacing([0.7, 1.3, 3.1])
    image.SetDirection([0, 0.1, 0.995, -1, 0, 0, 0, -0.995, 0.1])
    upright = VoxelGrid.of(image).axes_after(lambda one: reorient(one, spec.orientation))
    assert working_size(upright, spec)[0] == to_working_grid(image, spec).GetSize()


def test_nothing_reached_for_a_network(warm: Parent) -> None:
    assert warm.ask({"request": "check", "id": 1})["usable"]
    assert not warm.alarm.exists()  # type: ignore[attr-defined]


def test_what_runs_out_of_memory_is_called_so() -> None:
    errors = [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    ]
    assert [failure(error)["kind"] for error in errors] == ["memory"] * 3
    other = failure(RuntimeError("shapes differ"))
    assert other["kind"] == "unexpected"
    assert other["details"] is not None
