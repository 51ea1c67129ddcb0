"""SegWithU in Python: the stable names (docs/reference/stable_api.md), which `__init__.pyi` lists.

    import segwithu

    result = segwithu.segment_image("head.nii.gz", segwithu.load_model("brain"))

Importing the package loads no third-party package; torch, SimpleITK and numpy come with the first use of a name.
"""

import ast
from importlib import import_module
from pathlib import Path

_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
_FROM = [node for node in _STUB.body if isinstance(node, ast.ImportFrom)]
_MODULES = {each.name: str(node.module) for node in _FROM for each in node.names}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> object:
    """Load a name when it is first asked for (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """List the stable names."""
    return __all__
