"""Any failure as one sentence for the users of the command line."""

from .errors import SegWithUError
from .memory import NotEnoughMemoryError


def failure_message(error: Exception) -> str:
    """Say what went wrong: the error's own message if it was made for users."""
    if isinstance(error, NotEnoughMemoryError):
        return str(error).replace("region of interest", "region of interest with --roi")
    if isinstance(error, SegWithUError):
        return str(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory for this: close other programs, or give a smaller image."
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in ("torch", "monai"):
        return 'this needs torch: pip install ".[train]" in the checkout; in 3D Slicer the extension PyTorch.'
    if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("SegWithULab"):
        return "the Slicer extension cannot do this: install the Python package segwithu."
    if isinstance(error, ModuleNotFoundError):
        return f"the package {error.name} is missing here: pip install . in the checkout brings it."
    reason = " ".join(str(error).split())
    return f"unexpected {type(error).__name__}: {reason} (run again with --debug and report it)."
