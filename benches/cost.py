"""What features of 10^6, 10^8 and 10^9 images cost and how long they take, from measured constants and stated prices.

`python benches/cost.py` prints what stands in `docs/many-machines.md`; after a constant has changed, paste it there.
`python benches/cost.py --measure FOLDER` measures the first three constants on the photographs of a folder.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import NamedTuple

SIDE = 512


class Measured(NamedTuple):
    """Constants of this program, each with how it was measured."""

    #: Images a second and core: decode of 512 x 512 JPEG q90 and the `default` set, CPU time of one thread.
    images_per_core: float = 450.0
    #: Bytes of such a file, the mean of photographs.
    image_bytes: float = 64_900.0
    #: Bytes of a row of Parquet in parts of 2,048 rows (957 features).
    row_bytes: float = 3_430.0
    #: CPU seconds of the driver per part: what Ray Data and our bookkeeping take.
    driver_seconds: float = 0.0075
    #: Images of a part where images are files.
    part_images: int = 2048


class Assumed(NamedTuple):
    """Prices and limits of a cloud, which differ between clouds and years: put your own here."""

    #: Dollars per core and hour, on demand, of a machine for computing.
    core_hour: float = 0.05
    #: Cores of a machine, and what its network sustains in Gbit/s.
    machine_cores: int = 16
    machine_gbit: float = 10.0
    #: Dollars per 1,000 reading requests of the object store.
    thousand_gets: float = 0.0004
    #: Reading requests a second that one prefix of a bucket serves.
    gets_per_second: float = 5500.0
    #: Bytes of a tar, and of a request for a piece of one.
    tar_bytes: float = 1e9
    request_bytes: float = 8 << 20


class Cost(NamedTuple):
    """One line of the table."""

    images: float
    layout: str
    cores: int
    hours: float
    limit: str
    compute: float
    requests: float
    read: float
    written: float


def cost(images: float, layout: str, cores: int, measured: Measured, assumed: Assumed) -> Cost:
    """Time and dollars of so many images as `files` or in `tars`, with all their objects behind one prefix."""
    per_image = 1.0 if layout == "files" else measured.image_bytes / assumed.request_bytes
    per_part = measured.part_images if layout == "files" else assumed.tar_bytes / measured.image_bytes
    rates = {
        "decode": cores * measured.images_per_core,
        "network": cores / assumed.machine_cores * assumed.machine_gbit * 1e9 / 8 / measured.image_bytes,
        "object store": assumed.gets_per_second / per_image,
        "driver": per_part / measured.driver_seconds,
    }
    limit = min(rates, key=lambda name: rates[name])
    hours = images / rates[limit] / 3600
    return Cost(
        images,
        layout,
        cores,
        hours,
        limit,
        hours * cores * assumed.core_hour,
        images * per_image * assumed.thousand_gets / 1000,
        images * measured.image_bytes,
        images * measured.row_bytes,
    )


def network_limit(measured: Measured, assumed: Assumed) -> float:
    """Images a second and core from which a machine's network is what it waits for."""
    return assumed.machine_gbit * 1e9 / 8 / measured.image_bytes / assumed.machine_cores


def page(measured: Measured = Measured(), assumed: Assumed = Assumed()) -> str:  # noqa: B008  # frozen
    """The tables of the page, as Markdown."""
    lines = [
        "| images | stored as | cores | time | waits for | cores, $ | requests, $ | read | written |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for images, cores in ((1e6, 16), (1e8, 256), (1e9, 2048)):
        for layout in ("files", "tars"):
            one = cost(images, layout, cores, measured, assumed)
            power = len(str(int(images))) - 1
            lines.append(
                f"| 10^{power} | {layout} | {cores} | {_time(one.hours)} | {one.limit} | {_dollars(one.compute)} "
                f"| {_dollars(one.requests)} | {_bytes(one.read)} | {_bytes(one.written)} |"
            )
    per_prefix = {layout: _served(layout, measured, assumed) for layout in ("files", "tars")}
    network = network_limit(measured, assumed)
    driven = {
        "files": measured.part_images / measured.driver_seconds / measured.images_per_core,
        "tars": assumed.tar_bytes / measured.image_bytes / measured.driver_seconds / measured.images_per_core,
    }
    lines += [
        "",
        f"- Decode and features: {measured.images_per_core:,.0f} images a second and core "
        f"({1000 / measured.images_per_core:.1f} ms each).",
        f"- Network: at {network:,.0f} images a second and core ({1000 / network:.2f} ms each) a machine of "
        f"{assumed.machine_cores} cores waits for its {assumed.machine_gbit:g} Gbit/s; we are at "
        f"{measured.images_per_core / network:.0%} of that.",
        f"- Object store: one prefix serves {per_prefix['files']:,.0f} cores where each image is an object, "
        f"and {per_prefix['tars']:,.0f} cores where they are in tars.",
        f"- Driver: {measured.driver_seconds * 1000:g} ms a part, so that it keeps up with {driven['files']:,.0f} "
        f"cores on files and {driven['tars']:,.0f} on tars.",
    ]
    return "\n".join(lines) + "\n"


def _served(layout: str, measured: Measured, assumed: Assumed) -> float:
    """Cores that one prefix of the object store can feed."""
    per_image = 1.0 if layout == "files" else measured.image_bytes / assumed.request_bytes
    return assumed.gets_per_second / per_image / measured.images_per_core


def _time(hours: float) -> str:
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def _dollars(amount: float) -> str:
    return f"{amount:.2f}" if amount < 10 else f"{amount:,.0f}"


def _bytes(count: float) -> str:
    return f"{count / 1e12:.1f} TB" if count >= 1e12 else f"{count / 1e9:.0f} GB"


def measure(folder: Path) -> Measured:
    """The first three constants, on the middle 512 x 512 of each image below a folder that is as large, as JPEG q90."""
    import io

    import numpy as np
    import pyarrow.parquet
    from PIL import Image

    from mllmrisk import features
    from mllmrisk.executors import dataset_tables
    from mllmrisk.tars import SUFFIXES

    data = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and min((image := Image.open(path).convert("RGB")).size) >= SIDE:
            left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
            stream = io.BytesIO()
            image.crop((left, top, left + SIDE, top + SIDE)).save(stream, "JPEG", quality=90)
            data.append(stream.getvalue())
    best = float("inf")
    for _ in range(7):
        began = time.process_time()
        found = features.extract(data, threads=1)
        best = min(best, (time.process_time() - began) / len(data))
    rows = Measured().part_images
    values = np.resize(found.values, (rows, len(found.names)))
    values *= 1 + np.random.default_rng(0).normal(0, 1e-3, values.shape).astype(np.float32)  # repeats compress too well
    block = dataset_tables.Block([f"shard-000000.tar/{row:09}.jpg" for row in range(rows)], values, {})
    (table,) = dataset_tables.feature_tables([block], dataset_tables.feature_schema(found.names))
    written = io.BytesIO()
    pyarrow.parquet.write_table(table, written, **dataset_tables.parquet_options())
    return Measured(1 / best, sum(map(len, data)) / len(data), written.tell() / rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(measure(Path(sys.argv[2])))
    else:
        print(page(), end="")
