"""Vision networks of transformers as encoders: a hub id at a commit or a local folder, safetensors only."""

from __future__ import annotations

import contextlib
import hashlib
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from mllmrisk import config
from mllmrisk.detectors.encoders.base import Array, Common, Embedded, Graph, embedded, tried
from mllmrisk.errors import UsageError
from mllmrisk.extras import optional, quiet
from mllmrisk.inference import first_line, parse_device

#: Of the operator set that an exported encoder is written in.
_OPSET = 18
#: Name of the exported output; no parameter of a network is called so.
_VECTOR = "image_vector"


class Network(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a network is, and what of it is the vector.

    Attributes:
        hub: a model id of the Hugging Face hub, fetched once into its cache.
        commit: of the hub's repository, 40 hexadecimal digits: vectors that are kept must not change their meaning.
        folder: a folder that `save_pretrained` wrote; relative to the TOML.
        pooling: `features`, what the network itself gives as image features (CLIP: projected; SigLIP: attention
            pooling); `pooled`, its vision tower's pooled output; `cls`, the first token; `mean`, the mean of all
            tokens.
    """

    hub: str | None = None
    commit: str | None = None
    folder: str | None = None
    pooling: Literal["features", "pooled", "cls", "mean"] = "features"

    def __post_init__(self) -> None:
        """Refuses a network that is in no place, or in two, or that may become another one."""
        if (self.hub is None) == (self.folder is None):
            raise ValueError("give either hub and commit, or folder")
        if (self.hub is None) != (self.commit is None):
            raise ValueError("hub and commit go together")
        if self.commit is not None and not re.fullmatch(r"[0-9a-f]{40}", self.commit):
            raise ValueError("commit must be a whole commit, 40 lower-case hexadecimal digits; branches and tags move")


class Recipe(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole TOML."""

    kind: Literal["transformers"]
    model: Network


def made(table: dict[str, Any], folder: Path, *, device: str = "cpu") -> Transformers:
    """The encoder of a TOML of the kind `transformers`."""
    return Transformers(config.converted(table, Recipe), folder, device=device)


class Transformers:
    """A network of transformers as an encoder, in float32. See :class:`~mllmrisk.detectors.encoders.base.Encoder`."""

    def __init__(self, recipe: Recipe, folder: Path, *, device: str = "cpu") -> None:
        """Loads and tries the network.

        Raises:
            MissingExtraError: torch or transformers is not installed.
            UsageError: no such model or device; weights are missing there; it does not give the asked-for vector.
        """
        self.about = recipe
        self.name = recipe.name
        self._what = f"encoder {recipe.name!r}"
        self._torch = optional("torch", self._what, "gen")
        self._transformers = optional("transformers", self._what, "gen")
        self._device = self._found(device)
        place = str(recipe.model.hub or folder / str(recipe.model.folder))
        if recipe.model.hub is None and not Path(place).is_dir():
            raise UsageError(f"{self._what}: no such folder: {place}")
        self._pooling = recipe.model.pooling
        self._model = self._loaded(place, recipe.model.commit).to(self._device)
        self.batch = recipe.input.batch if self._device.type == "cuda" else 1
        self._how = recipe.input.preprocessing()
        with self._single():
            self.dimension = tried(self._run, self._how, self.batch, self._what)
        weights = f"{place}@{recipe.model.commit}" if recipe.model.hub else _fingerprint(Path(place))
        deciding = (weights, self._pooling, self._how, recipe.normalise)
        self.version = hashlib.sha256(msgspec.json.encode(deciding, order="sorted")).hexdigest()[:16]

    def embed(
        self, images: Sequence[Path | bytes], *, chains: Sequence[str] | None = None, threads: int | None = None
    ) -> Embedded:
        """Embeds images, each after its chain."""
        with self._single():
            return embedded(
                self._run,
                images,
                chains,
                threads,
                how=self._how,
                dimension=self.dimension,
                batch=self.batch,
                normalise=self.about.normalise,
                starting=lambda: self._torch.set_num_threads(1),
            )

    def graph(self) -> Graph:
        """Exports the network with a free batch axis, or one of 1 where the exporter fixes it."""
        optional("onnxscript", f"writing {self._what} as ONNX", "finetune")
        torch, size = self._torch, self._how.size
        assert size is not None
        shape = (2, 3, *size) if self._how.layout == "NCHW" else (2, *size, 3)
        example = torch.zeros(shape, device=self._device)
        module = _module(torch, self._pooled)
        module.model = self._model  # registered, so that its weights are the exported module's own
        with warnings.catch_warnings(), self._single(), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter's own, about its own future
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                verbose=False,
                opset_version=_OPSET,
                input_names=["pixel_values"],
                output_names=[_VECTOR],
                dynamic_shapes=({0: torch.export.Dim("n")},),
            )
        model = program.model_proto
        for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
            del part.metadata_props[:]  # the exporter's, with paths of the machine that it ran on
        return Graph(model, "pixel_values", _VECTOR)

    def _run(self, rows: Array) -> Array:
        with self._torch.inference_mode():
            vectors = self._pooled(self._torch.from_numpy(rows).to(self._device))
            return np.ascontiguousarray(vectors.float().cpu().numpy())

    def _pooled(self, pixels: Any) -> Any:
        if self._pooling == "features":
            found = self._model.get_image_features(pixel_values=pixels)
            return getattr(found, "pooler_output", found)  # transformers 4 gives the tensor itself
        found = getattr(self._model, "vision_model", self._model)(pixel_values=pixels)
        if self._pooling == "pooled":
            return found.pooler_output
        return found.last_hidden_state[:, 0] if self._pooling == "cls" else found.last_hidden_state.mean(dim=1)

    def _loaded(self, place: str, commit: str | None) -> Any:
        at = {"revision": commit} if commit else {}
        try:
            with quiet(self._transformers):
                model, report = self._transformers.AutoModel.from_pretrained(
                    place,
                    **at,
                    dtype=self._torch.float32,
                    use_safetensors=True,
                    output_loading_info=True,
                    trust_remote_code=False,
                )
        except Exception as wrong:  # OSError, ValueError, KeyError, SafetensorError, ImportError: as they come
            raise UsageError(f"{self._what}: {place} cannot be loaded: {first_line(wrong)}") from wrong
        if missing := sorted(report["missing_keys"]):
            raise UsageError(f"{self._what}: {place} has no weights for {missing[0]} ({len(missing)} missing)")
        if self._pooling == "features" and not hasattr(model, "get_image_features"):
            raise UsageError(
                f"{self._what}: {type(model).__name__} gives no image features: pooling = 'pooled', 'cls' or 'mean'"
            )
        for part in ("text_model", "text_projection"):  # of a two-tower network, the tower that no image passes
            if hasattr(model, part):
                delattr(model, part)
        return model.eval().requires_grad_(False)

    def _found(self, device: str) -> Any:
        torch = self._torch
        kind, index = parse_device(device)
        cuda = kind != "cpu" and torch.cuda.is_available()
        if kind == "cuda" and not (cuda and index < torch.cuda.device_count()):
            raise UsageError(
                f"{self._what}: {device} was asked for, but torch sees no such device; or use --device cpu"
            )
        return torch.device("cuda", index) if cuda else torch.device("cpu")

    @contextlib.contextmanager
    def _single(self) -> Iterator[None]:
        """One torch thread per call: with more, a float32 vector moves with their number."""
        before = self._torch.get_num_threads()
        self._torch.set_num_threads(1)
        try:
            yield
        finally:
            self._torch.set_num_threads(before)


def _module(torch: Any, forward: Any) -> Any:
    """A torch module whose forward is a function."""

    class Encoding(torch.nn.Module):  # type: ignore[misc]  # torch has no types here
        def forward(self, pixel_values: Any) -> Any:
            return forward(pixel_values)

    return Encoding()


def _fingerprint(folder: Path) -> str:
    """A digest of the weights and of the config that says what they are."""
    total = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), folder / "config.json"]):
        with path.open("rb") as file:
            total.update(f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()
