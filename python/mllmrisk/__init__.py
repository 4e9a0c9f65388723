"""mllmrisk: how risky an image generator is, and fast image forensics.

    >>> import mllmrisk
    >>> pixels = mllmrisk.decode("photo.jpg")  # doctest: +SKIP
    >>> found = mllmrisk.extract(["photo.jpg"])  # doctest: +SKIP

Names load when they are first used: `import mllmrisk` brings NumPy and nothing heavier.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mllmrisk import features, metrics, perturb
    from mllmrisk.api import evaluate
    from mllmrisk.errors import ImageError, MllmriskError
    from mllmrisk.features import Features, extract
    from mllmrisk.images import Container, decode, probe
    from mllmrisk.run import Run, load_run

__all__ = [
    "Container",
    "Features",
    "ImageError",
    "MllmriskError",
    "Run",
    "__version__",
    "decode",
    "evaluate",
    "extract",
    "features",
    "load_run",
    "metrics",
    "perturb",
    "probe",
]

#: Public name → module it lives in; a module's own name stands for the module.
_HOMES = {
    "Container": "images",
    "Features": "features",
    "ImageError": "errors",
    "MllmriskError": "errors",
    "Run": "run",
    "decode": "images",
    "evaluate": "api",
    "extract": "features",
    "features": "features",
    "load_run": "run",
    "metrics": "metrics",
    "perturb": "perturb",
    "probe": "images",
}


def __getattr__(name: str) -> Any:
    """Loads a public name when it is first asked for (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        return version("mllmrisk")
    if name not in _HOMES:
        raise AttributeError(f"module 'mllmrisk' has no attribute {name!r}")
    module = importlib.import_module(f"mllmrisk.{_HOMES[name]}")
    value = module if _HOMES[name] == name else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
