"""A loaded model: a bundle and its network in an engine, reused between cases."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..models.bundle import Bundle, HeadSpec, with_head
from ..models.quality import QUALITY_KIND, model_warnings, site_message
from ..models.registry import read_registries
from ..models.second_stage_file import read_second_stage
from ..network.specs import is_user_network
from ..util.errors import UsageError
from ..util.memory import resident_bytes
from .deviation import NOTE, WARNING, Deviation
from .engines import TORCH
from .engines.choice import open_engine
from .settings import RunSettings
from .structures import CaseLevelCalibration
from .uncertainty_maps import FittedCalibration

if TYPE_CHECKING:
    import torch

    from ..network.segwithu import SegWithU


@dataclass(frozen=True)
class ModelIdentity:
    """What a case folder says of the model that made it, and nothing that holds its network in memory.

    Attributes:
        bundle: its description.
        head: of the bundle.
        device: where the network ran.
        engine: what ran it (`Engine.identity`).
        engine_versions: of its packages, by name.
        network_sha256: hash of the user's own network, None for a backbone that this program brings.
    """

    bundle: Bundle
    head: HeadSpec
    device: str
    engine: Mapping[str, str | None]
    engine_versions: Mapping[str, str]
    network_sha256: str | None


class Model:
    """A bundle with its network loaded, kept warm between cases.

    Args:
        bundle: the description.
        device: where windows run: "auto", "cpu", "cuda" or "mps".
        head: a head other than the default.
        engine: what runs the network: "auto", "torch" or "openvino".

    Attributes:
        head: the one that runs, with the package that it comes from.
        engine: runs the network.
        engine_reason: why it is this one, as a clause.
        asked: engine and device as they were asked for.
        program_bytes: memory that the program holds with the network loaded.

    Raises:
        InputError, UsageError: as `open_engine`, or there is no such head.
    """

    def __init__(
        self, bundle: Bundle, device: "str | torch.device" = "cpu", head: str | None = None, engine: str = TORCH
    ) -> None:
        self.bundle = with_head(bundle, head)
        self.fitted = FittedCalibration.from_json(self.bundle.calibration, read_second_stage(self.bundle))
        self.asked = (engine, str(device))
        self.engine, self.engine_reason = open_engine(self.bundle, *self.asked)
        self.device: str = self.engine.device
        self.head: HeadSpec = self.bundle.default_head
        if self.engine.name == TORCH:  # compiled graphs need no package
            from ..network.heads import head_plugin

            self.head = replace(self.head, plugin=head_plugin(self.head.variant))
        self.case_level = CaseLevelCalibration.from_json(self.bundle.calibration)
        self.network_sha256 = user_network_sha256(bundle)
        self.notes: list[Deviation] = model_notes(self.bundle, self.head, self.network_sha256)
        self.program_bytes = resident_bytes()

    @property
    def identity(self) -> ModelIdentity:
        """What ran and which model it was, for the case folder."""
        engine = (self.engine.identity(), self.engine.versions())
        return ModelIdentity(self.bundle, self.head, self.device, *engine, self.network_sha256)

    @classmethod
    def of(cls, bundle: Bundle, settings: RunSettings) -> "Model":
        """Load a bundle with the head, engine and device of a run."""
        return cls(bundle, settings.device, settings.head, settings.engine)

    @property
    def engine_words(self) -> str:
        """Say which engine it is and why, as in "openvino 2026.4.1 on the CPU (the model has compiled graphs)"."""
        identity = self.engine.identity()
        place = "the CPU" if self.device == "cpu" else self.device
        return f"{identity['name']} {identity['version']} on {place} ({self.engine_reason})"

    @property
    def network(self) -> "SegWithU":
        """The torch modules, for what needs more than an engine gives.

        Raises:
            UsageError: the engine is not torch.
        """
        from .engines.torch_engine import TorchEngine

        if not isinstance(self.engine, TorchEngine):
            raise UsageError(f"This needs the network in torch, but the engine is {self.engine.name}: choose {TORCH}.")
        return self.engine.network


def user_network_sha256(bundle: Bundle) -> str | None:
    """Hash of the user's own network that a bundle runs on, None for a backbone that this program brings."""
    if not is_user_network(bundle.backbone.kind):
        return None
    from ..network.backbones.user_network import network_sha256

    return network_sha256(bundle.backbone.kind)


def model_notes(bundle: Bundle, head: HeadSpec, network: str | None) -> list[Deviation]:
    """Warn of what the user should know about a model whatever the image is.

    Args:
        network: hash of the user's own network that it runs on, None for a backbone that this program brings.
    """
    notes = []
    if not head.trained:
        notes.append(f"The head of '{bundle.name}' is not trained, so its maps mean little: use train-head.")
    if bundle.about.get("network_sha256") != network:
        notes.append(f"The network file of '{bundle.name}' has changed: check that it computes the same.")
    trained, runs = bundle.default_head.plugin, head.plugin
    if trained is not None and runs is not None and trained.version != runs.version:
        what = f"The head of '{bundle.name}' was trained with {trained.name} {trained.version}"
        notes.append(f"{what}, but {runs.version} is installed: check that it computes the same.")
    withdrawn = read_registries().withdrawn(bundle.name, bundle.about["version"])
    if withdrawn:
        notes.append(f"The model '{bundle.name}' {bundle.about['version']} was withdrawn: {withdrawn}")
    poor = [Deviation(WARNING, sentence, QUALITY_KIND) for sentence in model_warnings(bundle)]
    site = [Deviation(NOTE, sentence, "model") for sentence in [site_message(bundle.calibration)] if sentence]
    return [*poor, *(Deviation(WARNING, sentence, "model") for sentence in notes), *site]
