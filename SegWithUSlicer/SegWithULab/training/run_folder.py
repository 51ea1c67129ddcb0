"""The folder of one training run: recipe, log, checkpoints."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from SegWithUCore.network.backbones.user_network import network_file, network_sha256
from SegWithUCore.network.specs import is_user_network
from SegWithUCore.network.weights import load_plain, read_safetensors
from SegWithUCore.util.atomic_files import atomic_file, write_text
from SegWithUCore.util.csv_files import read_csv, table_of, write_csv
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.input_files import is_there
from SegWithUCore.util.strict_json import read_json_object, to_json

from .recipe import Recipe, recipe_from_json


class RunFolder:
    """Paths and files of a run.

    `run.json` (recipe and facts), and for each part ("backbone", "head") `PART_log.csv`, `PART_last.pt` (to resume) and
    `PART_best.safetensors`. In `fold<k>` the same of an out-of-fold backbone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, recipe: Recipe, facts: Mapping[str, Any]) -> None:
        """Write `run.json`."""
        self._write_json({"recipe": recipe.to_json(), "facts": dict(facts)})

    def change_recipe(self, recipe: Recipe) -> None:
        """Replace the recipe in `run.json` and keep its metadata."""
        self._write_json({**self._read_json(), "recipe": recipe.to_json()})

    def add_facts(self, facts: Mapping[str, Any]) -> None:
        """Merge `facts` into those of `run.json`."""
        data = self._read_json()
        self._write_json({**data, "facts": {**data["facts"], **facts}})

    def recipe(self, **settings: Mapping[str, Any]) -> Recipe:
        """Read the recipe of this run; `settings` as the keyword arguments of `read_recipe`."""
        return recipe_from_json(self._read_json()["recipe"], str(self.path / "run.json"), **settings)

    def facts(self) -> dict[str, Any]:
        """Read what the trainings noted: cases, reference of the OOD check, best epochs."""
        return dict(self._read_json()["facts"])

    def check_finished(self, part: str) -> None:
        """Refuse a part whose training is not finished.

        Raises:
            InputError: names the number of finished epochs.
        """
        self.load_best(part)
        facts, log = self.facts(), self.path / f"{part}_log.csv"
        epochs = len(read_csv(log)) - 1 if log.is_file() else 0
        planned = getattr(self.recipe(), f"{part}_training").epochs
        if epochs not in (planned, facts.get(f"{part}_finished")):
            found = f"The {part} in {self.path} is not finished, {epochs} of {planned} epochs are completed"
            raise InputError(f"{found}: resume with `segwithu train-{part} --run {self.path} --resume`.")

    def check_network(self, kind: str) -> None:
        """Note the hash of a user's own network when the run begins, and compare with it later.

        Raises:
            InputError: the network's file has changed since.
        """
        if not is_user_network(kind):
            return
        known, found = self.facts().get("network_sha256"), network_sha256(kind)
        if known is None:
            self.add_facts({"network_file": str(network_file(kind)), "network_sha256": found})
        elif known != found:
            found = f"{network_file(kind)} is not what {self.path} began with (SHA-256 {known[:12]}...)"
            raise InputError(f"{found}: restore it, or begin again with --restart.")

    def _read_json(self) -> dict[str, Any]:
        file = self.path / "run.json"
        if not is_there(file):
            ways = "start with train-backbone, or with train-head --recipe on a model"
            raise InputError(f"{self.path} is not a training run: it has no run.json; {ways}.", "not-a-run")
        data = read_json_object(file, "begin again with --restart")
        if not all(isinstance(data.get(block), dict) for block in ("recipe", "facts")):
            raise InputError(f"{file} has no blocks 'recipe' and 'facts': restart with --restart.", "not-a-run")
        return data

    def _write_json(self, data: Mapping[str, Any]) -> None:
        write_text(self.path / "run.json", to_json(data) + "\n")

    def save_best(self, part: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Keep the weights of the best epoch so far."""
        with atomic_file(self.path / f"{part}_best.safetensors") as work:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, work)

    def load_best(self, part: str) -> dict[str, torch.Tensor]:
        """Read the weights of the best epoch so far.

        Raises:
            InputError: no epoch has been completed yet.
        """
        file = self.path / f"{part}_best.safetensors"
        if not file.is_file():
            raise InputError(f"{self.path} has no {part}_best.safetensors yet: run train-{part} first.")
        return read_safetensors(file)

    def save_state(self, part: str, state: Mapping[str, Any]) -> None:
        """Write what a resumed run needs, whole or not at all."""
        with atomic_file(self.path / f"{part}_last.pt") as work:
            torch.save(dict(state), work)

    def load_state(self, part: str) -> dict[str, Any] | None:
        """Read what `save_state` wrote last. Returns None at the start.

        Raises:
            InputError: the file is damaged.
        """
        file = self.path / f"{part}_last.pt"
        return dict(load_plain(file, "begin again with --restart")) if is_there(file) else None

    def forget(self, part: str) -> None:
        """Remove what a part has left, so that it begins again; with a backbone go its head and folds."""
        for fold in self.path.glob("fold*") if part == "backbone" else ():
            RunFolder(fold).forget("backbone")
        gone = ("backbone", "head") if part == "backbone" else (part,)
        for each in gone:
            for end in ("last.pt", "best.safetensors", "log.csv"):
                (self.path / f"{each}_{end}").unlink(missing_ok=True)
        with contextlib.suppress(InputError):  # without run.json, or with a damaged one, which is then written again
            noted = {f"{each}_{fact}" for each in gone for fact in ("best", "finished")}
            data = self._read_json()
            self._write_json({**data, "facts": {key: fact for key, fact in data["facts"].items() if key not in noted}})

    def write_log(self, part: str, rows: Sequence[Mapping[str, float]]) -> None:
        """Write `PART_log.csv`; every row has the same columns, `epoch` first.

        What was not measured (NaN in a row) is an empty cell.
        """
        measured = [{name: value if value == value else "" for name, value in row.items()} for row in rows]
        write_csv(self.path / f"{part}_log.csv", *table_of(measured))
