"""A model ready to segment: a bundle, its network in an engine, kept warm between cases; and choosing the device."""

from typing import TYPE_CHECKING

from ..errors import UsageError
from ..memory import resident_bytes
from ..models.bundle import Bundle, HeadSpec, with_head
from ..models.in_use import hold
from ..models.store_registry import known_registries
from ..network.backbone_spec import is_user_network
from .engines.base import TORCH, Engine
from .fingerprint import WARNING, Deviation
from .structures import CaseLevelCalibration
from .uncertainty_maps import FittedCalibration

if TYPE_CHECKING:
    import torch

    from ..network.segwithu import SegWithU


class Model:
    """A bundle with its network loaded, kept warm between cases.

    Args:
        bundle: the description.
        device: where windows run: "cpu", "cuda" or "mps".
        head: a head other than the default.

    Attributes:
        engine: runs the network.
        program_bytes: memory that the program holds with the network loaded.
    """

    def __init__(self, bundle: Bundle, device: "str | torch.device" = "cpu", head: str | None = None) -> None:
        self.bundle = with_head(bundle, head)
        self._in_use = hold(bundle)  # as long as this object lives, nobody deletes the model
        self.device = str(device)
        self.engine: Engine = load_engine(self.bundle, self.device)
        self.head: HeadSpec = self.bundle.default_head
        self.fitted = FittedCalibration.from_json(self.bundle.calibration)
        self.case_level = CaseLevelCalibration.from_json(self.bundle.calibration)
        self.network_sha256 = user_network_sha256(bundle)
        self.notes: list[Deviation] = model_notes(bundle, self.head, self.network_sha256)
        self.program_bytes = resident_bytes()

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


def load_engine(bundle: Bundle, device: str) -> Engine:
    """Load the network of a bundle's default head into an engine.

    Raises:
        InputError: as `load_network`.
    """
    from ..models.bundle_network import load_network
    from .engines.torch_engine import TorchEngine

    return TorchEngine(load_network(bundle), device, bundle.input.precision)


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
        notes.append(
            f"The uncertainty head of the model '{bundle.name}' is not trained: its ranking map says little more than "
            "the network's own probabilities; train it with train-head."
        )
    if bundle.about.get("network_sha256") != network:
        notes.append(
            f"The file of the network of '{bundle.name}' was changed since the model was made: results hold only if it "
            "still computes the same."
        )
    withdrawn = known_registries().withdrawn(bundle.name, bundle.about["version"])
    if withdrawn:
        notes.append(f"The model '{bundle.name}' {bundle.about['version']} was withdrawn: {withdrawn}")
    return [Deviation(WARNING, sentence, "model") for sentence in notes]


CHOICES = ("auto", "cpu", "cuda", "mps")


def choose_device(wanted: str) -> str:
    """Return the device that a user asked for; "auto" takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        UsageError: the device is not there.
    """
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available.get(wanted, False):
        names = ", ".join(name for name, is_there in available.items() if is_there)
        raise UsageError(f"The device '{wanted}' is not available here: choose one of {names}.")
    return wanted
