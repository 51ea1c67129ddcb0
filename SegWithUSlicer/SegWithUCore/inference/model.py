"""A model ready to segment (bundle, loaded network, kept warm between cases), and the choice of its device."""

import torch

from ..errors import UsageError
from ..memory import resident_bytes
from ..models.bundle import Bundle, HeadSpec, with_head
from ..models.bundle_network import load_network
from ..network.backbones.user_network import network_sha256
from ..network.segwithu import SegWithU
from .fingerprint import WARNING, Deviation
from .structures import CaseLevelCalibration
from .uncertainty_maps import FittedCalibration


class Model:
    """A bundle with its network loaded, kept warm between cases.

    Args:
        bundle: the description.
        device: where windows run.
        head: a head other than the default.

    Attributes:
        program_bytes: memory that the program holds with the network loaded.
    """

    def __init__(self, bundle: Bundle, device: torch.device, head: str | None = None) -> None:
        self.bundle = with_head(bundle, head)
        self.device = device
        self.network: SegWithU = load_network(self.bundle).to(device)
        self.head: HeadSpec = self.bundle.default_head
        self.fitted = FittedCalibration.from_json(self.bundle.calibration)
        self.case_level = CaseLevelCalibration.from_json(self.bundle.calibration)
        self.network_sha256 = network_sha256(bundle.backbone.kind)
        self.notes: list[Deviation] = model_notes(bundle, self.head, self.network_sha256)
        self.program_bytes = resident_bytes()


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
    return [Deviation(WARNING, sentence, "model") for sentence in notes]


CHOICES = ("auto", "cpu", "cuda", "mps")


def choose_device(wanted: str) -> torch.device:
    """Return the device that a user asked for; "auto" takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        UsageError: the device is not there.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if available[name]))
    if not available.get(wanted, False):
        names = ", ".join(name for name, is_there in available.items() if is_there)
        raise UsageError(f"The device '{wanted}' is not available here: choose one of {names}.")
    return torch.device(wanted)
