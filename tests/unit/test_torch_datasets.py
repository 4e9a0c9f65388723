"""Datasets for PyTorch: one result from every source, worker and rank; torchvision's values; bad images; resuming."""

import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import warnings

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pa = pytest.importorskip("pyarrow")

import pyarrow.parquet  # noqa: E402
from PIL import Image  # noqa: E402
from torch.utils.data import DataLoader, RandomSampler  # noqa: E402

import mllmrisk.torch as data  # noqa: E402
from mllmrisk import features, images, perturb  # noqa: E402
from mllmrisk.errors import ImageError, ManifestError, UsageError  # noqa: E402
from mllmrisk.images import Preprocessing  # noqa: E402
from mllmrisk.torch.order import draws, fractions, order  # noqa: E402

COUNT = 23
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HOW = Preprocessing(crop_mode="centre", size=(48, 40), mean=MEAN, std=STD)
CHANCE = data.Recipe(HOW, chains={"jpeg:75": 0.4, "noise:3": 0.4}, random_crop=True, mirror=0.5, seed=7)


def jpeg(seed: int, quality: int = 90) -> bytes:
    rng = np.random.default_rng(seed)
    height, width = 60 + seed % 37, 70 + seed % 29
    small = Image.fromarray(rng.integers(0, 256, (12, 14, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    small.resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """The same images as files, in two tars and in two Parquet files of small row groups."""
    root = tmp_path_factory.mktemp("images")
    contents = [jpeg(i) for i in range(COUNT)]
    paths = []
    for i, content in enumerate(contents):
        path = root / "files" / ("fake" if i % 3 == 0 else "real") / f"{i:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        paths.append(path)
    labels = [int(i % 3 == 0) for i in range(COUNT)]
    tars, tables = [], []
    for part, numbers in enumerate((range(9), range(9, COUNT))):
        tars.append(root / f"{part}.tar")
        with tarfile.open(tars[-1], "w") as tar:
            for i in numbers:
                side = str(labels[i]) if i % 2 else json.dumps({"label": "fake" if labels[i] else "real"})
                for name, content in ((f"{i}.jpg", contents[i]), (f"{i}.{'cls' if i % 2 else 'json'}", side.encode())):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        tables.append(root / f"{part}.parquet")
        column = [contents[i] for i in numbers]
        table = pa.table({"image": column, "nested": [{"bytes": c, "path": None} for c in column],
                          "label": [labels[i] for i in numbers]})  # fmt: skip
        pyarrow.parquet.write_table(table, tables[-1], row_group_size=4)
    return {
        "contents": contents,
        "labels": labels,
        "folder": root / "files",
        "files": lambda: data.files(paths, labels=labels),
        "tars": lambda: data.tars(tars),
        "parquet": lambda: data.parquet(tables, label="label"),
        "nested": lambda: data.parquet([str(t) for t in tables], image="nested", label="label"),
    }


def told(batches):
    """What batches hold, to compare."""
    return [(b.images.numpy().tobytes(), b.labels.tolist(), b.indices.tolist()) for b in batches]


def loader(dataset, workers, context=None, **more):
    context = context if workers else None
    return DataLoader(dataset, batch_size=None, num_workers=workers, multiprocessing_context=context, **more)


def test_every_source_gives_the_same_batches(stored):
    expected = told(data.ImageBatches(stored["files"](), CHANCE, 5))
    assert [label for _, labels, _ in expected for label in labels] == stored["labels"]
    for kind in ("tars", "parquet", "nested"):
        assert told(data.ImageBatches(stored[kind](), CHANCE, 5)) == expected
    folder = data.ImageBatches(data.files(stored["folder"]), CHANCE, 5)
    assert sorted(label for b in folder for label in b.labels.tolist()) == sorted(stored["labels"])


def test_a_manifest_with_tars_and_files_and_labels_of_ones_own(stored):
    root = stored["folder"].parent
    rows = "path,class\nfiles/fake/000.jpg,cat\n0.tar/1.jpg,dog\n1.tar/10.jpg,cat\n"
    (root / "list.csv").write_text(rows)
    found = data.files(root / "list.csv", label=lambda sample: ["cat", "dog"].index(sample.extra["class"]))
    assert found.labels.tolist() == [0, 1, 0]
    assert found.name(1).endswith("0.tar/1.jpg")
    (batch,) = data.ImageBatches(found, data.Recipe(HOW), 5)
    expected = images.prepare([stored["contents"][i] for i in (0, 1, 10)], HOW).values
    assert np.array_equal(batch.images.numpy(), expected)
    assert data.files(root / "list.csv").labels.tolist() == [-1, -1, -1]
    with pytest.raises(ManifestError, match="labels go with a list"):
        data.files(root / "list.csv", labels=[0, 1, 0])


@pytest.mark.parametrize(
    ("kind", "context"),
    # To start an interpreter that imports torch takes seconds: one source each.
    [("files", "fork"), ("tars", "fork"), ("parquet", "fork"), ("files", "spawn"), ("parquet", "forkserver")],
)
def test_workers_change_nothing_whatever_starts_them(stored, kind, context):
    # The parent has used the core, and torch's own threads, before it forks.
    images.prepare(stored["contents"] * 4, HOW, threads=4)
    features.extract(stored["contents"][:4], threads=3)
    batches = data.ImageBatches(stored[kind](), CHANCE, 4, shuffle=6, threads=2)
    alone = told(batches)
    assert told(loader(batches, 2, context)) == alone
    if context == "fork":
        assert told(loader(batches, 1, context)) == alone
        mapped = data.ImageDataset(stored[kind](), CHANCE)
        numbers = [[3, 22, 0], [7, 1, 9]]
        by_worker = DataLoader(mapped, batch_sampler=numbers, num_workers=2, collate_fn=data.whole,
                               multiprocessing_context=context)  # fmt: skip
        assert told(by_worker) == told(mapped.__getitems__(some).batch for some in numbers)


def test_a_fork_while_the_core_works_does_not_hang(stored):
    stop = threading.Event()

    def work():
        while not stop.is_set():
            images.prepare(stored["contents"], HOW, threads=2)

    busy = threading.Thread(target=work)
    busy.start()
    try:
        batches = data.ImageBatches(stored["files"](), CHANCE, 4, threads=2)
        assert len(told(loader(batches, 2, "fork", timeout=60))) == 6
    finally:
        stop.set()
        busy.join()


def test_a_long_call_leaves_the_interpreter_to_others(stored):
    found = []
    working = threading.Thread(target=lambda: found.append(images.prepare(stored["contents"] * 100, HOW, threads=1)))
    working.start()
    turns = 0
    while working.is_alive():
        turns += 1
    assert len(found[0].rows) == 100 * COUNT
    assert turns > 20_000  # with the lock held, there would be a handful


def test_ranks_share_the_images_and_workers_do_not_matter(stored):
    for kind in ("files", "parquet"):
        for shuffle in (0, 7):
            ranks = [
                data.ImageBatches(stored[kind](), data.Recipe(HOW), 4, shuffle=shuffle, rank=r, world=3)
                for r in range(3)
            ]
            seen = [i for rank in ranks for b in rank for i in b.indices.tolist()]
            assert sorted(seen) == list(range(COUNT))
            assert (seen == list(range(COUNT))) == (not shuffle)
    even = [
        data.ImageBatches(stored["files"](), data.Recipe(HOW), 3, drop_last=True, rank=r, world=3) for r in range(3)
    ]
    assert [len(list(rank)) for rank in even] == [len(rank) for rank in even] == [2, 2, 2]


def test_the_rank_is_that_of_torch_distributed(stored, tmp_path):
    distributed = torch.distributed
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        batches = data.ImageBatches(stored["files"](), data.Recipe(HOW), 4)
        assert (batches.rank, batches.world) == (0, 1)
    finally:
        distributed.destroy_process_group()
    with pytest.raises(UsageError, match="go together"):
        data.ImageBatches(stored["files"](), data.Recipe(HOW), 4, rank=1)


def test_another_epoch_is_another_order_and_other_draws(stored):
    batches = data.ImageBatches(stored["files"](), CHANCE, COUNT, shuffle=1)

    def epoch(number):
        batches.set_epoch(number)
        (batch,) = batches
        return batch.indices.tolist(), batch.images[batch.indices.argsort()]

    (first, one), (second, two) = epoch(0), epoch(1)
    assert first != second
    assert sorted(first) == sorted(second)
    assert not torch.equal(one, two)
    again, same = epoch(0)
    assert again == first
    assert torch.equal(same, one)


def test_workers_that_live_on_follow_the_epoch(stored):
    batches = data.ImageBatches(stored["files"](), CHANCE, 4, shuffle=1)
    lasting = loader(batches, 2, "fork", persistent_workers=True)
    found = []
    for epoch in (0, 1):
        batches.set_epoch(epoch)
        found.append(told(lasting))
    for epoch in (0, 1):
        batches.set_epoch(epoch)
        assert told(batches) == found[epoch]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_going_on_in_the_middle_of_an_epoch(stored, workers, prefetch):
    def fresh():
        return data.ImageBatches(stored["files"](), CHANCE, 4, shuffle=1, prefetch=prefetch)

    whole = fresh()
    whole.set_epoch(3)
    every = told(whole)
    assert whole.state_dict() == {"epoch": 3, "batches": 6}
    broken = fresh()
    broken.set_epoch(3)
    for taken, _ in enumerate(broken, 1):
        if taken == 2:
            break
    assert broken.state_dict() == {"epoch": 3, "batches": 2}
    resumed = fresh()
    resumed.load_state_dict(broken.state_dict())
    resumed.set_epoch(3)
    assert told(loader(resumed, workers, "fork")) == every[2:]
    whole.set_epoch(4)
    resumed.set_epoch(4)
    assert told(loader(resumed, workers, "fork")) == told(whole)


def test_a_row_depends_on_its_image_alone(stored):
    one = {i: b.images[k] for b in data.ImageBatches(stored["files"](), CHANCE, 3, shuffle=1)
           for k, i in enumerate(b.indices.tolist())}  # fmt: skip
    mapped = data.ImageDataset(stored["files"](), CHANCE, threads=2)
    for i in range(COUNT):
        image, label, index = mapped[i]
        assert torch.equal(image, one[i])
        assert (int(label), int(index)) == (stored["labels"][i], i)


def test_chains_come_as_often_as_they_should_and_each_image_has_its_own_noise():
    count = 20_000
    indices = np.arange(count)
    recipe = data.Recipe(HOW, chains={"jpeg:75": 0.5, "native": 0.2, "noise:2": 0.2}, mirror=0.25, random_crop=True)
    chains = recipe._chains(indices, 0)
    shares = {chain: chains.count(chain) / count for chain in ("jpeg:75", "noise:2", None)}
    for chain, share in (("jpeg:75", 0.5), ("noise:2", 0.2), (None, 0.3)):
        assert abs(shares[chain] - share) < 4 * (share * (1 - share) / count) ** 0.5
    views = recipe._views(indices, 0)
    places = np.array([view.at for view in views])
    assert np.all((places >= 0) & (places < 1))
    assert np.allclose(places.mean(0), 0.5, atol=0.01)
    assert abs(np.corrcoef(places.T)[0, 1]) < 0.03
    assert abs(np.mean([view.mirrored for view in views]) - 0.25) < 0.015
    assert len(set(draws(0, 0, indices, 1).tolist()) | set(draws(0, 1, indices, 1).tolist())) == 2 * count
    assert np.abs(np.corrcoef(fractions(0, 0, indices, 0), fractions(1, 0, indices, 0))[0, 1]) < 0.03
    every = data.Recipe(HOW, chains={"jpeg:75": 0.1, "jpeg:85": 0.2, "jpeg:95": 0.7})._chains(indices, 0)
    assert None not in every


def test_an_order_has_every_image_once_near_its_block():
    blocks = np.array([0, 0, 40, 90, 91, 200])
    for shuffle in (0, 1, 16, 1000):
        ranks = [order(blocks, 300, shuffle=shuffle, seed=1, epoch=2, rank=r, world=4) for r in range(4)]
        assert sorted(np.concatenate(ranks).tolist()) == list(range(300))
        assert {len(rank) for rank in ranks} == {75}
    found = order(blocks, 300, shuffle=16, seed=1, epoch=2)
    for start in range(0, 300, 16):
        ends = np.searchsorted(blocks, found[start : start + 16], side="right")
        assert len(set(ends.tolist())) <= 4
    files = order(np.arange(1000), 1000, shuffle=1, seed=1, epoch=0)
    assert abs(np.corrcoef(files, np.arange(1000))[0, 1]) < 0.15


def test_values_are_torchvisions(stored):
    v2 = pytest.importorskip("torchvision.transforms.v2")
    tail = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    pipelines = {
        v2.Compose([v2.CenterCrop((48, 40)), *tail]): HOW,
        v2.Compose([v2.Resize(52), v2.CenterCrop((48, 40)), *tail]): Preprocessing(
            crop_mode="short", resize=52, size=(48, 40), interpolation="bilinear", mean=MEAN, std=STD
        ),
    }
    pictures = [Image.open(io.BytesIO(content)) for content in stored["contents"]]
    for pipeline, how in pipelines.items():
        (batch,) = data.ImageBatches(stored["files"](), data.Recipe(how), COUNT)
        assert torch.equal(batch.images, torch.stack([pipeline(picture) for picture in pictures]))
    recipe = data.Recipe(HOW, random_crop=True, mirror=0.5, chains="jpeg:75")
    (batch,) = data.ImageBatches(stored["files"](), recipe, COUNT)
    functional, crop = v2.functional, v2.Compose(tail)
    for row, picture, view in zip(batch.images, pictures, recipe._views(np.arange(COUNT), 0), strict=True):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=75)
        again = Image.open(buffer)
        down, across = (
            int(f * (side + 1)) for f, side in zip(view.at, (again.height - 48, again.width - 40), strict=True)
        )
        part = functional.crop(again, down, across, 48, 40)
        assert torch.equal(row, crop(functional.horizontal_flip(part) if view.mirrored else part))


def test_levels_are_a_quarter_of_the_floats(stored):
    plain = Preprocessing(crop_mode="centre", size=(48, 40))
    (levels,) = data.ImageBatches(stored["files"](), data.Recipe(plain, dtype="uint8"), COUNT)
    (floats,) = data.ImageBatches(stored["files"](), data.Recipe(plain), COUNT)
    assert levels.images.dtype == torch.uint8
    assert levels.images.is_contiguous()
    assert torch.equal(levels.images * np.float32(1 / 255), floats.images)
    channels_last = msgspec.structs.replace(plain, layout="NHWC")
    (turned,) = data.ImageBatches(stored["files"](), data.Recipe(channels_last), COUNT)
    assert torch.equal(turned.images.permute(0, 3, 1, 2), floats.images)


def test_tiles_are_rows_with_the_label_of_their_image(stored):
    how = Preprocessing(crop_mode="tiles", size=(32, 32))
    for batch in data.ImageBatches(stored["files"](), data.Recipe(how), 4):
        assert len(batch.images) > 4
        assert batch.labels.tolist() == [stored["labels"][i] for i in batch.indices.tolist()]
    with pytest.raises(UsageError, match="several rows"):
        data.ImageDataset(stored["files"](), data.Recipe(how))


@pytest.fixture
def damaged(tmp_path):
    """Good images among an empty file, a missing one, a cut one, and a tar and a Parquet file with the like."""
    good = [jpeg(i) for i in range(4)]
    contents = [good[0], b"", good[1], good[2][: len(good[2]) // 2], good[3], b"no image"]
    paths = []
    for i, content in enumerate(contents):
        paths.append(tmp_path / f"{i}.jpg")
        paths[-1].write_bytes(content)
    paths.append(tmp_path / "missing.jpg")
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for path in paths[:-1]:
            tar.add(path, path.name)
    table = pa.table({"image": [*contents, None]})
    pyarrow.parquet.write_table(table, tmp_path / "shard.parquet")
    return tmp_path, paths


REASONS = {1: "empty", 3: "truncated", 5: "not_an_image", 6: "unreadable"}


def loud(_worker):
    """Warnings go to stderr, as they do where no pytest listens."""
    warnings.simplefilter("always")
    warnings.showwarning = lambda message, *_: os.write(2, f"{message}\n".encode())


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_images_are_left_out_counted_and_told(damaged, workers, capfd):
    root, paths = damaged
    batches = data.ImageBatches(data.files(paths), data.Recipe(HOW), 2)
    if workers:
        found = list(loader(batches, workers, "fork", worker_init_fn=loud))
        assert capfd.readouterr().err.count("of 7 images were left out") == 2
    else:
        with pytest.warns(data.SkippedImagesWarning, match=r"4 of 7 images were left out \(.*empty 1") as warned:
            found = list(batches)
        assert len(warned) == 1
    assert [i for b in found for i in b.indices.tolist()] == [0, 2, 4]
    assert {bad.index: bad.code for b in found for bad in b.errors} == {
        i: code for i, code in REASONS.items() if i != 6
    }  # the last batch had nothing but a bad image: no batch comes of it
    (bad,) = found[0].errors
    assert (bad.name, bad.message) == (str(root / "1.jpg"), "empty")


def test_bad_members_and_rows_have_their_names(damaged):
    root, _ = damaged
    for found, name in ((data.tars(root / "shard.tar"), "shard.tar/3.jpg"),
                        (data.parquet(root / "shard.parquet"), "shard.parquet, row group 0, row 3")):  # fmt: skip
        with pytest.warns(data.SkippedImagesWarning):
            (batch,) = data.ImageBatches(found, data.Recipe(HOW), 9)
        assert batch.indices.tolist() == [0, 2, 4]
        bad = {b.index: b for b in batch.errors}
        assert bad[3].name.endswith(name)
        assert bad[3].code == "truncated"
        assert "bytes" not in bad[3].message
    tar = root / "shard.tar"
    found = data.tars(tar)
    tar.write_bytes(tar.read_bytes()[: found._spans[4].sum() - 1])
    with pytest.warns(data.SkippedImagesWarning, match="unreadable 2"):
        assert len(list(data.ImageBatches(found, data.Recipe(HOW), 9))) == 1


def test_bad_images_can_be_errors(damaged):
    _, paths = damaged
    with pytest.raises(ImageError, match=r"1\.jpg: empty") as raised:
        list(data.ImageBatches(data.files(paths), data.Recipe(HOW), 2, bad="raise"))
    assert raised.value.code == "empty"
    mapped = data.ImageDataset(data.files(paths), data.Recipe(HOW))
    with pytest.raises(ImageError, match=r"3\.jpg: truncated"):
        mapped[3]
    with pytest.warns(data.SkippedImagesWarning):
        assert mapped.__getitems__([0, 1, 2]).batch.indices.tolist() == [0, 2]
    with pytest.raises(ImageError):
        data.ImageDataset(data.files(paths), data.Recipe(HOW), bad="raise").__getitems__([0, 1])
    with pytest.raises(IndexError):
        mapped[7]


def test_samplers_and_either_way_to_collate(stored):
    mapped = data.ImageDataset(stored["files"](), CHANCE)
    sampler = RandomSampler(mapped, generator=torch.Generator().manual_seed(5))
    whole = list(DataLoader(mapped, 6, sampler=sampler, collate_fn=data.whole))
    sampler = RandomSampler(mapped, generator=torch.Generator().manual_seed(5))
    stacked = list(DataLoader(mapped, 6, sampler=sampler))
    assert sorted(i for b in whole for i in b.indices.tolist()) == list(range(COUNT))
    for one, (pixels, labels, indices) in zip(whole, stacked, strict=True):
        assert torch.equal(one.images, pixels)
        assert torch.equal(one.labels, labels)
        assert torch.equal(one.indices, indices)
    assert isinstance(whole[0], data.Batch)
    mapped.set_epoch(1)
    assert not torch.equal(mapped[0][0], stacked[0][0][0])


def test_what_the_core_makes_goes_to_torch_without_a_copy(stored):
    content = stored["contents"][10]
    for array in (
        images.decode(content),
        images.prepare([content], HOW).values,
        features.extract([content]).values,
        perturb.apply(images.decode(content), "blur:1"),
        images.statistics([content]).values,
    ):
        tensor = torch.from_dlpack(array)
        assert tensor.data_ptr() == array.ctypes.data
        assert tensor.is_contiguous()
        assert array.flags.writeable  # torch has no read-only tensors: it would refuse, or write to what it must not
        before = array.flat[0]
        tensor.flatten()[0] += 1
        assert array.flat[0] == before + array.dtype.type(1)
        address = array.ctypes.data
        del array  # the tensor keeps the memory
        assert tensor.data_ptr() == address
        assert tensor.flatten()[0] == before + before.dtype.type(1)


def test_what_contradicts_itself_is_refused(stored):
    with pytest.raises(UsageError, match="Did you mean"):
        data.Recipe(HOW, chains="jpg:75")
    for chains in ({"jpeg:75": 0.7, "webp:80": 0.4}, {"jpeg:75": -0.1}):
        with pytest.raises(UsageError, match="probabilities"):
            data.Recipe(HOW, chains=chains)
    with pytest.raises(UsageError, match="uint8"):
        data.Recipe(HOW, dtype="uint8")
    with pytest.raises(UsageError, match="tiles"):
        data.Recipe(Preprocessing(crop_mode="tiles", size=(32, 32)), mirror=0.5)
    with pytest.raises(UsageError, match="at least 1"):
        data.ImageBatches(stored["files"](), CHANCE, 0)
    with pytest.raises(ManifestError, match="no image"):
        data.files([])
    with pytest.raises(ManifestError, match="2 labels for 1"):
        data.files(["a.jpg"], labels=[1, 2])
    with pytest.raises(ManifestError, match="no column 'picture'"):
        data.parquet(stored["folder"].parent / "0.parquet", image="picture")
    with pytest.raises(ValueError, match="views"):
        images.prepare([], Preprocessing(crop_mode="full"), views=[images.View(mirrored=True)])


def test_without_torch_the_cure_is_named():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import mllmrisk\n"
        "from mllmrisk.errors import MissingExtraError\n"
        "try: import mllmrisk.torch\n"
        "except MissingExtraError as missing: print(missing)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "mllmrisk.torch needs an optional package: pip install 'mllmrisk[gen]'"
