"""Joining a Ray cluster: which one, how quietly, and what is said where there is none."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from mllmrisk.errors import MissingExtraError, UsageError
from mllmrisk.executors import cluster


def test_a_cluster_is_joined_and_left(two_nodes):
    import ray

    with cluster.connect(two_nodes.address) as joined:
        assert joined is ray
        assert joined.cluster_resources()["CPU"] == 2
        assert len(joined.nodes()) >= 2
        with cluster.connect("auto") as same:  # nested: used, and not left
            assert same.is_initialized()
        assert ray.is_initialized()
    assert not ray.is_initialized()


@pytest.mark.parametrize("address", ["", "somewhere", "http://a:1", "host:port", "ray://host", "a b:1"])
def test_what_is_no_address_is_refused_before_ray_is_imported(address):
    with pytest.raises(UsageError, match="no Ray address"), cluster.connect(address):
        pass


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nothing_listens_is_one_line(scheme):
    with socket.socket() as taken:  # bound and not listening: no other process can take the port
        taken.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UsageError, match=f"no Ray cluster answers at {address}: .*refused"):
            cluster.connect(address).__enter__()


def test_without_ray_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mllmrisk\[ray\]'"):
        cluster.connect("local").__enter__()


def test_importing_costs_no_ray():
    code = "import sys; import mllmrisk.executors.cluster; print('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
