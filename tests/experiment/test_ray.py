"""The same plan on a Ray cluster of two nodes gives the same table."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from edgedistill.experiment import run as running

pytestmark = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Ray's own
def test_a_cluster_of_two_nodes_gives_the_same_rows(tiny, finished, tmp_path, unavailable):
    if find_spec("ray") is None:
        unavailable("Ray is an extra: pip install 'edgedistill[ray]'")
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address)
    try:
        rows = running.run(tiny, tmp_path / "out", executor="ray")

        assert len(ray.nodes()) == 2
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert [row.error for row in rows] == [None] * 8
    for row, other in zip(rows, finished[1], strict=True):
        assert {**row.numbers, "seconds": 0} == {**other.numbers, "seconds": 0}
