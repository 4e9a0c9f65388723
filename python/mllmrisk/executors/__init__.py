"""Where work runs: in this process (`local`), or on the machines of a Ray cluster (`ray`)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

from mllmrisk.errors import UsageError
from mllmrisk.executors.base import Executor, Place
from mllmrisk.executors.local import Local

#: Names of `--executor`.
EXECUTORS = ("local", "ray")


class Chosen(NamedTuple):
    """Where the stages of a call run. It changes how long they take and not what they give.

    Attributes:
        executor: one of `EXECUTORS`.
        ray_address: the cluster, see :func:`mllmrisk.executors.cluster.connect`.
        ray_gpus: of each worker, where the cluster has any: a fraction lets several workers share one.
    """

    executor: str = "local"
    ray_address: str = "auto"
    ray_gpus: float = 1.0


def local(device: str = "auto", threads: int | None = None) -> Local:
    """This process, with all its cores unless `threads` says how many."""
    return Local(Place(device, threads or len(os.sched_getaffinity(0))))


@contextlib.contextmanager
def opened(chosen: Chosen, *, device: str, threads: int | None) -> Iterator[Executor]:
    """The executor of a call, for the length of a `with`.

    Args:
        chosen: which one.
        device: `auto` or a kind of device; an index names a GPU of this machine and is for `local` only.
        threads: of each worker; None for all cores here, and for a worker's share of its machine elsewhere.

    Raises:
        UsageError: no such executor, no such cluster, or it lacks what the device asks for.
        MissingExtraError: Ray is not installed.
    """
    if chosen.executor == "local":
        yield local(device, threads)
        return
    if chosen.executor != "ray":
        raise UsageError(f"no executor {chosen.executor!r}: {' or '.join(EXECUTORS)}")
    from mllmrisk.executors import cluster
    from mllmrisk.executors.ray import Ray

    with cluster.connect(chosen.ray_address) as ray:
        yield Ray(ray, device=device, threads=threads, gpus=chosen.ray_gpus)
