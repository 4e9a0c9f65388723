"""Expansion by a language model in this process: a folder, or a model of the hub at a commit.

One text at a time, so that what it becomes does not depend on its neighbours. For thousands of texts a server of
OpenAI's kind (`openai`) is faster.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

from mllmrisk.errors import UsageError
from mllmrisk.extras import optional, quiet
from mllmrisk.inference import first_line, parse_device
from mllmrisk.prompts.expansion.base import Common, Expanded, Identity, Instruction, Tell, Wanted

#: Files of a model's folder that decide what it says.
_DECIDING = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of a TOML of the kind `transformers`.

    Attributes:
        hub: a model id of the Hugging Face hub.
        revision: its commit.
        folder: a folder that `save_pretrained` wrote; relative to the TOML.
        dtype: of the weights.
        device: `auto`, `cpu`, `cuda[:INDEX]`.
        max_new_tokens: an answer that reaches it is cut, and counts as none.
        sample: draw words (seeded, each text by itself) instead of taking the likeliest.
        temperature, top_p: of the draw.
    """

    instruction: Instruction
    hub: str | None = None
    revision: str | None = None
    folder: str | None = None
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    device: str = "auto"
    max_new_tokens: int = 512
    sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        """Refuses a model that is in no place, or in two, and a draw that cannot be."""
        if (self.hub is None) == (self.folder is None) or (self.hub is None) != (self.revision is None):
            raise ValueError("give either hub and revision (a commit), or folder")
        if self.max_new_tokens < 1 or self.temperature <= 0 or not 0 < self.top_p <= 1:
            raise ValueError("max_new_tokens is at least 1, temperature above 0, top_p in (0, 1]")


class Transformers:
    """Asks a local causal language model, in its own chat template where it has one.

    Attributes:
        name, identity, remembered: see :class:`~mllmrisk.prompts.expansion.base.Expander`.
    """

    accepts: ClassVar[type[msgspec.Struct]] = Parameters
    remembered = True

    def __init__(self, common: Common, parameters: Parameters, folder: Path) -> None:
        """Loads tokenizer and model: safetensors only, no code from a repository."""
        self.name = common.name
        self._parameters = parameters
        what = f"expander {common.name!r}"
        torch = optional("torch", what, "gen")
        self._transformers = optional("transformers", what, "gen")
        self._device = _device(torch, parameters.device, what)
        place = str(parameters.hub or folder / str(parameters.folder))
        if parameters.hub is None and not Path(place).is_dir():
            raise UsageError(f"{what}: no such folder: {place}")
        at = {"revision": parameters.revision} if parameters.revision else {}
        try:
            with quiet(self._transformers):
                self._tokenizer = self._transformers.AutoTokenizer.from_pretrained(place, trust_remote_code=False, **at)
                model, report = self._transformers.AutoModelForCausalLM.from_pretrained(
                    place,
                    dtype=getattr(torch, parameters.dtype),
                    use_safetensors=True,
                    trust_remote_code=False,
                    output_loading_info=True,
                    **at,
                )
        except Exception as wrong:  # OSError, ValueError, KeyError, SafetensorError: as they come
            raise UsageError(f"{what}: {place} cannot be loaded: {first_line(wrong)}") from wrong
        if missing := sorted(report["missing_keys"]):
            raise UsageError(f"{what}: {place} has no weights for {missing[0]} ({len(missing)} missing)")
        self._model = model.eval().requires_grad_(False).to(self._device)
        self.identity = self._identity(common, place)

    def _identity(self, common: Common, place: str) -> Identity:
        asked = self._parameters
        model = f"{asked.hub}@{asked.revision}" if asked.hub else f"{Path(place).name}:{_digest(Path(place))}"
        draw = [asked.temperature, asked.top_p] if asked.sample else []
        deciding = json.dumps([common.kind, model, asked.dtype, asked.max_new_tokens, asked.sample, *draw])
        return Identity(hashlib.sha256(deciding.encode()).hexdigest()[:16], model, asked.instruction.whole)

    def expand(self, wanted: Sequence[Wanted], *, seed: int, tell: Tell) -> None:
        """See :class:`~mllmrisk.prompts.expansion.base.Expander`."""
        for place, each in enumerate(wanted):
            tell(place, self._one(each.text, seed))

    def _one(self, text: str, seed: int) -> Expanded:
        import torch

        asked = self._parameters
        ids = self._ids(text).to(self._device)
        drawn: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if asked.sample:
            own = int.from_bytes(hashlib.sha256(f"{seed} {text}".encode()).digest()[:7], "big")
            drawn = {"do_sample": True, "temperature": asked.temperature, "top_p": asked.top_p, "top_k": 0}
        with torch.inference_mode(), quiet(self._transformers), _seeded(torch, own if asked.sample else None):
            given = self._model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=asked.max_new_tokens,
                pad_token_id=self._tokenizer.pad_token_id or self._tokenizer.eos_token_id,
                **drawn,
            )[0]
        said = given[ids.shape[1] :]
        if len(said) == asked.max_new_tokens and not self._ended(int(said[-1])):
            return Expanded(None, "cut")
        return Expanded(self._tokenizer.decode(said, skip_special_tokens=True))

    def _ended(self, token: int) -> bool:
        ends = self._model.generation_config.eos_token_id
        return token in (ends if isinstance(ends, list) else [ends])

    def _ids(self, text: str) -> Any:
        told = self._parameters.instruction
        if getattr(self._tokenizer, "chat_template", None):
            head = [{"role": "system", "content": told.system}] if told.system else []
            messages = [*head, {"role": "user", "content": told.about(text)}]
            found = self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
        else:
            whole = f"{told.system}\n\n{told.about(text)}" if told.system else told.about(text)
            found = self._tokenizer(whole, return_tensors="pt")
        return found["input_ids"]


def _device(torch: Any, device: str, what: str) -> Any:
    kind, index = parse_device(device)
    there = torch.cuda.device_count() if kind != "cpu" and torch.cuda.is_available() else 0
    if kind == "cuda" and index >= there:
        raise UsageError(f"{what}: {device} was asked for, but torch sees no such device")
    return torch.device("cuda", index) if there else torch.device("cpu")


def _digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted({path for pattern in _DECIDING for path in folder.glob(pattern)}):
        with path.open("rb") as file:
            total.update(f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()[:16]


@contextlib.contextmanager
def _seeded(torch: Any, seed: int | None) -> Iterator[None]:
    """Draws inside follow the seed, and the process's own state is as before afterwards; None leaves it alone."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
