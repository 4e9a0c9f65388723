"""Any ONNX network as an encoder: a file beside the TOML, in the weights folder, in a package or on the hub."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from mllmrisk import config
from mllmrisk.detectors import places
from mllmrisk.detectors.encoders.base import Array, Common, Embedded, Graph, embedded, tried
from mllmrisk.detectors.recipe import Place
from mllmrisk.errors import UsageError
from mllmrisk.extras import optional
from mllmrisk.inference import CPU, first_line, open_session


class Model(Place, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ONNX file, pinned by its sha256.

    Attributes:
        install: the command that brings `package`, where no optional dependency set of mllmrisk does.
        output: its output that is the vector, (n, d).
    """

    install: str = ""
    output: str


class Recipe(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole TOML."""

    kind: Literal["onnx"] = "onnx"
    model: Model


def made(table: dict[str, Any], folder: Path, *, device: str = "cpu") -> Onnx:
    """The encoder of a TOML of the kind `onnx`."""
    return Onnx(config.converted(table, Recipe), folder, device=device)


class Onnx:
    """An ONNX network as an encoder. See :class:`~mllmrisk.detectors.encoders.base.Encoder`.

    Attributes:
        provider: the onnxruntime provider that runs it, verified.
    """

    def __init__(self, recipe: Recipe, folder: Path, *, device: str = "cpu") -> None:
        """Loads and tries the network.

        Raises:
            MissingExtraError: onnxruntime or the weights' package is not installed.
            UsageError: the weights are not there or not the ones that the TOML names; the device was not got; the
                network's input or output is not as written.
        """
        self.about = recipe
        self.name = recipe.name
        self._what = f"encoder {recipe.name!r}"
        package = recipe.model.package
        if package and recipe.model.install and importlib.util.find_spec(package) is None:
            raise UsageError(f"{self._what} needs the package {package!r}: {recipe.model.install}")
        self._place, self._folder = recipe.model, folder
        model = places.content(recipe.model, recipe.name, folder)
        # One thread within a call: images run side by side, and the bits of a sum do not depend on how many do.
        opened = open_session(model, what=self._what, device=device, threads=1)
        self._session, self.provider = opened.session, opened.provider
        self._input, self._output = recipe.input.name, recipe.model.output
        self._check_names()
        self.batch = self._fixed() or (1 if self.provider == CPU else recipe.input.batch)
        self._how = recipe.input.preprocessing()
        self.dimension = tried(self._run, self._how, self.batch, self._what)
        deciding = (recipe.model.sha256, recipe.model.output, recipe.input, recipe.normalise)
        self.version = hashlib.sha256(msgspec.json.encode(deciding, order="sorted")).hexdigest()[:16]

    def embed(
        self, images: Sequence[Path | bytes], *, chains: Sequence[str] | None = None, threads: int | None = None
    ) -> Embedded:
        """Embeds images, each after its chain."""
        return embedded(
            self._run,
            images,
            chains,
            threads,
            how=self._how,
            dimension=self.dimension,
            batch=self.batch,
            normalise=self.about.normalise,
        )

    def graph(self) -> Graph:
        """The model as it came."""
        onnx = optional("onnx", f"writing {self._what} into a detector", "train")
        model = places.content(self._place, self.name, self._folder)
        return Graph(onnx.load_from_string(model), self._input, self._output)

    def _run(self, rows: Array) -> Array:
        try:
            (vectors,) = self._session.run([self._output], {self._input: rows})
        except Exception as wrong:  # onnxruntime's errors share no base class
            raise UsageError(f"{self._what}: the model does not run as described: {first_line(wrong)}") from wrong
        return np.asarray(vectors, np.float32)

    def _check_names(self) -> None:
        for word, wanted, there in (
            ("input", self._input, self._session.get_inputs()),
            ("output", self._output, self._session.get_outputs()),
        ):
            types = {node.name: node.type for node in there}
            if wanted not in types:
                raise UsageError(f"{self._what}: the model has no {word} {wanted!r}; it has {', '.join(types)}")
            if types[wanted] != "tensor(float)":
                raise UsageError(f"{self._what}: its {word} {wanted!r} is a {types[wanted]}, not float32")

    def _fixed(self) -> int | None:
        """The batch that the graph itself fixes."""
        (axis, *_) = next(node.shape for node in self._session.get_inputs() if node.name == self._input)
        return axis if isinstance(axis, int) else None
