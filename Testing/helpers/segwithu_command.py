"""The `segwithu` command as its users call it, tiny model bundles, and what every refusal must look like.

No torch at file scope: many tests need none.
"""

import contextlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
from repository import ROOT

from SegWithUCore.cli.__main__ import main
from SegWithUCore.models.bundle import Bundle, HeadSpec, read_bundle, with_head, write_bundle_json
from SegWithUCore.network.specs import dynunet_spec
from SegWithUCore.util.errors import code_of

MODEL = ROOT / "Resources" / "Models" / "hippocampus"
MODEL_VERSION = json.loads((MODEL / "bundle.json").read_text(encoding="utf-8"))["about"]["version"]
SAMPLE = ROOT / "Resources" / "SampleData" / "MNI152_T1_1mm.nii.gz"
SAMPLE_ROI = "--roi=-28,-22,-14,36,50,36"
WINDOW = (36, 52, 36)
PATIENCE_S = 300.0
"""How long a process that should have ended is waited for: no measure, a busy machine takes its time."""
_PROGRESS = re.compile(r"^.+: +\d+% [a-z ]+(, .*)?$")


@dataclass(frozen=True)
class Outcome:
    """What a call of the command left: exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def messages(self) -> list[str]:
        """The lines of stderr that are no progress."""
        return [line for line in self.err.splitlines() if line and not _PROGRESS.match(line)]

    @property
    def errors(self) -> list[str]:
        """Those of the messages that say what failed, without warnings and flags of cases."""
        return [line for line in self.messages if line.startswith("segwithu: ")]

    @property
    def error_codes(self) -> list[str]:
        """The error codes in stderr, in order, such as `truncated-file`."""
        return [code_of(line) for line in self.messages if code_of(line)]

    @property
    def events(self) -> list[dict[str, object]]:
        """Stdout as JSON lines; fails where a line is anything else."""
        return [json.loads(line) for line in self.out.splitlines()]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: enough for a tiny network, and quicker where the machine is busy."""
    torch = sys.modules.get("torch")
    if torch is None:  # whoever loads it finds `OMP_NUM_THREADS`
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Command:
    """Runs the command in this process, with everything it prints (the C libraries' stderr too) caught."""

    def __init__(self, capture: "pytest.CaptureFixture[str]", main: Callable[[Sequence[str]], int] = main) -> None:
        self._capture, self._main = capture, main

    def __call__(self, *arguments: str | Path) -> Outcome:
        """Run `segwithu ARGUMENTS...`."""
        self._capture.readouterr()
        handler = signal.getsignal(signal.SIGTERM)
        try:
            with one_thread():
                code = self._main([str(argument) for argument in arguments])
        except SystemExit as error:  # argparse
            code = int(error.code or 0)
        finally:
            signal.signal(signal.SIGTERM, handler)
        caught = self._capture.readouterr()
        return Outcome(code, caught.out, caught.err)

    def segment(self, *arguments: str | Path, model: Path = MODEL, output: Path) -> Outcome:
        """Run `segwithu segment ARGUMENTS... --model MODEL --output OUTPUT`."""
        return self("segment", *arguments, "--model", model, "--output", output)


def child(
    *arguments: str | Path, program: Sequence[str] = ("-m", "SegWithUCore.cli"), **options: object
) -> "subprocess.Popen[str]":
    """Start the command as a process of its own."""
    call = [sys.executable, *program, *(str(argument) for argument in arguments)]
    return subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **{"cwd": ROOT, **options})  # type: ignore[call-overload]


def finished(process: "subprocess.Popen[str]", within_s: float, already_read: str = "") -> Outcome:
    """Wait for a child; returns what it left."""
    try:
        out, err = process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        pytest.fail(f"the command was still running after {within_s} s: {err}")
    return Outcome(process.returncode, out, already_read + err)


def one_sentence(outcome: Outcome, *words: str, code: int = 1) -> str:
    """Check that a call failed with one clear sentence that holds all `words`; returns the sentence."""
    assert outcome.code == code, f"exit code {outcome.code}, printed {outcome.err}"
    assert len(outcome.messages) == 1, f"not one line: {outcome.messages}"
    code_at_end = re.compile(r" \[[a-z0-9-]+\]$")
    sentence = code_at_end.sub("", outcome.messages[0])
    assert sentence.startswith("segwithu: "), sentence
    assert sentence.endswith((".", ".)")), f"no full stop: {sentence}"
    assert "segwithu: unexpected " not in sentence, f"the last resort: {sentence}"
    assert not re.search(r"[a-z)']\. [A-Z]", sentence), f"more than one sentence: {sentence}"
    for word in words:
        assert word in sentence, f"'{word}' is missing in: {sentence}"
    assert outcome.out == "", f"results printed: {outcome.out}"
    return sentence


def refused(outcome: Outcome, error_code: str, *named: str | Path, code: int = 1) -> None:
    """Check that a call failed with one error of this code whose message names all of `named`, whatever its wording."""
    assert outcome.code == code, f"exit code {outcome.code}, printed {outcome.err}"
    assert outcome.error_codes == [error_code], f"printed {outcome.err}"
    for name in named:
        assert str(name) in outcome.err, f"{name} is not named: {outcome.err}"


def entries(folder: Path) -> list[str]:
    """Everything in a folder at any depth, hidden or not; empty where the folder does not exist."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def real_image(data_folder: Path) -> Path:
    """A real T1 crop (uint8, 33 x 48 x 34 voxels of 1 mm)."""
    return data_folder / "hippocampus" / "images" / "hippocampus_319.nii.gz"


def write(image: sitk.Image, path: Path, compressed: bool = True) -> Path:
    """Write an image without the header entries that only the format it came from knows."""
    plain = sitk.Image(image)
    for key in plain.GetMetaDataKeys():
        plain.EraseMetaData(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(plain, str(path), useCompression=compressed)
    return path


def _without_second_stage(calibration: Mapping[str, Any]) -> dict[str, Any]:
    return {name: block for name, block in calibration.items() if not name.startswith("second_stage")}


def tiny_bundle(
    folder: Path, channels: Sequence[str] = ("T1",), calibrated: bool = True, absent: int | None = None
) -> Path:
    """Write a bundle with random weights that knows the real one's structures; `real_image` fits into one window.

    Args:
        calibrated: as the real model's paper head is, without its second stage, or not at all.
        absent: index of a class that the network never predicts.
    """
    import torch

    from SegWithUCore.models.bundle_network import empty_network, write_weights
    from SegWithUCore.network.weights import unique_state

    folder.mkdir(parents=True)
    real = with_head(read_bundle(MODEL), "paper")
    backbone = dynunet_spec(len(channels), len(real.labels), [4, 4, 8])
    taps = ("upsamples.0.conv_block", "upsamples.1.conv_block", "output_block")
    bundle = Bundle(
        folder=None,
        about={**real.about, "name": folder.name},
        input=replace(real.input, channels=tuple(channels), window=WINDOW),
        labels=real.labels,
        backbone=backbone,
        heads=(HeadSpec("paper", "paper", taps, 8, 4, aleatoric=True),),
        weights_sha256="0" * 64,
        calibration=_without_second_stage(real.calibration or {}) if calibrated else None,
    )
    torch.manual_seed(0)
    with one_thread():
        network = empty_network(bundle)
    state = unique_state(network.backbone)
    if absent is not None:
        state["output_block.conv.conv.bias"][absent] = -1e3
    written = write_weights(folder, state, {"paper": network.head_state()})
    write_bundle_json(replace(bundle, weights_sha256=written), folder)
    return folder


def changed_description(folder: Path, place: str, value: object) -> None:
    """Set the entry of `bundle.json` at `place` ("input/window") to `value`, or remove it where that is Ellipsis."""
    path = folder / "bundle.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    block = data
    *steps, last = place.split("/")
    for step in steps:
        block = block[int(step)] if isinstance(block, list) else block[step]
    if value is ...:
        del block[last]
    else:
        block[int(last) if isinstance(block, list) else last] = value
    path.write_text(json.dumps(data), encoding="utf-8")
