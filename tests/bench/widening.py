"""What a decide costs by how many tenants there are, each with a queue and as much work as in all other sizes."""

from __future__ import annotations

import gc
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from time import process_time

from aiqueue.admission.engine import ConfigurationChanged, WorkloadPending
from driving import LEAVES, PLENTY, START, Driver, configuration, workloads

EACH = 20  # workloads that wait in a tenant
ARRIVALS = 200


def tenants(size: int) -> dict[str, float]:
    """So many leaf tenants in trees of twenty."""
    trees, now = size // LEAVES, START + timedelta(days=1)
    nothing, plenty = configuration(0, 0, trees), replace(configuration(PLENTY, 0, trees), revision=2)
    driver = Driver(nothing, now)
    source = workloads(trees)
    driver.observe(map(WorkloadPending, islice(source, size * EACH)))
    driver.settle()
    gc.collect()
    gc.freeze()
    arrivals = []
    for workload in islice(source, ARRIVALS):
        began = process_time()
        driver.observe([WorkloadPending(workload)])
        driver.decide()
        arrivals.append(process_time() - began)
    began = process_time()
    driver.observe([ConfigurationChanged(plenty)])
    changed = process_time()
    admitted, _ = driver.settle()
    ended = process_time()
    if admitted != size * EACH + ARRIVALS:
        raise SystemExit(f"admitted {admitted} of {size * EACH + ARRIVALS}: the engine left out what fits")
    return {
        "change_us_a_tenant": round((changed - began) / size * 1e6, 1),
        "admission_us": round((ended - changed) / admitted * 1e6, 1),
        "arrival_p50_ms": round(sorted(arrivals)[ARRIVALS // 2] * 1000, 3),
        "arrival_p99_ms": round(sorted(arrivals)[ARRIVALS * 99 // 100] * 1000, 3),
    }
