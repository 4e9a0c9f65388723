"""Detectors of the kind `http`: a commercial service, or anybody's server, described by a TOML alone.

A score is the log odds of the probability that the service tells. Services cost money and change without notice, so
every answer is recorded and replayed: one image is paid for once, and figures can be computed again without the
service.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Literal

import msgspec

from mllmrisk import config, images, perturb
from mllmrisk.detectors.allowance import Budget
from mllmrisk.detectors.calling import Address, Answer, Caller, File, Key, Limits, Sending
from mllmrisk.detectors.recipe import Common, Threshold
from mllmrisk.detectors.recordings import Recorded, Recordings, digest
from mllmrisk.errors import ImageError, UsageError
from mllmrisk.pace import StoppedError
from mllmrisk.records import Score

#: Log odds further out than this are not told apart: a service's exact 0 and 1 stand here, tied and in sight.
LOGIT_EDGE = 40.0
#: Answers without a number at the TOML's path, before any with one, after which the path is held to be wrong.
GIVE_UP = 3
#: Seconds after which an interrupt is heeded at the latest: one that comes just before a wait does not end it.
_HEED = 0.2

_MEDIA = {"JPEG": ("image/jpeg", ".jpg"), "PNG": ("image/png", ".png"), "WebP": ("image/webp", ".webp")}


class Reading(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the probability stands in the answer.

    Attributes:
        path: dotted, list items by number: `data.probability`, `results.0.score`.
        of: whether it is the probability of `fake` or of `real`.
        scale: the number that stands for certainty.
    """

    path: str
    of: Literal["fake", "real"] = "fake"
    scale: Literal[1, 100] = 1


class Recipe(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole TOML.

    Attributes:
        recordings: the JSONL file of answers, from the TOML's folder on; empty for `NAME.jsonl` in the folder
            `MLLMRISK_RECORDINGS`, or in the user's data folder.
        replay: `first` asks the service for what is not recorded; `only` never asks. `MLLMRISK_REPLAY` overrides it.
    """

    kind: Literal["http"]
    request: Address
    image: Sending
    answer: Reading
    threshold: Threshold
    key: Key | None = None
    limits: Limits = Limits()
    budget: Budget = Budget()
    recordings: str = ""
    replay: Literal["first", "only"] = "first"


def made(table: dict[str, Any], folder: Path, *, device: str = "cpu") -> Service:
    """The detector of a TOML of the kind `http`; the device does not matter to it.

    Raises:
        UsageError: the TOML, the recordings or the key's environment variable.
        MissingExtraError: httpx or tenacity is not installed.
    """
    del device
    return Service(config.converted(table, Recipe), folder)


class Service:
    """Asks a service, a few images at a time, for what is not recorded yet.

    Attributes:
        name, version, thresholds, seen, decision: see :class:`~mllmrisk.detectors.base.Detector`; the version ends in
            a digest of what is asked and how the answer is read, never of the key. A service that changes its model
            under the same name changes under the same version.
        recordings: the answers that are kept.
        caller: the client, with what was spent; None where only recordings answer.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        """Reads the recordings and makes the client; nothing is sent.

        Args:
            recipe: the TOML.
            folder: where it is.
        """
        self.name = recipe.name
        self.decision = recipe.threshold.value
        self.thresholds: dict[float, float] = {}
        self.seen: frozenset[str] = frozenset()
        self._answer, self._model = recipe.answer, recipe.request.model
        self._url, self._parallel = recipe.request.url, recipe.limits.parallel
        sent = {"how": recipe.image.how, "field": recipe.image.field}
        self._asked = [msgspec.to_builtins(recipe.request), sent]
        self.version = f"{recipe.version}-{digest(self._asked, msgspec.to_builtins(recipe.answer))[:8]}"
        self.recordings = Recordings(place(recipe.recordings, recipe.name, folder))
        what = f"detector {recipe.name!r}"
        self.caller = None
        if os.environ.get("MLLMRISK_REPLAY", recipe.replay) != "only":
            self.caller = Caller(recipe.request, recipe.image, recipe.key, recipe.limits, recipe.budget, what=what)
        self._what = what
        self._lock = threading.Lock()
        self._asking: dict[str, Future[Recorded | str]] = {}
        self._unread = 0
        self._wrong: UsageError | None = None

    def score(
        self, images: Sequence[Path | bytes], *, chains: Sequence[str] | None = None, threads: int | None = None
    ) -> list[Score]:
        """See :class:`~mllmrisk.detectors.base.Detector`.

        Native files are sent untouched; with a perturbation chain, the file that the chain ends in is sent. `threads`
        does not matter: the TOML says how many requests are under way at a time.

        Returns:
            Unscored for these reasons beside those of unreadable images: `budget_spent`, `credit_spent`,
            `not_recorded`, `not_published`, `refused`, `too_large`, `unsupported`, `bad_request`, and
            :data:`~mllmrisk.detectors.calling.TRANSIENT` ones.

        Raises:
            UsageError: the service refuses the key, is not there, or does not answer as the TOML says; what was
                answered until then is recorded.
        """
        del threads
        if self._wrong:
            raise self._wrong
        before = ["native"] * len(images) if chains is None else [perturb.canonical(chain) for chain in chains]
        pool = ThreadPoolExecutor(self._parallel)
        waits = True  # answers under way are paid for, and recorded
        try:
            tasks = [pool.submit(self._one, image, chain) for image, chain in zip(images, before, strict=True)]
            while wait(tasks, _HEED).not_done:
                pass
            return [task.result() for task in tasks]
        except BaseException as wrong:
            self._stop(wrong)
            waits = isinstance(wrong, Exception)
            if isinstance(wrong, StoppedError) and self._wrong:
                raise self._wrong from None
            raise
        finally:
            if self.caller and not waits:
                self.caller.close()
            pool.shutdown(wait=waits, cancel_futures=True)

    def _stop(self, wrong: BaseException) -> None:
        """No further call goes out: no later image would fare better, or the user has interrupted."""
        with self._lock:
            stopped = UsageError(f"{self._what} was stopped: load it again")
            self._wrong = self._wrong or (wrong if isinstance(wrong, UsageError) else stopped)
        if self.caller:
            self.caller.stop()

    def _one(self, image: Path | bytes, chain: str) -> Score:
        if self._wrong:
            raise StoppedError
        try:
            data = image if isinstance(image, bytes) else image.read_bytes()
        except OSError:
            return Score(None, "unreadable")
        sha256 = hashlib.sha256(data).hexdigest()
        request = digest(self._asked, sha256, chain)
        found: Recorded | str | None = self.recordings.find(request)
        if found is None:
            found = self._once(request, data, sha256, chain) if self.caller else "not_recorded"
        return Score(None, found) if isinstance(found, str) else self._score(found)

    def _once(self, request: str, data: bytes, sha256: str, chain: str) -> Recorded | str:
        """Asks for an image, once however many threads hold it."""
        with self._lock:
            waiting = self._asking.get(request)
            mine: Future[Recorded | str] | None = None
            if waiting is None:
                # Another thread may have had its answer since this one looked.
                if (found := self.recordings.find(request)) is not None:
                    return found
                mine = self._asking[request] = Future()
        if waiting is not None:
            return waiting.result()
        assert mine is not None
        try:
            answer = self._ask(request, data, sha256, chain)
        except BaseException as wrong:
            self._stop(wrong)  # at once: each further call costs
            mine.set_exception(wrong)
            raise
        else:
            mine.set_result(answer)
            return answer
        finally:
            with self._lock:
                del self._asking[request]

    def _ask(self, request: str, data: bytes, sha256: str, chain: str) -> Recorded | str:
        assert self.caller is not None
        try:
            file = _file(data, chain)
        except ImageError as wrong:
            return wrong.code
        self.recordings.ready()
        answer = self.caller.ask(file)
        if isinstance(answer, str):
            return answer
        recorded = Recorded(
            request=request,
            service=self._url,
            model=self._model,
            image=sha256,
            chain=chain,
            sent=file.sha256,
            status=answer.status,
            answer=answer.body,
        )
        self.recordings.add(recorded)
        self._watch(answer)
        return recorded

    def _score(self, recorded: Recorded) -> Score:
        if not 200 <= recorded.status < 300:
            return Score(None, "refused")
        logit = log_odds(recorded.answer, self._answer)
        return Score(None, "malformed") if logit is None else Score(logit)

    def _watch(self, answer: Answer) -> None:
        """Stops when answers come and none has the number: the TOML's path is wrong, and each answer costs.

        Raises:
            UsageError: with the path and what the last answer has.
        """
        if not 200 <= answer.status < 300:
            return
        with self._lock:
            if self._unread < 0:
                return
            self._unread = -1 if log_odds(answer.body, self._answer) is not None else self._unread + 1
            if self._unread < GIVE_UP:
                return
        there = ", ".join(sorted(answer.body)) if isinstance(answer.body, dict) else type(answer.body).__name__
        raise UsageError(
            f"{self._what}: no answer has a probability at {self._answer.path!r}; the last one has: {there[:300]}. "
            f"The answers are kept in {self.recordings.path}: mend [answer], nothing is paid for twice"
        )


def log_odds(answer: Any, reading: Reading) -> float | None:
    """ln(p / (1 - p)) of the probability p of fake in an answer, within ±:data:`LOGIT_EDGE`; None if there is none."""
    value = answer
    for step in reading.path.split("."):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    share = value / reading.scale
    if not 0 <= share <= 1:  # NaN as well
        return None
    if share in (0, 1):
        logit = LOGIT_EDGE if share else -LOGIT_EDGE
    else:
        logit = min(max(math.log(share) - math.log1p(-share), -LOGIT_EDGE), LOGIT_EDGE)
    return logit if reading.of == "fake" else -logit


def place(given: str, name: str, folder: Path) -> Path:
    """The file of a detector's recordings: the TOML's own, or one of that name in the folder for all."""
    if given:
        return folder / Path(given).expanduser()
    return config.user_folder("recordings", "MLLMRISK_RECORDINGS") / f"{name}.jsonl"


def _file(data: bytes, chain: str) -> File:
    """What is sent for an image: its own bytes, or the file that a chain ends in.

    Raises:
        ImageError: there is no image in it: nothing to pay for.
    """
    images.decode(data)
    sent = data if chain == "native" else perturb.encode(data, chain)
    media, suffix = _MEDIA.get(images.probe(sent).format, ("application/octet-stream", ".bin"))
    return File(sent, media, suffix, hashlib.sha256(sent).hexdigest(), chain != "native")
