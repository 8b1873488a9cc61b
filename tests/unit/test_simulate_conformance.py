"""The simulated cluster does for a run what a cluster does; and what only it knows: runtimes, checkpoints, the order of ends."""

from __future__ import annotations

import pytest

from aiqueue.admission.simulate.cluster import Seen, SimulatedCluster
from aiqueue.queue.words import WorkloadState
from fix_conformance import ClusterConformance, SimulatedWorld, stamp


class TestSimulatedCluster(ClusterConformance):
    @pytest.fixture
    def world(self) -> SimulatedWorld:
        return SimulatedWorld()


@pytest.mark.parametrize(("checkpoint_us", "lost_us"), [(None, 70), (20, 10), (70, 0), (71, 70), (1, 0)])
def test_a_stop_loses_what_was_done_since_the_last_checkpoint(checkpoint_us: int | None, lost_us: int) -> None:
    cluster = SimulatedCluster()
    cluster.create("a", pods=1, runtime_us=100, checkpoint_us=checkpoint_us)
    assert cluster.start("a", stamp(1))
    assert cluster.next_end_us == 100
    assert cluster.advance(70) == []
    assert cluster.stop("a", stamp(1))
    assert cluster.lost_us("a") == lost_us
    assert cluster.next_end_us is None
    assert cluster.advance(500) == []
    assert cluster.start("a", stamp(2))
    assert cluster.next_end_us == 500 + 100 - (70 - lost_us)
    assert cluster.advance(500 + 100 - (70 - lost_us)) == [("a", WorkloadState.FINISHED)]


def test_checkpoints_count_from_the_start_of_each_run() -> None:
    cluster = SimulatedCluster()
    cluster.create("a", pods=1, runtime_us=100, checkpoint_us=30)
    for attempt, (begins, ends, lost) in enumerate([(0, 50, 20), (50, 85, 5), (85, 110, 25)], start=1):
        cluster.advance(begins)
        assert cluster.start("a", stamp(attempt))
        cluster.advance(ends)
        assert cluster.stop("a", stamp(attempt))
        assert cluster.lost_us("a") == lost
    assert cluster.start("a", stamp(9))
    assert cluster.next_end_us == 110 + 100 - 30 - 30


def test_part_of_the_pods_take_as_much_longer_and_no_work_is_lost_by_it() -> None:
    cluster = SimulatedCluster()
    cluster.create("a", pods=4, runtime_us=100, checkpoint_us=10)  # 400 pod-microseconds
    assert cluster.start("a", stamp(1), 3)
    assert cluster.next_end_us == 134  # 133 1/3
    cluster.advance(45)
    assert cluster.stop("a", stamp(1))
    assert cluster.lost_us("a") == 5  # 40 of three pods are saved: 280 are left
    assert cluster.start("a", stamp(2), 1)
    assert cluster.next_end_us == 45 + 280
    cluster.advance(45 + 20)
    assert cluster.stop("a", stamp(2))
    assert cluster.start("a", stamp(3))
    assert cluster.next_end_us == 65 + 65
    assert cluster.look("a") == Seen(False, 4, 0, 4, None, stamp(3))
    assert cluster.advance(130) == [("a", WorkloadState.FINISHED)]


def test_a_job_of_no_pods_takes_its_time_all_the_same() -> None:
    cluster = SimulatedCluster()
    cluster.create("a", pods=0, runtime_us=100, checkpoint_us=1)
    assert cluster.start("a", stamp(1), 0)
    cluster.advance(40)
    assert cluster.stop("a", stamp(1))
    assert cluster.start("a", stamp(2))
    assert cluster.next_end_us == 100


def test_what_expires_does_not_end_by_itself_too() -> None:
    cluster = SimulatedCluster()
    cluster.create("a", pods=1, runtime_us=100)
    assert cluster.start("a", stamp(1))
    cluster.advance(60)
    assert cluster.expire("a", stamp(1))
    assert cluster.next_end_us is None
    assert cluster.advance(200) == []


def test_jobs_that_end_at_one_time_end_in_the_order_of_their_runs() -> None:
    cluster = SimulatedCluster()
    for name in "abc":
        cluster.create(name, pods=1, runtime_us=10, fails=name == "a")
    for name, run in (("b", 1), ("c", 2), ("a", 3)):
        assert cluster.start(name, stamp(1, run_id=run))
    cluster.delete("c")
    assert cluster.advance(9) == []
    assert cluster.advance(10) == [("b", WorkloadState.FINISHED), ("a", WorkloadState.FAILED)]
