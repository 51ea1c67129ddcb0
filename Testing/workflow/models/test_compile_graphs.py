"""`segwithu models compile`: graphs of a small model, made without a word to anybody."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from repository import PACKAGES
from safetensors.torch import load_file
from segwithu_command import MODEL, Command, changed_description, one_sentence, refused

from SegWithUCore.inference.engines.choice import is_installed
from SegWithUCore.inference.model import Model
from SegWithUCore.models.bundle import read_bundle, write_bundle_json
from SegWithUCore.models.bundle_network import load_network, write_weights
from SegWithUCore.models.graphs import graphs_lacking
from SegWithUCore.network.weights import unique_state

pytestmark = pytest.mark.skipif(not is_installed("openvino"), reason="openvino is not installed")
WATCHER = """
import atexit, ctypes.util, multiprocessing.process, os, socket, subprocess, sys
def told(what):
    with open(os.environ["WATCHED"], "a") as file:
        file.write(what + "\\n")
def watch(owner, name):
    real = getattr(owner, name)
    def instead(*arguments, **keywords):
        if sys._getframe(1).f_code.co_filename != ctypes.util.__file__:  # reads the list of the system's libraries
            told(f"{owner.__name__}.{name} {arguments[1:2]}")
        return real(*arguments, **keywords)
    setattr(owner, name, instead)
watch(multiprocessing.process.BaseProcess, "start")
watch(socket.socket, "connect")
watch(subprocess.Popen, "__init__")
atexit.register(lambda: told("ended, openvino loaded: " + str("openvino" in sys.modules)))
"""


def test_compiling_sends_nothing_starts_nothing_and_writes_only_the_model(tiny: Path, tmp_path: Path) -> None:
    """OpenVINO's telemetry would report the conversion from a process of its own, and note it in the home folder.

    Where torch is built for CUDA, its import has ctypes look for libdl, by `ldconfig -p`; that is no program of ours.
    """
    model, home, watched = tmp_path / "models" / "tiny", tmp_path / "home", tmp_path / "watched.txt"
    shutil.copytree(tiny, model)
    for folder in (home, tmp_path / "site"):
        folder.mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(WATCHER)
    environment = {key: value for key, value in os.environ.items() if key not in ("CI", "TF_BUILD", "JENKINS_URL")}
    environment |= {name: str(home) for name in ("HOME", "USERPROFILE", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")}
    environment |= {"PYTHONPATH": f"{tmp_path / 'site'}:{PACKAGES}", "WATCHED": str(watched), "TMPDIR": str(tmp_path)}
    call = [sys.executable, "-m", "SegWithUCore.cli", "models", "compile", str(model)]
    run = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "largest differences from torch: logits" in run.stdout
    assert watched.read_text().splitlines() == ["ended, openvino loaded: True"]
    assert list(home.rglob("*")) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "models", "site", "watched.txt"]
    bundle = read_bundle(model)
    assert graphs_lacking(bundle) is None
    window = np.random.default_rng(0).normal(size=(1, *bundle.input.window_zyx)).astype(np.float32)
    both = [np.concatenate(Model(bundle, engine=name).engine.window(window)) for name in ("torch", "openvino")]
    np.testing.assert_allclose(both[1], both[0], rtol=0, atol=1e-4 * np.abs(both[0]).max())


@pytest.mark.slow
def test_a_backbone_rounded_to_float16_is_stored_once_and_so(tiny: Path, tmp_path: Path, segwithu: Command) -> None:
    model = Path(shutil.copytree(tiny, tmp_path / "tiny"))
    bundle = read_bundle(model)
    network = load_network(bundle)
    exact = unique_state(network.backbone)
    rounded = {name: tensor.half().float() for name, tensor in exact.items()}
    for backbone, kind in ((exact, torch.float32), (rounded, torch.float16)):
        digest = write_weights(model, backbone, {bundle.default_head.name: network.head_state()})
        write_bundle_json(replace(bundle, folder=model, weights_sha256=digest), model)
        assert segwithu("models", "compile", model).code == 0
        tensors = load_file(model / "weights.safetensors")
        assert {tensor.dtype for name, tensor in tensors.items() if name.startswith("backbone.")} == {kind}
        largest = max(tensors.values(), key=torch.numel)
        constants = (model / "graph_constants.bin").read_bytes()
        assert all(form.numpy().tobytes() not in constants for form in (largest, largest.float()))
        written = read_bundle(model)
        window = np.random.default_rng(0).normal(size=(1, *bundle.input.window_zyx)).astype(np.float32)
        both = [np.concatenate(Model(written, engine=name).engine.window(window)) for name in ("torch", "openvino")]
        np.testing.assert_allclose(both[1], both[0], rtol=0, atol=1e-4 * np.abs(both[0]).max())


def test_a_model_in_halves_is_not_compiled_silently(tiny: Path, tmp_path: Path, segwithu: Command) -> None:
    model = tmp_path / "models" / "tiny"
    shutil.copytree(tiny, model)
    changed_description(model, "input/precision", "bfloat16")
    one_sentence(segwithu("models", "compile", model), "bfloat16", code=2)
    assert graphs_lacking(read_bundle(model)) is not None


def test_verification_notices_a_changed_graph(tmp_path: Path, segwithu: Command) -> None:
    model = tmp_path / "hippocampus"
    shutil.copytree(MODEL, model)
    with (model / "graph_maps.xml").open("ab") as file:
        file.write(b" ")
    refused(segwithu("models", "verify", model), "damaged-bundle", "graph_maps.xml")
    description = json.loads((model / "bundle.json").read_text(encoding="utf-8"))
    assert sorted(description["graphs"]["files"]) == sorted(path.name for path in model.glob("graph_*"))
