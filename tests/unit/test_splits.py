import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mllmrisk.experiments import splits
from mllmrisk.records import Sample


def sample(i: int, label: str = "fake", paradigm: str | None = None, **more: object) -> Sample:
    return Sample(id=f"s{i}", label=label, paradigm=paradigm or ("real" if label == "real" else "mllm"), **more)


def spread(reals: int, fakes: int, **column: str) -> list[Sample]:
    rows = [("real", i) for i in range(reals)] + [("fake", i) for i in range(fakes)]
    return [
        sample(10 * k + copy, label, **{name: value.format(label=label, i=i) for name, value in column.items()})
        for k, (label, i) in enumerate(rows)
        for copy in range(2)
    ]


def test_sources_group_where_there_are_enough():
    found = splits.groups(spread(3, 4, source="{label} {i}"))
    assert found.by == "source"
    assert not found.weak
    assert len(set(found.ids.tolist())) == 7


def test_prompts_group_where_there_is_one_source_of_photographs():
    samples = spread(5, 5, source="{label}", prompt_id="{i}")
    found = splits.groups(samples)
    assert found.by == "prompt"
    by_prompt = {s.prompt_id: set() for s in samples}
    for group, s in zip(found.ids, samples, strict=True):
        by_prompt[s.prompt_id].add(int(group))
    assert all(len(groups) == 1 for groups in by_prompt.values()), "a photograph and its generations belong together"


def test_without_sources_and_prompts_each_image_stands_alone_and_it_is_said():
    found = splits.groups([sample(i, "real" if i % 2 else "fake") for i in range(8)])
    assert found.weak
    assert len(set(found.ids.tolist())) == 8


def test_a_shared_prompt_joins_sources():
    samples = spread(4, 4, source="{label} {i}")
    for i in (0, 2):  # two photographs' sources share a prompt
        samples[i] = sample(1000 + i, "real", source=samples[i].source, prompt_id="p")
    found = splits.groups(samples)
    assert found.by == "source and prompt"
    assert found.ids[0] == found.ids[2] == found.ids[1] == found.ids[3]


def test_a_caption_and_its_expansions_are_one_group():
    samples = spread(4, 4, source="{label}", prompt_id="{i}")
    samples += [sample(2000 + i, source="fake", prompt_id=f"{i}/v1") for i in range(4)]
    found = splits.groups(samples, {f"{i}/v1": str(i) for i in range(4)})
    by_id = {s.id: int(group) for group, s in zip(found.ids, samples, strict=True)}
    assert found.by == "caption"
    assert len(set(by_id.values())) == 4
    assert all(by_id[f"s{2000 + i}"] == by_id[samples[2 * i].id] for i in range(4))


def test_what_is_joined_is_never_divided():
    samples = spread(4, 4, source="{label} {i}")
    apart = splits.groups(samples)
    joined = splits.groups(samples, joined=[(samples[0].id, samples[-1].id)])
    assert apart.ids[0] != apart.ids[-1]
    assert joined.ids[0] == joined.ids[-1] == joined.ids[1]
    assert len(set(joined.ids.tolist())) == len(set(apart.ids.tolist())) - 1


@given(st.integers(0, 2**16), st.integers(2, 6), st.lists(st.integers(1, 9), min_size=6, max_size=20))
def test_no_group_is_ever_divided(seed: int, count: int, sizes: list[int]):
    samples, ids = [], []
    for group, size in enumerate(sizes):
        label = "real" if group % 2 else "fake"
        samples += [sample(100 * group + k, label) for k in range(size)]
        ids += [group] * size
    fold = splits.folds(np.array(ids), samples, count, seed)
    assert len(fold) == len(samples)
    for group in set(ids):
        assert len({int(f) for f, g in zip(fold, ids, strict=True) if g == group}) == 1
    for f in set(fold.tolist()):
        held = {s.label for s, k in zip(samples, fold, strict=True) if k == f}
        assert held == {"real", "fake"}, "every fold can be scored on both labels"


def test_folds_follow_the_seed_and_nothing_else():
    samples = spread(6, 6, source="{label} {i}")
    ids = splits.groups(samples).ids
    first = splits.folds(ids, samples, 3, 1)
    np.testing.assert_array_equal(first, splits.folds(ids, samples, 3, 1))
    assert any(not np.array_equal(first, splits.folds(ids, samples, 3, seed)) for seed in range(2, 8))


@pytest.mark.parametrize("wanted", [2, 3, 5])
def test_fewer_folds_where_a_label_has_fewer_groups(wanted: int):
    samples = spread(3, 8, source="{label} {i}")
    fold = splits.folds(splits.groups(samples).ids, samples, wanted, 0)
    assert len(set(fold.tolist())) == min(wanted, 3)
