"""`mllmrisk.evaluate` for programs: the call of the command line with Python's types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mllmrisk.run import Run


def evaluate(
    *,
    suite: str = "full",
    profile: str = "embedded",
    images: str | Path | None = None,
    out: str | Path | None = None,
    limit: int | None = None,
    samples: int | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    detectors: Sequence[str | Path] = (),
    generators: Sequence[str | Path] = (),
    executor: str = "local",
    ray_address: str = "auto",
    ray_gpus: float = 1.0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Run:
    """Runs a suite to its report, or goes on with the run in `out`.

    Args:
        suite: what is measured: a name (`mllmrisk list suites`) or a TOML file.
        profile: who is measured: a name or a TOML file.
        images: a manifest (CSV, JSONL, Parquet), a folder or a tar of images: these are measured, and nothing is
            generated unless they are photographs only. None lets the profile's generators make them.
        out: run folder; the default is named after suite and images under `runs/`.
        limit: at most so many given images of each source, and prompts of each set.
        samples: images per prompt, where a suite asks for more than one.
        seed: of splits, resamples and matched pairs.
        device: `auto`, `cpu`, `cuda` or `cuda:INDEX`.
        threads: of the core; all cores unless given.
        detectors: further detector files.
        generators: names or TOML files, in place of the profile's.
        executor: `local`, or `ray`: generators, judges and detectors run on the machines of a Ray cluster; the figures
            do not depend on it.
        ray_address: which cluster: `auto`, `HOST:PORT`, `ray://HOST:PORT`, or `local`, one of this machine alone.
        ray_gpus: of each worker, where the cluster has any: 0.5 lets two share one.
        progress: called with (stage, done, total).

    Raises:
        UsageError: the call, a config or the manifest is wrong.
        MissingExtraError: an optional package is missing; the message says which line installs it.
        StoreError: `out` holds another run.
    """
    from mllmrisk import plan, runner
    from mllmrisk.executors import Chosen

    request = plan.Request(
        suite=suite,
        profile=profile,
        images=None if images is None else Path(images),
        out=None if out is None else Path(out),
        limit=limit,
        samples=samples,
        seed=seed,
        device=device,
        threads=threads,
        detectors=tuple(str(detector) for detector in detectors),
        generators=tuple(str(generator) for generator in generators),
        where=Chosen(executor, ray_address, ray_gpus),
    )
    return runner.evaluate(request, progress)
