"""What a call of `evaluate` or `generate` comes to, before any work: configs read, everything needed looked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mllmrisk import config, generators, inference, manifest, photographs, prompts
from mllmrisk.errors import MissingExtraError, UsageError
from mllmrisk.executors import Chosen
from mllmrisk.experiments import EXPERIMENTS, confounds, examined, families
from mllmrisk.experiments.base import Experiment
from mllmrisk.manifest import Manifest
from mllmrisk.records import Ask, Prompt, RunSpec

_EXTRA_MODULES = {
    "train": ("sklearn", "onnx"),
    "cpu": ("onnxruntime",),
    "gen": ("torch", "diffusers", "transformers"),
    "finetune": ("onnxscript", "peft", "timm"),
}
#: Parameters of experiments that the profile fills where the suite leaves them empty.
_FROM_PROFILE = ("judges", "corrupted", "filters", "detectors")


class Request(NamedTuple):
    """One call, as the user made it.

    Attributes:
        generators: in place of the profile's.
        prompts: prompt sets in place of what the suite's experiments ask for (`generate` only).
        where: the executor; it is no part of what is measured.
        trace: whether the run leaves a trace.json.
    """

    suite: str = "full"
    profile: str = "embedded"
    images: Path | None = None
    out: Path | None = None
    limit: int | None = None
    samples: int | None = None
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    detectors: tuple[str, ...] = ()
    generators: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    where: Chosen = Chosen()
    trace: bool = False


class Order(NamedTuple):
    """Images of one prompt set, from every generator of the run.

    Attributes:
        samples: per prompt and generator.
        asked_by: kinds of the experiments that want them; `captions` for the suite's benign captions.
        n_prompts: prompts; what the set's TOML says where the texts are not at hand, 0 where nobody says it.
        texts: the prompts; empty where they are not at hand.
        missing: why not, and where they are published.
    """

    described: prompts.Described
    samples: int
    asked_by: tuple[str, ...]
    n_prompts: int
    texts: list[Prompt]
    missing: str | None = None


class Plan(NamedTuple):
    """What a request comes to.

    Attributes:
        given: the images of `--images`, or None.
        absent: detectors of the profile that are not at hand (weights, a key), and why.
        captions: prompt sets of the images that detection is measured on; None for all images.
        notes: what was left out and why, for the report.
    """

    spec: RunSpec
    suite: config.Suite
    profile: config.Profile
    given: Manifest | None
    generators: list[generators.Described]
    orders: list[Order]
    experiments: list[Experiment]
    absent: dict[str, str]
    captions: tuple[str, ...] | None
    out: Path
    notes: list[str]

    @property
    def explained(self) -> dict[str, str]:
        """What suite and profile say of leak probes that reach figures, by probe."""
        return {**self.suite.explained, **self.profile.explained}

    @property
    def photographs(self) -> bool:
        """Whether the run has real images."""
        there = self.given is not None and any(e.sample.label == "real" for e in self.given.entries)
        return there or bool(self.profile.photographs)


def plan(request: Request) -> Plan:
    """Reads configs and manifest and checks that everything needed is there, but for prompt texts (:func:`require`).

    Raises:
        UsageError: a config, the manifest or the call is wrong.
        MissingExtraError: an experiment needs packages that are not installed.
    """
    inference.parse_device(request.device)
    suite, profile = config.suite(request.suite), config.profile(request.profile)
    confounds.check({**suite.value.explained, **profile.value.explained})
    given = None if request.images is None else manifest.read(request.images, request.limit, both=False)
    makers = [generators.describe(name) for name in request.generators or profile.value.generators]
    _check_names(makers)
    generating = given is None or not any(e.sample.label == "fake" for e in given.entries)
    if generating and not makers:
        if given is not None and request.images is not None:
            manifest.check_labels(given.entries, request.images)
        raise UsageError(
            f"no images: give --images MANIFEST, or a profile with generators (profile {profile.value.name} has none)"
        )
    builder = _Builder(suite.value, profile.value, request, generating=generating, given=given)
    builder.build()
    spec = RunSpec(
        suite=suite.value.name,
        suite_digest=suite.digest,
        profile=profile.value.name,
        profile_digest=profile.digest,
        images=None if request.images is None else str(request.images),
        images_digest=None if given is None else given.digest,
        seed=request.seed,
        limit=request.limit,
        samples=request.samples,
        detectors={name: _file_digest(name) for name in request.detectors},
        generators={m.common.name: m.digest for m in makers} if generating else {},
        prompts={order.described.common.name: _order_digest(order) for order in builder.orders},
        version=version_of("mllmrisk"),
    )
    return Plan(
        spec=spec,
        suite=suite.value,
        profile=profile.value,
        given=given,
        generators=makers if generating else [],
        orders=builder.orders,
        experiments=builder.experiments,
        absent=builder.absent,
        captions=builder.captions,
        out=request.out or _default_out(spec),
        notes=builder.notes + (given.notes if given else []),
    )


def require(asked: Plan) -> None:
    """Refuses a plan whose prompt texts, detectors or photographs are not at hand.

    Raises:
        UsageError: which are missing and where they are published.
    """
    missing = [order for order in asked.orders if order.missing is not None]
    if missing:
        lines = "\n".join(f"  {order.missing}" for order in missing)
        example = missing[0].described.common.name
        raise UsageError(
            f"{len(missing)} prompt set(s) are not at hand:\n{lines}\n"
            f'put the files there, or leave a set out in a profile of your own ([prompts] with {example} = "")'
        )
    if asked.absent:
        lines = "\n".join(f"  {why}" for why in asked.absent.values())
        raise UsageError(
            f"{len(asked.absent)} detector(s) are not at hand:\n{lines}\n"
            "or leave them out in a profile of your own (detectors = [...])"
        )
    if asked.given is None and asked.captions is not None and asked.profile.photographs:
        photographs.check(asked.profile.photographs)


class _Builder:
    """Experiments with their parameters filled, and the orders that they come to."""

    def __init__(
        self,
        suite: config.Suite,
        profile: config.Profile,
        request: Request,
        *,
        generating: bool,
        given: Manifest | None,
    ) -> None:
        self._suite, self._profile, self._request = suite, profile, request
        self._generating = generating
        self._photographs = bool(profile.photographs) or (
            given is not None and any(e.sample.label == "real" for e in given.entries)
        )
        self._sets: dict[str, prompts.Described] = {}
        self._asked: dict[str, list[tuple[str, Ask]]] = {}
        self.experiments: list[Experiment] = []
        self.orders: list[Order] = []
        self.absent: dict[str, str] = {}
        self.captions: tuple[str, ...] | None = None
        self.notes: list[str] = []

    def build(self) -> None:
        for table in self._suite.experiments:
            self._add(table)
        if not self.experiments:
            raise UsageError(f"suite {self._suite.name}: nothing can be measured. " + " ".join(self.notes))
        if self._generating:
            self._add_captions()
            if self._request.prompts:
                asks = [Ask(prompt_set=self._named(name) or "") for name in self._request.prompts]
                self._asked = {ask.prompt_set: [("generate", ask)] for ask in asks}
            orders = [self._order(name, asks) for name, asks in self._asked.items()]
            self.orders = orders if self._request.limit is None else _limited(orders, self._request.limit)

    def _add(self, table: Mapping[str, Any]) -> None:
        kind = str(table.get("kind", ""))
        factory = EXPERIMENTS.get(kind)
        filled = dict(table)
        fields = factory.accepts.__struct_fields__
        looking = self._profile.looking(generated=self._generating)
        for name in _FROM_PROFILE:
            if name in fields:
                more = self._request.detectors if name == "detectors" else ()
                filled[name] = list(dict.fromkeys([*(filled.get(name) or getattr(looking, name)), *more]))
        if "detectors" in fields:
            filled["detectors"] = [name for name in filled["detectors"] if self._at_hand(name)]
        if "device" in fields:
            filled["device"] = self._request.device
        if "validation" in fields and self._generating:
            filled.setdefault("validation", self._profile.validation)
        # Asked twice: of most kinds it is known before their parameters are looked at, of `contrast` its designs tell.
        without = f"{kind}: not measured, since there are no photographs to compare with (--images)."
        if factory.photographs and not self._photographs:
            self.notes.append(without)
            return
        named = [name for name in factory.prompt_sets if filled.get(name)]
        if self._generating:
            filled.update({name: self._resolved(filled[name]) for name in named})
            if named and not any(filled[name] for name in named):
                self.notes.append(f"{kind}: not measured, since the profile leaves its prompt sets out.")
                return
        if not self._generating and "sets" in factory.prompt_sets:
            filled.pop("sets", None)  # all images that are given
        experiment = factory(config.parameters(filled, factory.accepts, f"suite {self._suite.name}, experiment {kind}"))
        if experiment.photographs and not self._photographs:
            self.notes.append(without)
            return
        if (lacking := experiment.absent()) is not None:
            self.notes.append(f"{kind}: not measured, since {lacking}.")
            return
        for extra in experiment.needs():
            _check_extra(kind, extra)
        self.experiments.append(experiment)
        for ask in experiment.asks():
            self._asked.setdefault(ask.prompt_set, []).append((kind, ask))

    def _at_hand(self, name: str) -> bool:
        """Whether a detector can be used; a packaged one that lacks its weights or key is noted in `absent`."""
        if name not in config.names("detectors") or families.is_family(name):
            return True
        if name not in self.absent:
            try:
                examined.load([name], self._request.device)
            except (UsageError, MissingExtraError) as why:
                self.absent[name] = str(why)
        return name not in self.absent

    def _add_captions(self) -> None:
        captions = self._suite.captions
        if captions is None or not any(experiment.photographs for experiment in self.experiments):
            return
        names = [name for name in (self._named(role) for role in captions.sets) if name]
        for name in names:
            ask = Ask(prompt_set=name, samples=captions.samples, take=captions.take)
            self._asked.setdefault(name, []).append(("captions", ask))
        self.captions = tuple(names)

    def _resolved(self, value: Any) -> Any:
        """Names of prompt sets, at any depth, as their TOMLs name them; what the profile leaves out is not there."""
        if isinstance(value, str):
            return self._named(value)
        if isinstance(value, Mapping):
            named = {self._named(key): part for key, part in value.items()}
            return {key: part for key, part in named.items() if key}
        found = [self._resolved(part) for part in value]
        if any(isinstance(part, str) for part in value) and any(not isinstance(part, str) for part in value):
            raise UsageError(f"suite {self._suite.name}: prompt sets and lists of them are mixed: {value}")
        if all(isinstance(part, str) for part in value):
            return list(dict.fromkeys(part for part in found if part))
        whole = zip(found, value, strict=True)
        return [part for part, before in whole if len(part) == len(before)]  # a pair needs both

    def _named(self, role: str) -> str | None:
        source = self._profile.prompts.get(role, role)
        if not source:
            note = f"prompt set {role}: left out by the profile {self._profile.name}."
            if note not in self.notes:
                self.notes.append(note)
            return None
        described = prompts.describe(source)
        self._sets[described.common.name] = described
        return described.common.name

    def _order(self, name: str, asks: Sequence[tuple[str, Ask]]) -> Order:
        described = self._sets[name]
        wanted = max(ask.samples for _, ask in asks)
        override = self._request.samples or self._profile.samples
        samples = override if override is not None and (wanted > 1 or self._request.prompts) else wanted
        takes = [ask.take for _, ask in asks]
        take = None if None in takes else max(t for t in takes if t is not None)
        kinds = tuple(dict.fromkeys(kind for kind, _ in asks))
        texts: list[Prompt] = []
        missing = None
        try:
            texts = prompts.read(described, take)
            count = len(texts)
        except UsageError as wrong:
            missing = str(wrong)
            expected = described.common.expected or 0
            count = expected if take is None else min(take, expected)
        return Order(described, samples, kinds, count, texts, missing)


def _limited(orders: Sequence[Order], limit: int) -> list[Order]:
    """The first prompts of each set; of safe twins, those of the unsafe prompts that are left."""
    asked = {prompt.id for order in orders for prompt in order.texts}
    kept = {prompt.id for order in orders for prompt in order.texts[:limit]}
    found = []
    for order in orders:
        twins = [prompt for prompt in order.texts if prompt.twin_of in asked]
        texts = [prompt for prompt in twins if prompt.twin_of in kept] if twins else order.texts[:limit]
        count = len(texts) if order.texts else min(order.n_prompts, limit)
        found.append(order._replace(texts=texts, n_prompts=count))
    return found


def _check_names(makers: Sequence[generators.Described]) -> None:
    names = [maker.common.name for maker in makers]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"two generators are named {twice[0]!r}")


def _check_extra(kind: str, extra: str) -> None:
    if any(find_spec(module) is None for module in _EXTRA_MODULES[extra]):
        raise MissingExtraError(f"the experiment {kind!r}", extra)


def _file_digest(name: str) -> str:
    path = Path(name)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""


def _order_digest(order: Order) -> str:
    """Over the texts and how many images of each."""
    texts = msgspec.json.encode([order.texts, order.samples])
    return hashlib.sha256(order.described.digest.encode() + texts).hexdigest()[:16]


def _default_out(spec: RunSpec) -> Path:
    """Under `runs/`, the same for the same work."""
    digest = hashlib.sha256(msgspec.json.encode(spec.compared(), order="sorted")).hexdigest()[:8]
    return Path("runs") / f"{spec.suite}-{spec.profile}-{digest}"


def version_of(distribution: str) -> str:
    """An installed distribution's version, in words where it is none."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"
