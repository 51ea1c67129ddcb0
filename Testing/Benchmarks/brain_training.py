#!/usr/bin/env python3
"""Train a whole-brain network on images synthesised from label maps (gates 1 to 3 of *The whole brain*).

    export OMP_NUM_THREADS=1 MALLOC_MMAP_THRESHOLD_=8589934592 MALLOC_TRIM_THRESHOLD_=17179869184
    python Testing/Benchmarks/brain_training.py --gate1                # overfit one fixed image in 300 steps
    python Testing/Benchmarks/brain_training.py --hours 2              # train, or go on for so long
    python Testing/Benchmarks/brain_training.py --hours 9 --processes 2 --fall   # gradients averaged, rate to 0
    python Testing/Benchmarks/brain_training.py --weights FILE --until 10000 --images 2 --rate .002 --hours 8
    python Testing/Benchmarks/brain_training.py --test                 # Dice on the decision brains
    python Testing/Benchmarks/brain_training.py --export brain.pt      # for `import-checkpoint --kind weights`

Classes and synthesis are those of `Resources/Recipes/brain.json`. Half of the images look like T1, windows of two
sizes alternate, weights are averaged, a state goes on. The curve is `results/brain_training.csv`.

What changed it most (mean Dice over the ten structures of gate 3, five decision brains at 2 mm):
- Cross-entropy weighted by the inverse root of each class's size let small structures learn at all, but drew them two
  to four times too large (step 2000: .696, with the weights taken out of the logits .715). Plain from step 2376 on.
- The average of weights over 1,000 steps lagged behind; over 200 (step 3460): .753, the weights as they are .731.
- Trained with windows of 80 x 96 x 80 alone, windows of 96 x 112 x 96 found deep structures worse (pallidum .67 >
  .57 at 1 mm): instance norms see another share of background. Both sizes by turns from step 4350 on: .785 at 4500.
- The rate fell from .003 to 0 from step 7055 to 9372, the last 54 minutes: .817 (7000), .831 (8500). The weights of the
  end (model 1.0.0), at 1 mm by the product: .833.

**Order of axes.** States hold kernels along x, y, z, as the first trainings had them; the product has z, y, x.
`--export` turns the kernels, so that the product runs the same function.

Roles: `head_maps` 01 to 16 train, 17 chooses the head's epoch, 18 to 20 calibrate; `brains` 1000, 1001, 1002, 1006,
1007 are for decisions, the other ten for figures, to be read once.

The two allocator variables halve the share of time that the kernel takes (27 to 12 %). A step takes 1.0 s of one
thread (AMD EPYC, AVX512_BF16), with two convolutions each way at full resolution 1.6 s. Gate 1 (one T1-like image, 300
steps, learning rate .004): mean Dice .886 over 30 structures, smallest .827 (cortex); with two convolutions .877,
smallest .687 (an accumbens of 58 voxels). So no class starves, but .9 in each was not reached. Trap: the T1 priors of
`head_maps` have 25 columns and do not fit the 48 classes of `generation_classes.npy`; the recipe's grey values are
written down by hand.
"""

import argparse
import csv
import json
import math
import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from SegWithUCore.io.volume import read_image, read_labels, reorient
from SegWithUCore.models.input_spec import InputSpec
from SegWithUCore.util.strict_json import typed
from SegWithULab.training.dataset import PreparedCase
from SegWithULab.training.recipe import Synthesis
from SegWithULab.training.synthesis import Synthesiser

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("SEGWITHU_DATA") or ROOT.parent / "shared" / "data").resolve().parent
RECIPE = json.loads((ROOT / "Resources" / "Recipes" / "brain.json").read_text(encoding="utf-8"))
SETTINGS: Synthesis = typed(Synthesis, RECIPE["synthesis"])
VALUES = [label["value"] for label in RECIPE["labels"]]
NAMES = [label["name"] for label in RECIPE["labels"]]
CLASSES = len(VALUES)
SIDES = dict(SETTINGS.sides)
"""Right label of each left one."""
T1 = {int(label): grey for label, grey in SETTINGS.grey_values.items()}
"""Grey values of T1 images by FreeSurfer label of the left side, white matter 1."""
SHAPE, LARGE = (80, 96, 80), (96, 112, 96)
"""Voxels of 2 mm along x, y, z: the first hold all test brains, the second are the product's window."""
TRAINING_MAPS, DECISION_BRAINS, IGNORED = 16, 5, 255
CSF, CEREBELLUM = 24, (8, 47)
NEURO = {14: (4,), 15: (11,), 16: (35,), 2: (45,), 41: (44,), 4: (52, 50), 43: (51, 49), 7: (41,), 46: (40,), 8: (39,),
         47: (38,), 10: (60,), 49: (59,), 11: (37,), 50: (36,), 12: (58,), 51: (57,), 13: (56,), 52: (55,), 17: (48,),
         53: (47,), 18: (32, 34), 54: (31, 33), 26: (30,), 58: (23,), 28: (62,), 60: (61,), 3: range(101, 208, 2),
         42: range(100, 208, 2), IGNORED: (15, 42, 43, 46, 53, 54, 63, 64, 69, 75, 76)}  # fmt: skip
"""Neuromorphometrics labels of each value of the recipe; some have no counterpart and are not scored."""
VERMIS, WHITE = (71, 72, 73), (45, 44)
"""The vermis goes to the cerebellar cortex of its side, as the white matter of left and right divides it."""
TEN = {"thalamus", "caudate", "putamen", "pallidum", "hippocampus", "lateral ventricle", "brainstem",
       "cerebral white matter", "cerebral cortex", "cerebellum"}  # fmt: skip
"""What gate 3 averages; the cerebellum is the mean of its cortex and white matter."""


@dataclass
class Maker:
    """Draws windows from maps."""

    synthesisers: tuple[Synthesiser, Synthesiser]
    cases: list[PreparedCase]
    generator: np.random.Generator

    def __call__(self, step: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Return an image of `SHAPE`, in odd steps of `LARGE`, and its classes, along x, y, z."""
        case = self.cases[int(self.generator.integers(len(self.cases)))]
        drawn = self.synthesisers[step % 2].draw(case, self.generator)
        return drawn["image"][0].permute(2, 1, 0).contiguous(), drawn["labels"][0].permute(2, 1, 0).long()


def maker(seed: int, maps: int = TRAINING_MAPS, **changes: Any) -> Maker:
    """Read the first label maps, and draw from them by a seed; `changes` of the recipe's synthesis."""
    spec = InputSpec.from_json(RECIPE["input"])
    settings = replace(SETTINGS, **changes)
    drawing, large = (Synthesiser(settings, spec, VALUES, shape[::-1]) for shape in (SHAPE, LARGE))
    empty = np.zeros((1, 1, 1), np.int16)
    cases = []
    for path in sorted((SHARED / "data" / "head_maps").glob("head_*.nii.gz"))[:maps]:
        given = drawing.label_map(read_labels(path))
        cases.append(PreparedCase(path.name, empty[None], empty, (1, 1, 1), (1, 1, 1), label_map=given))
    return Maker((drawing, large), cases, np.random.default_rng(seed))


def windowed(array: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Cut twice `SHAPE` voxels around a centre, zero where they leave the array."""
    shape = [2 * size for size in SHAPE]
    padded = np.pad(array, [(size, size) for size in shape])
    first = [round(float(at)) - size // 2 + size for at, size in zip(centre, shape, strict=True)]
    return padded[tuple(slice(start, start + size) for start, size in zip(first, shape, strict=True))]


def recipe_values(labels: np.ndarray) -> np.ndarray:
    """Return the recipe's value of each Neuromorphometrics label (255: not scored); x comes first and runs right."""
    table = np.zeros(256, np.uint8)
    for value, its in NEURO.items():
        table[list(its)] = value
    left, right = (np.argwhere(labels == value)[:, 0].mean() for value in WHITE)
    side = np.where(np.arange(labels.shape[0]) > (left + right) / 2, *CEREBELLUM[::-1])
    return np.where(np.isin(labels, VERMIS), side[:, None, None].astype(np.uint8), table[labels])


def brains() -> list[tuple[str, torch.Tensor, torch.Tensor]]:
    """Read the decision brains at 2 mm: name, image, classes (255: not scored), along x, y, z."""
    table = np.zeros(256, np.uint8)
    table[[*VALUES, IGNORED]] = [*range(CLASSES), IGNORED]
    normalise = InputSpec.from_json(RECIPE["input"]).channel_normalisations[0]
    found = []
    for path in sorted((SHARED / "data" / "brains" / "images").glob("*.nii.gz"))[:DECISION_BRAINS]:
        files = (read_image(path), read_labels(path.parents[1] / "labels" / path.name))
        image, labels = (sitk.GetArrayFromImage(reorient(file, "RAS")).T for file in files)
        classes = table[recipe_values(labels)]
        places = np.argwhere(image > 0)
        centre = (places.min(0) + places.max(0) + 1) / 2
        image, classes = windowed(image.astype(np.float32), centre), windowed(classes, centre)
        eighths = [classes[i::2, j::2, k::2] for i in (0, 1) for j in (0, 1) for k in (0, 1)]
        most, truth = np.zeros(SHAPE, np.int8), np.zeros(SHAPE, np.uint8)
        for number in np.unique(classes):  # the majority of 8 voxels
            votes = sum((each == number).astype(np.int8) for each in eighths)
            truth[votes > most] = number
            most = np.maximum(most, votes)
        x, y, z = SHAPE
        coarse = normalise(image.reshape(x, 2, y, 2, z, 2).mean((1, 3, 5)))
        found.append((path.name, torch.from_numpy(coarse), torch.from_numpy(truth)))
    return found


def loss_of(logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Soft Dice over the classes present plus cross-entropy; also soft Dice and presence of each class."""
    log_probability = functional.log_softmax(logits.float().flatten(2)[0], 0)
    flat = target.reshape(-1)
    of_target = log_probability.gather(0, flat[None])[0]
    size = torch.bincount(flat, minlength=CLASSES).float()
    overlap = torch.zeros(CLASSES).index_add(0, flat, of_target.exp())
    dice = (2 * overlap + 1) / (log_probability.exp().sum(1) + size + 1)
    present = size > 0
    return 1 - dice[present].mean() - of_target.mean(), dice.detach(), present


def network() -> nn.Module:
    """Build the recipe's backbone."""
    from SegWithUCore.network.backbones.unet import UNet

    return UNet(**RECIPE["backbone"]["arguments"])


class Training:
    """A network, its average and its optimiser; `state.pt` of a folder goes on.

    Args:
        processes: how many train together; gradients are averaged over them.
        weights: a bundle's `weights.safetensors` to begin with, where the folder has no state.
    """

    def __init__(self, folder: Path, rate: float, processes: int = 1, weights: Path | None = None) -> None:
        self.folder, self.rate, self.processes = folder, rate, processes
        self.network = network()
        if weights is not None:
            begin = {name.removeprefix("backbone."): tensor for name, tensor in load_file(weights).items()}
            names = self.network.state_dict()
            self.network.load_state_dict(turned({name: begin[name] for name in names}, (4, 3, 2)))
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

    def step(self, drawn: list[tuple[torch.Tensor, torch.Tensor]], factor: float = 1.0) -> tuple[float, Any, Any]:
        """Make one step on the mean over images, with a share of the learning rate."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * factor
        self.optimiser.zero_grad(set_to_none=True)
        for image, target in drawn:
            with torch.autocast("cpu", torch.bfloat16):
                logits = self.network(image[None, None])
            loss, dice, present = loss_of(logits, target)
            (loss / len(drawn)).backward()
        if self.processes > 1:
            gradients = [parameter.grad for parameter in self.network.parameters()]
            together = torch.cat([gradient.reshape(-1) for gradient in gradients])
            dist.all_reduce(together)
            parts = (together / self.processes).split([gradient.numel() for gradient in gradients])
            for gradient, part in zip(gradients, parts, strict=True):
                gradient.copy_(part.view_as(gradient))
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self.steps += 1
        decay = min(0.995, (self.steps + 1) / (self.steps + 10))
        with torch.no_grad():
            for name, tensor in self.network.state_dict().items():
                self.average[name].lerp_(tensor, 1 - decay)
        return loss.item(), dice, present

    def save(self, seconds: float) -> None:
        """Write `state.pt`, whole or not at all."""
        new = self.file.with_suffix(".new")
        parts = {"net": self.network.state_dict(), "ema": self.average, "opt": self.optimiser.state_dict()}
        torch.save({**parts, "steps": self.steps, "spent": seconds}, new)
        new.replace(self.file)

    def averaged(self) -> nn.Module:
        """Return a network with the averaged weights."""
        averaged = network()
        averaged.load_state_dict(self.average)
        return averaged

    def product_weights(self) -> dict[str, torch.Tensor]:
        """Return the averaged weights, rounded to float16, with kernels along z, y, x."""
        return {name: tensor.half().float() for name, tensor in turned(self.average, (4, 3, 2)).items()}


def turned(weights: dict[str, torch.Tensor], axes: tuple[int, int, int]) -> dict[str, torch.Tensor]:
    """Turn the axes of kernels."""
    return {name: tensor.permute(0, 1, *axes).contiguous() if tensor.ndim == 5 else tensor
            for name, tensor in weights.items()}  # fmt: skip


def predicted(model: nn.Module, image: torch.Tensor) -> torch.Tensor:
    """Return the class of each voxel."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        return model(image[None, None])[0].argmax(0)


def evaluate(model: nn.Module, cases: list) -> dict[str, float]:
    """Return the mean Dice of each structure (sides averaged, CSF left out), of all, and of the ten of gate 3."""
    model.eval()
    scores: dict[str, list[float]] = {}
    for _, image, truth in cases:
        found, scored = predicted(model, image), truth != IGNORED
        for number, name in enumerate(NAMES):
            one, other = (found == number) & scored, (truth == number) & scored
            if number and VALUES[number] != CSF and other.any():
                dice = 2 * float((one & other).sum()) / float(one.sum() + other.sum())
                scores.setdefault(without_side(name), []).append(dice)
    return with_means({name: float(np.mean(values)) for name, values in scores.items()})


def without_side(name: str) -> str:
    """Return the name of a structure without its side."""
    return name.removeprefix("left ").removeprefix("right ")


def with_means(means: dict[str, float]) -> dict[str, float]:
    """Add the means over all structures (sides averaged before), and over the ten of gate 3; rounds."""
    merged = {**means, "cerebellum": (means["cerebellar cortex"] + means["cerebellar white matter"]) / 2}
    means |= {"MEAN": float(np.mean(list(means.values()))), "TEN": float(np.mean([merged[name] for name in TEN]))}
    return {name: round(value, 4) for name, value in means.items()}


def gate_1(training: Training) -> None:
    """Overfit one T1-like image, and write the Dice of each structure."""
    image, target = maker(1, 1, grey_values_share=1.0)()
    for number in range(300):
        factor = min(1, (number + 1) / 20) * max(0.05, 0.5 * (1 + math.cos(math.pi * number / 300)))
        loss, dice, present = training.step([(image, target)], factor)
        if number % 25 == 24:
            print(number + 1, round(loss, 3), "mean soft Dice", round(float(dice[present].mean()), 3), flush=True)
    training.network.eval()
    found, result = predicted(training.network, image), {}
    for number, name in enumerate(NAMES):
        one, other = found == number, target == number
        if other.any():
            result[name] = round(2 * float((one & other).sum()) / float(one.sum() + other.sum()), 3)
    (training.folder / "gate1.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    print(result)


def train(rank: int, options: argparse.Namespace) -> None:
    """Train for so many hours, as one of the processes; the first one tests, and saves every 8 minutes."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    if options.processes > 1:
        place = f"tcp://127.0.0.1:{options.port}"
        dist.init_process_group("gloo", init_method=place, rank=rank, world_size=options.processes)
    training = Training(options.output, options.rate, options.processes, options.weights)
    make, before = maker(100_000 * (rank + 1) + training.steps), training.seconds
    cases, sums = brains() if rank == 0 else [], []
    begun = saved = time.time()
    log = (options.output / "log.csv").open("a", newline="", encoding="utf-8") if rank == 0 else None
    while True:
        share = torch.tensor([(time.time() - begun) / (options.hours * 3600)])
        if options.processes > 1:
            dist.broadcast(share, 0)  # all processes end with the same step
        if float(share) >= 1:
            break
        gone = training.steps / options.until if options.until else float(share) if options.fall else 0.0
        if gone >= 1:
            break
        fall = max(0.005, 0.5 * (1 + math.cos(math.pi * gone)))
        drawn = [make(training.steps) for _ in range(options.images)]
        loss, dice, present = training.step(drawn, min(1, (training.steps + 1) / 200) * fall)
        if log is None:
            continue
        sums.append((loss, float(dice[present].mean())))
        spent = before + time.time() - begun
        if training.steps % 50 == 0:
            mean, sums = np.mean(sums, 0).round(4), []
            print(training.steps, f"{spent / 60:.1f} min", *mean, flush=True)
            csv.writer(log).writerow([training.steps, round(spent), *mean, ""])
        if training.steps % options.test_every == 0:
            result = json.dumps(evaluate(training.averaged(), cases))
            print("test", training.steps, result, flush=True)
            csv.writer(log).writerow([training.steps, round(spent), "", "", result])
            log.flush()
        if time.time() - saved > 480:
            training.save(spent)
            saved = time.time()
    if log is not None:
        training.save(before + time.time() - begun)
        log.close()


def main() -> int:
    """Run a gate, or train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT.parent / "runs" / "brain" / "run")
    parser.add_argument("--gate1", action="store_true")
    parser.add_argument("--test", action="store_true", help="measure the averaged weights")
    parser.add_argument("--export", type=Path, help="write the averaged weights as the product wants them")
    parser.add_argument("--hours", type=float, default=2)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--fall", action="store_true", help="let the rate fall to 0 (cosine) over these hours")
    parser.add_argument("--until", type=int, help="steps in all, over which the rate falls to 0 (cosine)")
    parser.add_argument("--images", type=int, default=1, help="a step")
    parser.add_argument("--weights", type=Path, help="of a bundle, to begin with")
    parser.add_argument("--processes", type=int, default=1, help="of one thread each; gradients are averaged")
    parser.add_argument("--port", type=int, default=29532, help="where the processes meet")
    parser.add_argument("--test-every", type=int, default=500, help="steps")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.manual_seed(1)
    if options.gate1:
        gate_1(Training(options.output, options.rate))
    elif options.export:
        torch.save(Training(options.output, options.rate).product_weights(), options.export)
    elif options.test:
        print(json.dumps(evaluate(Training(options.output, options.rate).averaged(), brains())))
    elif options.processes > 1:
        torch.multiprocessing.spawn(train, (options,), options.processes)
    else:
        train(0, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
