"""One Ray cluster of two nodes in this machine for all tests of a session; nothing of it is left afterwards.

Nodes and object stores are small (one CPU and 100 MB each), the dashboard and telemetry are off, and its sockets lie in
a folder with a short name, since the path of a Unix socket may have 107 bytes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mllmrisk.executors import cluster as clusters

_STORE = 100 << 20


class TwoNodes:
    """A cluster whose second node can be taken away and brought back.

    Attributes:
        address: `HOST:PORT`, as `--ray-address` takes it.
    """

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._node = {"num_cpus": 1, "object_store_memory": _STORE}
        # a node that is gone is noticed after 5 s, not 15
        quick = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000}
        head = {**self._node, "include_dashboard": False, "_system_config": quick}
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=head)
        self._second: Any = None
        self.address: str = self._cluster.address
        self.restore()

    def remove_node(self) -> None:
        """Kills the second node with all that runs on it; its objects are lost."""
        self._cluster.remove_node(self._second, allow_graceful=False)
        self._second = None

    def restore(self) -> None:
        """Brings the second node back, where it is gone."""
        if self._second is None:
            self._second = self._cluster.add_node(**self._node)

    def workers(self, title: str) -> list[int]:
        """Process ids of the cluster's workers whose title holds a text: `MapWorker` is an actor of Ray Data."""
        raylets = {
            started.process.pid for node in self._cluster.list_all_nodes() for started in node.all_processes["raylet"]
        }
        found = []
        for process in Path("/proc").iterdir():
            if not process.name.isdigit():
                continue
            try:
                parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
                named = title in (process / "cmdline").read_text()
            except OSError:  # it has ended meanwhile
                continue
            if parent in raylets and named:
                found.append(int(process.name))
        return found

    def shutdown(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope="session")
def _two_nodes() -> Iterator[TwoNodes]:
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    before = {name: os.environ.get(name) for name in ("RAY_TMPDIR", "RAY_ADDRESS")}
    os.environ["RAY_TMPDIR"] = str(folder)
    os.environ.pop("RAY_ADDRESS", None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray = clusters.load()
            nodes = TwoNodes()
        try:
            yield nodes
        finally:
            ray.shutdown()
            nodes.shutdown()
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def two_nodes(_two_nodes: TwoNodes) -> Iterator[TwoNodes]:
    """The cluster with both its nodes, this process not joined to it; what a test took away is brought back."""
    _two_nodes.restore()
    yield _two_nodes
    clusters.load().shutdown()
