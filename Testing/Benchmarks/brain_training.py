#!/usr/bin/env python3
"""Train a whole-brain network on images synthesised from label maps (gates 1 to 3 of *The whole brain*).

    export OMP_NUM_THREADS=1 MALLOC_MMAP_THRESHOLD_=8589934592 MALLOC_TRIM_THRESHOLD_=17179869184
    python Testing/Benchmarks/brain_training.py --gate1                # overfit one fixed image in 300 steps
    python Testing/Benchmarks/brain_training.py --hours 2              # train, or go on for so long

Nothing of it belongs to the product before gate 3. Synthesis, mapping of labels and evaluation are those of the
prototype, `../shared/prototypes/synthesis/train.py`; new here: half of the images look like T1, cross-entropy
weighted by the inverse root of each class's size, two convolutions at all levels but the full resolution, averaged
weights, a state that goes on.

Roles: `head_maps` 01 to 16 train, 17 to 20 are held out for the uncertainty; `brains` 1000, 1001, 1002, 1006, 1007
are for decisions, the other ten for figures, to be read once.

The two allocator variables halve the share of time that the kernel takes (27 to 12 %). A step takes 1.0 s of one
thread (AMD EPYC, AVX512_BF16), with `--top 2` 1.6 s. Gate 1 (one T1-like image, 300 steps, learning rate .004): mean
Dice .886 over 30 structures, smallest .827 (cortex); `--top 2` .877, smallest .687 (an accumbens of 58 voxels). So no
class starves, but .9 in each was not reached. Trap: the T1 priors of `head_maps` have 25 columns and do not fit the
48 classes of `generation_classes.npy`; the grey values below are written down by hand.
"""

import argparse
import csv
import importlib.util
import json
import math
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("SEGWITHU_DATA") or ROOT.parent / "shared" / "data").resolve().parent
_place = SHARED / "prototypes" / "synthesis" / "train.py"
_spec = importlib.util.spec_from_file_location("synthesis_prototype", _place)
assert _spec is not None and _spec.loader is not None
prototype = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(prototype)

SHAPE = (80, 96, 80)
"""Voxels of 2 mm: they hold all test brains."""
TRAINING_MAPS, DECISION_BRAINS = 16, 5
T1 = {
    2: 1.0, 25: 0.8, 3: 0.72, 4: 0.22, 5: 0.24, 136: 0.24, 137: 0.24, 7: 0.97, 8: 0.70, 10: 0.86, 11: 0.76, 12: 0.80,
    13: 0.94, 17: 0.73, 18: 0.72, 26: 0.75, 28: 0.92, 30: 0.5, 14: 0.24, 72: 0.24, 15: 0.26, 16: 0.92, 24: 0.22,
    85: 0.8,
}  # fmt: skip
"""Grey values of T1 images by FreeSurfer label of the left side, white matter 1."""


class Synthesiser(prototype.Synthesiser):
    """Draws images of which half look like T1, with wide jitter, and half have random contrasts."""

    always_t1 = False

    def intensities(self):
        mean, deviation = super().intensities()
        if not (self.always_t1 or self.rng.random() < 0.5):
            return mean, deviation
        mean, deviation = mean.numpy().copy(), deviation.numpy().copy()
        shift = self.rng.normal(0, 0.03, len(self.table))
        brightness, contrast = self.u(0.6, 1), self.u(0.7, 1.3)
        left_of = {right: left for left, right in prototype.SIDE_PAIRS.items()}
        for place, label in enumerate(self.table):
            left = left_of.get(label, label)
            if left in T1:
                other = self.table.index(left)
                mean[place] = max(0.02, 0.85 + (T1[left] - 0.85) * contrast + shift[other]) * brightness
                deviation[place] = self.u(0.01, 0.07) if place == other else deviation[other]
        return torch.from_numpy(mean).float(), torch.from_numpy(deviation).float()


class Network(nn.Module):
    """U-Net with added skips; `top` convolutions each way at the full resolution, two below."""

    def __init__(self, base=16, levels=5, most=128, top=1):
        super().__init__()
        widths = [min(base * 2**level, most) for level in range(levels)]
        counts = [top] + [2] * (levels - 1)
        block = prototype.block
        self.down = nn.ModuleList()
        for level, width in enumerate(widths):
            more = counts[level] - (0 if level == 0 and top > 1 else 1)
            first = block(widths[level - 1] if level else 1, width)
            self.down.append(nn.Sequential(first, *[block(width, width) for _ in range(more)]))
        self.reduce = nn.ModuleList([nn.Conv3d(widths[i + 1], widths[i], 1) for i in range(levels - 1)])
        self.up = nn.ModuleList(
            [nn.Sequential(*[block(widths[i], widths[i]) for _ in range(counts[i])]) for i in range(levels - 1)]
        )
        self.head = nn.Conv3d(widths[0], prototype.N_CLASSES, 1)

    forward = prototype.UNet.forward


def loss_of(logits, target):
    """Soft Dice over the classes present plus weighted cross-entropy; also soft Dice and presence of each class."""
    classes = prototype.N_CLASSES
    log_probability = functional.log_softmax(logits.float().flatten(2)[0], 0)
    flat = target.reshape(-1)
    of_target = log_probability.gather(0, flat[None])[0]
    size = torch.bincount(flat, minlength=classes).float()
    overlap = torch.zeros(classes).index_add(0, flat, of_target.exp())
    dice = (2 * overlap + 1) / (log_probability.exp().sum(1) + size + 1)
    weight = (size.clamp_min(1) / size.sum()).rsqrt()
    entropy = (weight * torch.zeros(classes).index_add(0, flat, -of_target)).sum() / (weight * size).sum()
    present = size > 0
    return 1 - dice[present].mean() + entropy, dice.detach(), present


class Training:
    """A network, its average and its optimiser; `state.pt` of a folder goes on."""

    def __init__(self, folder: Path, rate: float, top: int) -> None:
        self.folder, self.rate, self.top = folder, rate, top
        self.network = Network(top=top)
        self.average = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.optimiser = torch.optim.AdamW(self.network.parameters(), rate, weight_decay=1e-4)
        self.steps, self.seconds = 0, 0.0
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "state.pt"
        if self.file.exists():
            state = torch.load(self.file, weights_only=True)
            self.network.load_state_dict(state["net"])
            self.average, self.steps, self.seconds = state["ema"], state["steps"], state["spent"]
            self.optimiser.load_state_dict(state["opt"])

    def step(self, image, target, factor=1.0):
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * factor
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.network(image[None, None])
        loss, dice, present = loss_of(logits, target)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self.steps += 1
        decay = min(0.999, (self.steps + 1) / (self.steps + 10))
        with torch.no_grad():
            for name, tensor in self.network.state_dict().items():
                self.average[name].lerp_(tensor, 1 - decay)
        return loss.item(), dice, present

    def save(self, seconds: float) -> None:
        new = self.file.with_suffix(".new")
        parts = {"net": self.network.state_dict(), "ema": self.average, "opt": self.optimiser.state_dict()}
        torch.save({**parts, "steps": self.steps, "spent": seconds}, new)
        new.replace(self.file)

    def averaged(self) -> Network:
        network = Network(top=self.top)
        network.load_state_dict(self.average)
        return network


def gate_1(training: Training, make: Synthesiser) -> None:
    """Overfit one T1-like image, and write the Dice of each structure."""
    make.always_t1 = True
    image, target = make()
    for number in range(300):
        factor = min(1, (number + 1) / 20) * max(0.05, 0.5 * (1 + math.cos(math.pi * number / 300)))
        loss, dice, present = training.step(image, target, factor)
        if number % 25 == 24:
            print(number + 1, round(loss, 3), "mean soft Dice", round(float(dice[present].mean()), 3), flush=True)
    training.network.eval()
    found = prototype.predict(training.network, image, True).long()
    result = {}
    for number, name in enumerate(prototype.NAMES):
        one, other = found == number, target == number
        if other.any():
            result[name] = round(2 * float((one & other).sum()) / float(one.sum() + other.sum()), 3)
    (training.folder / "gate1.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    print(result)


def train(training: Training, make: Synthesiser, brains: list, hours: float, test_every: int) -> None:
    """Train for so many hours; the state is saved every 10 minutes and at the end."""
    begun = saved = time.time()
    before, sums = training.seconds, []
    with (training.folder / "log.csv").open("a", newline="", encoding="utf-8") as file:
        log = csv.writer(file)
        while time.time() - begun < hours * 3600:
            loss, dice, present = training.step(*make(), min(1, (training.steps + 1) / 200))
            sums.append((loss, float(dice[present].mean())))
            spent = before + time.time() - begun
            if training.steps % 50 == 0:
                mean, sums = np.mean(sums, 0).round(4), []
                print(training.steps, f"{spent / 60:.1f} min", *mean, flush=True)
                log.writerow([training.steps, round(spent), *mean, ""])
            if training.steps % test_every == 0:
                result = prototype.evaluate(training.averaged(), brains, True)
                print("test", training.steps, json.dumps(result), flush=True)
                log.writerow([training.steps, round(spent), "", "", json.dumps(result)])
                file.flush()
            if time.time() - saved > 600:
                training.save(spent)
                saved = time.time()
    training.save(before + time.time() - begun)


def main() -> int:
    """Run a gate, or train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT.parent / "runs" / "brain" / "run")
    parser.add_argument("--gate1", action="store_true")
    parser.add_argument("--hours", type=float, default=2)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--top", type=int, default=1, help="convolutions each way at the full resolution")
    parser.add_argument("--test-every", type=int, default=500, help="steps")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.manual_seed(1)
    maps, table = prototype.load_maps(str(SHARED / "data" / "head_maps"), SHAPE)
    training = Training(options.output, options.rate, options.top)
    make = Synthesiser(maps[:TRAINING_MAPS], table, SHAPE, 1 if options.gate1 else 1000 + training.steps)
    if options.gate1:
        gate_1(training, make)
        return 0
    brains = prototype.load_tests(str(SHARED / "data" / "brains"), SHAPE)[:DECISION_BRAINS]
    train(training, make, brains, options.hours, options.test_every)
    return 0


if __name__ == "__main__":
    sys.exit(main())
