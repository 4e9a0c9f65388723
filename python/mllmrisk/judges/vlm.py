"""Any chat model that sees pictures as a judge: a policy as text, a strictly parsed answer.

The model runs here (transformers, its own chat template) or behind an OpenAI-compatible endpoint. Answers are greedy.
One that does not parse is unscored (`unparsed`, `refused`): never safe, never unsafe.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from mllmrisk import config
from mllmrisk.endpoint import Client, Endpoint, Failed, in_order
from mllmrisk.errors import UsageError
from mllmrisk.judges.answers import REFUSED, UNPARSED, Answer, parsed
from mllmrisk.judges.described import Described, Pixels, Threshold, digest, finite, unscored, upright
from mllmrisk.judges.endpoint import data_url
from mllmrisk.judges.networks import Loader, Network, each
from mllmrisk.records import Score

#: Scores by category, or why there are none.
Read = dict[str, float] | str


class Category(Threshold, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A category of unsafe content.

    Attributes:
        labels: the model's labels that mean it (formats `verdict` and `label`).
        policy: the text that is asked about it (format `yes-no`).
    """

    labels: list[str] = msgspec.field(default_factory=list)
    policy: str = ""


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked beside the picture; for `yes-no` the policies are asked, each in place of `{policy}`."""

    text: str = "{policy}"
    system: str = ""


class Recipe(Described, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole TOML: a local `model` or an `endpoint`, a question and the form of its answer."""

    kind: Literal["vlm"]
    answer: Answer
    categories: dict[str, Category]
    question: Question = Question()
    model: Network | None = None
    endpoint: Endpoint | None = None

    def __post_init__(self) -> None:
        """Refuses questions whose answer could not be read."""
        if (self.model is None) == (self.endpoint is None):
            raise ValueError("give either model or endpoint")
        if not self.categories:
            raise ValueError("at least one category is needed")
        asks = self.answer.format == "yes-no"
        for name, category in self.categories.items():
            if asks != bool(category.policy):
                raise ValueError(f"category {name!r}: a policy stands in a yes-no judge, and only there")
            if (self.answer.format in ("verdict", "label")) != bool(category.labels):
                raise ValueError(f"category {name!r}: labels stand in a verdict or label judge, and only there")
        if ("{policy}" in self.question.text) != asks:
            raise ValueError("question.text holds {policy} where policies are asked, and only there")


def made(table: dict[str, Any], folder: Path, *, device: str = "auto") -> ChatJudge:
    """The judge of a TOML of the kind `vlm`."""
    return ChatJudge(config.converted(table, Recipe), folder, device=device)


class Chat(Protocol):
    """A model that answers about pictures.

    Attributes:
        deciding: what of it decides an answer.
    """

    deciding: tuple[Any, ...]

    def read(self, images: Sequence[bytes], pictures: Sequence[Pixels | str], threads: int) -> list[Read]:
        """Scores per picture, or a reason."""
        ...


class ChatJudge:
    """A chat model with a policy.

    Attributes:
        name, version, categories, attributes, threshold: see :class:`~mllmrisk.judges.base.Judge`; the version ends
            in a digest of the model, the question and the form of the answer.
    """

    attributes: tuple[str, ...] = ()

    def __init__(self, recipe: Recipe, folder: Path, *, device: str = "auto") -> None:
        """Loads the model, or makes the client.

        Raises:
            MissingExtraError: a package is not installed.
            UsageError: no such model or device; the model's vocabulary lacks the two tokens; no key.
        """
        self.name = recipe.name
        self.categories = tuple(recipe.categories)
        self.threshold = {name: category.threshold for name, category in recipe.categories.items()}
        self._chat: Chat = Remote(recipe) if recipe.endpoint else Local(recipe, folder, device)
        meaning = {name: (category.labels, category.policy) for name, category in recipe.categories.items()}
        deciding = (self._chat.deciding, recipe.question, recipe.answer, meaning)
        self.version = f"{recipe.version}-{digest(*deciding)}"

    def score(self, images: Sequence[bytes], *, threads: int) -> list[dict[str, Score]]:
        """Scores encoded images; one that cannot be read is not shown to the model."""
        reads = self._chat.read(images, upright(images, threads), threads)
        return [
            unscored(self.categories, read)
            if isinstance(read, str)
            else {name: finite(read[name]) for name in self.categories}
            for read in reads
        ]


def _questions(recipe: Recipe) -> list[tuple[str, str]]:
    """(category, text) of every question about one picture; one question for all categories has no category."""
    if recipe.answer.format != "yes-no":
        return [("", recipe.question.text)]
    return [(name, recipe.question.text.replace("{policy}", c.policy)) for name, c in recipe.categories.items()]


def _read(recipe: Recipe, text: str) -> Read:
    return parsed(text, recipe.answer, {name: category.labels for name, category in recipe.categories.items()})


class Local:
    """A chat model in this process."""

    def __init__(self, recipe: Recipe, folder: Path, device: str) -> None:
        """Loads it; a guard that is published as a classifier (ShieldGemma 2) answers with logits of *yes* and *no*."""
        assert recipe.model is not None
        self._recipe = recipe
        self._network = recipe.model
        what = f"judge {recipe.name!r}"
        loader = Loader(recipe.model, folder, device=device, what=what)
        architecture = (loader.part("AutoConfig").architectures or [""])[0]
        guard = architecture.endswith("ForImageClassification")
        if guard and recipe.answer.format != "yes-no":
            raise UsageError(f"{what}: a {architecture} answers yes or no: answer.format must be yes-no")
        self._model = loader.model("AutoModelForImageClassification" if guard else "AutoModelForImageTextToText")
        self._processor = loader.part("AutoProcessor")
        self._device = loader.device
        self._tokens = None if guard else self._two_tokens(what)
        template = getattr(self._processor, "chat_template", None)
        self.deciding = (loader.fingerprint(), recipe.model.dtype, type(self._processor).__name__, template)

    def _two_tokens(self, what: str) -> list[int]:
        answer, tokenizer = self._recipe.answer, self._processor.tokenizer
        if answer.format != "yes-no":
            return []
        found = [tokenizer.encode(word, add_special_tokens=False) for word in (answer.yes, answer.no)]
        unknown = tokenizer.unk_token_id
        if any(len(tokens) != 1 or tokens[0] == unknown for tokens in found):
            raise UsageError(
                f"{what}: {answer.yes!r} and {answer.no!r} are not one token each in the model's vocabulary"
            )
        return [tokens[0] for tokens in found]

    def read(self, images: Sequence[bytes], pictures: Sequence[Pixels | str], threads: int) -> list[Read]:
        """Asks every question about every picture; on a CPU one picture at a time."""
        del images
        run = self._probabilities if self._recipe.answer.format == "yes-no" else self._answers
        return each(pictures, run, network=self._network, device=self._device, threads=threads)

    def _inputs(self, pictures: list[Any], text: str) -> Any:
        """The model's inputs for one question about some pictures, by the processor's own chat template."""
        if hasattr(self._processor, "policy_definitions"):  # a guard's processor writes the conversation itself
            inputs = self._processor(
                images=pictures, custom_policies={"asked": text}, policies=["asked"], return_tensors="pt"
            )
        else:
            self._processor.tokenizer.padding_side = "left"
            system = self._recipe.question.system
            head = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
            asked = {"type": "text", "text": text}
            talks = [
                [*head, {"role": "user", "content": [{"type": "image", "image": picture}, asked]}]
                for picture in pictures
            ]
            template = self._processor.apply_chat_template
            given: dict[str, Any] = {"padding": True, "return_tensors": "pt"}
            if "processor_kwargs" in inspect.signature(template).parameters:  # newer versions ask for them apart
                given = {"processor_kwargs": given}
            inputs = template(talks, add_generation_prompt=True, tokenize=True, return_dict=True, **given)
        return inputs.to(self._device, self._model.dtype)

    def _answers(self, pictures: list[Any]) -> list[Read]:
        inputs = self._inputs(pictures, self._recipe.question.text)
        made = self._model.generate(
            **inputs, do_sample=False, num_beams=1, max_new_tokens=self._recipe.answer.max_tokens
        )
        written = made[:, inputs["input_ids"].shape[1] :]
        return [_read(self._recipe, text) for text in self._processor.batch_decode(written, skip_special_tokens=True)]

    def _probabilities(self, pictures: list[Any]) -> list[Read]:
        """P(yes) against no, per category: softmax over the two logits of the answer's first token."""
        found: list[dict[str, float]] = [{} for _ in pictures]
        for name, text in _questions(self._recipe):
            logits = self._model(**self._inputs(pictures, text)).logits
            two = logits if self._tokens is None else logits[:, -1, self._tokens]
            for scores, value in zip(found, two.double().softmax(dim=-1)[:, 0].cpu().tolist(), strict=True):
                scores[name] = value
        return list(found)


class _Token(msgspec.Struct, frozen=True):
    token: str
    logprob: float


class _Place(msgspec.Struct, frozen=True):
    top_logprobs: list[_Token]


class _Places(msgspec.Struct, frozen=True):
    content: list[_Place] | None = None


class _Message(msgspec.Struct, frozen=True):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Places | None = None


class Completion(msgspec.Struct, frozen=True):
    """An endpoint's answer."""

    choices: list[_Choice]


class Remote:
    """A chat model behind an OpenAI-compatible endpoint (vLLM, SGLang, llama.cpp, a provider)."""

    def __init__(self, recipe: Recipe) -> None:
        """Makes the client; nothing is sent."""
        assert recipe.endpoint is not None
        self._recipe = recipe
        self._client = Client(recipe.endpoint, what=f"judge {recipe.name!r}")
        self.deciding = (recipe.endpoint.base_url, recipe.endpoint.model, self._parameters())

    def _parameters(self) -> dict[str, Any]:
        given = self._client.endpoint.parameters
        default = {"temperature": 0, "max_tokens": self._recipe.answer.max_tokens}
        if self._recipe.answer.format == "yes-no":
            default = {"temperature": 0, "max_tokens": 1}
            return {**(default if given is None else given), "logprobs": True, "top_logprobs": 20}
        return default if given is None else given

    def read(self, images: Sequence[bytes], pictures: Sequence[Pixels | str], threads: int) -> list[Read]:
        """Asks every question about every picture, `endpoint.parallel` pictures at a time."""
        del threads
        tasks: list[Any] = [
            picture if isinstance(picture, str) else functools.partial(self._one, data, picture)
            for data, picture in zip(images, pictures, strict=True)
        ]
        return in_order(tasks, self._client.endpoint.parallel)

    def _one(self, data: bytes, picture: Pixels) -> Read:
        url = data_url(data, picture)
        found: dict[str, float] = {}
        for name, text in _questions(self._recipe):
            choice = self._choice(url, text)
            if isinstance(choice, str):
                return choice
            if not name:
                return _read(self._recipe, choice.message.content or "")
            value = self._probability(choice)
            if value is None:
                return UNPARSED
            found[name] = value
        return found

    def _choice(self, url: str, text: str) -> _Choice | str:
        system = self._recipe.question.system
        head = [{"role": "system", "content": system}] if system else []
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
        messages = [*head, {"role": "user", "content": content}]
        body = {"model": self._client.endpoint.model, "messages": messages, **self._parameters()}
        reply = self._client.ask("/chat/completions", body, Completion)
        if isinstance(reply, Failed):
            return reply.reason
        if len(reply.choices) != 1:
            return "malformed"
        (choice,) = reply.choices
        if choice.message.refusal or choice.finish_reason == "content_filter":
            return REFUSED
        cut = choice.finish_reason == "length" and self._recipe.answer.format != "yes-no"
        return UNPARSED if cut else choice

    def _probability(self, choice: _Choice) -> float | None:
        """P(yes) among the tokens that the endpoint shows; None where neither word is among them."""
        places = (choice.logprobs.content if choice.logprobs else None) or []
        shown = places[0].top_logprobs if places else []
        mass = {
            word: sum(math.exp(token.logprob) for token in shown if token.token.strip() == word)
            for word in (self._recipe.answer.yes, self._recipe.answer.no)
        }
        total = sum(mass.values())
        return mass[self._recipe.answer.yes] / total if total > 0 else None
