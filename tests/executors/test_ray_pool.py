"""The pool of the Ray executor: order, laziness, errors that keep their meaning, and workers that die."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from pathlib import Path

import pytest
import ray.cloudpickle
import stages

from mllmrisk import executors
from mllmrisk.errors import GeneratorError, MissingExtraError, MllmriskError, UsageError
from mllmrisk.executors import Chosen
from mllmrisk.executors.base import Place
from mllmrisk.executors.ray import Share, divided


@pytest.fixture(scope="module", autouse=True)
def _by_value():
    """Workers have no path to the tests: these stages travel whole."""
    ray.cloudpickle.register_pickle_by_value(stages)
    yield
    ray.cloudpickle.unregister_pickle_by_value(stages)


@pytest.fixture
def cluster(two_nodes):
    with executors.opened(Chosen("ray", two_nodes.address), device="cpu", threads=1) as executor:
        yield executor


def squares(notes: Path, deadly: dict[int, int] | None = None, *, together: int = 1):
    return functools.partial(stages.Squares, notes, deadly or {}, together)


def given_up(number: int, reason: str):
    return number, reason


def met(notes: Path) -> list[int]:
    return sorted(int(path.name.split("-")[1]) for path in notes.glob("met-*"))


def test_results_come_in_order_from_both_nodes_and_stages_are_freed(cluster, tmp_path):
    with cluster.pool(squares(tmp_path, together=2), what="squares") as pool:
        assert pool.facts == ("squares", Place("cpu", 1))
        found = list(pool.map(range(60), given_up))
        assert [square for square, _ in found] == [n * n for n in range(60)]
        assert [square for square, _ in pool.map(range(3), given_up)] == [0, 1, 4]
        assert list(pool.map([], given_up)) == []
    assert len({process for _, process in found}) == 2
    assert met(tmp_path) == sorted([*range(60), 0, 1, 2])
    assert len(list(tmp_path.glob("closed-*"))) == 2


def test_blocks_are_taken_as_they_are_needed(cluster, tmp_path):
    taken = itertools.count()
    with cluster.pool(squares(tmp_path), what="squares") as pool:
        found = pool.map(taken, given_up)  # without end
        assert [next(found)[0] for _ in range(10)] == [n * n for n in range(10)]
        assert next(taken) <= 10 + 4 * 2
        # What is under way for the call that was left is not taken for the next one's.
        assert [square for square, _ in pool.map(range(100, 104), given_up)] == [n * n for n in range(100, 104)]


def test_a_worker_that_dies_costs_the_blocks_it_held(cluster, tmp_path):
    with cluster.pool(squares(tmp_path, {5: 1, 20: 2}, together=2), what="squares") as pool:
        found = list(pool.map(range(40), given_up))
    assert [square for square, _ in found] == [n * n for n in range(40)]
    times = Counter(met(tmp_path))
    assert (times[5], times[20], set(times)) == (2, 3, set(range(40)))
    assert times.total() <= 40 + 3 + 3  # with each death, the answer of one that was done may be lost
    assert len(list(tmp_path.glob("built-*"))) >= 1 + 3


def test_a_block_that_no_worker_survives_is_given_up_and_the_others_are_done(cluster, tmp_path):
    with cluster.pool(squares(tmp_path, {7: -1}), what="squares") as pool:
        found = list(pool.map(range(20), given_up))
    assert found[7] == (7, "worker_died")
    assert [square for square, _ in found[:7] + found[8:]] == [n * n for n in range(20) if n != 7]
    times = Counter(met(tmp_path))
    assert times.pop(7) in (3, 4)  # in company, then alone
    assert set(times) == set(range(20)) - {7}
    assert max(times.values()) <= 2


def test_a_node_that_goes_costs_what_its_worker_held(two_nodes, cluster, tmp_path):
    with cluster.pool(squares(tmp_path, together=2), what="squares") as pool:
        found = pool.map(range(80), given_up)
        head = [next(found) for _ in range(40)]
        assert len({process for _, process in head}) == 2
        two_nodes.remove_node()
        whole = head + list(found)
    assert [square for square, _ in whole] == [n * n for n in range(80)]
    assert len(met(tmp_path)) <= 80 + 8  # what was done there and not fetched yet is done again


def test_an_error_of_a_stage_comes_in_its_turn_with_its_attributes(cluster, tmp_path):
    with cluster.pool(squares(tmp_path), what="squares") as pool:
        found = pool.map([3, 4, -5, 6], given_up)
        assert [next(found)[0] for _ in range(2)] == [9, 16]
        with pytest.raises(GeneratorError, match="no root of -5") as stopped:
            next(found)
    assert stopped.value.made == [-5, None]


def test_a_mistake_in_a_stage_is_raised_as_what_it_is(cluster, tmp_path):
    with (
        cluster.pool(squares(tmp_path), what="squares") as pool,
        pytest.raises(TypeError, match="not supported between instances of 'str' and 'int'"),
    ):
        list(pool.map(["two"], given_up))


def test_what_cannot_be_built_says_so(cluster, tmp_path):
    with pytest.raises(MissingExtraError, match=r"mllmrisk\[gen\]") as refused, cluster.pool(stages.refused, what="it"):
        pass
    assert refused.value.extra == "gen"
    with (
        pytest.raises(MllmriskError, match="it: 3 workers died while they loaded it"),
        cluster.pool(functools.partial(stages.deadly, tmp_path), what="it"),
    ):
        pass
    assert len(list(tmp_path.glob("tried-*"))) == 3


def test_workers_that_differ_are_refused(cluster, tmp_path):
    build = functools.partial(stages.Own, tmp_path)
    with (
        cluster.pool(build, what="judge 'own'") as pool,
        pytest.raises(UsageError, match=r"judge 'own': workers differ.*'own', 2\) on .*process \d+"),
    ):
        list(pool.map(range(50), given_up))


def test_no_room_is_said(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("mllmrisk.executors.ray._ROOM", 0.1)
    monkeypatch.setattr("mllmrisk.executors.ray._LOOK", 0.2)
    cluster.share = Share(4, 0.0, 1)
    with (
        pytest.raises(UsageError, match=r"no machine had 4 CPU\(s\) free for a worker; the Ray cluster has \d CPU"),
        cluster.pool(squares(tmp_path), what="squares"),
    ):
        pass


def test_a_device_that_the_cluster_has_not(two_nodes):
    chosen = Chosen("ray", two_nodes.address)
    with pytest.raises(UsageError, match="no machine of the Ray cluster has a GPU"):
        executors.opened(chosen, device="cuda", threads=None).__enter__()
    with pytest.raises(UsageError, match="the cluster chooses the GPU"):
        executors.opened(chosen, device="cuda:1", threads=None).__enter__()
    with pytest.raises(UsageError, match="no executor 'dask': local or ray"):
        executors.opened(Chosen("dask"), device="cpu", threads=None).__enter__()


@pytest.mark.parametrize(
    ("nodes", "gpus", "threads", "share"),
    [
        ([{"CPU": 16, "GPU": 4}, {"CPU": 64, "GPU": 8}, {"CPU": 8}], 1.0, None, Share(4, 1.0, 12)),
        ([{"CPU": 16, "GPU": 4}, {"CPU": 64, "GPU": 8}, {"CPU": 8}], 0.5, None, Share(2, 0.5, 24)),
        ([{"CPU": 16, "GPU": 4}, {"CPU": 64, "GPU": 8}], 2.0, 3, Share(3, 2.0, 6)),
        ([{"CPU": 16, "GPU": 4}, {"CPU": 64, "GPU": 8}, {"CPU": 0}], 0.0, None, Share(16, 0.0, 5)),
        ([{"CPU": 16}, {"CPU": 64}], 1.0, 8, Share(8, 0.0, 10)),
        ([{"CPU": 2, "GPU": 8}], 1.0, None, Share(1, 1.0, 8)),
    ],
)
def test_a_cluster_is_divided_by_what_it_has(nodes, gpus, threads, share):
    assert divided(nodes, gpus=gpus, threads=threads) == share
