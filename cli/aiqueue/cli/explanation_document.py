"""An explanation as JSON values."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from aiqueue.admission.engine.exposure import Exposure
from aiqueue.admission.engine.plan import Eviction
from aiqueue.admission.engine.prospects import Prospects
from aiqueue.cli.explanation import Explanation
from aiqueue.cli.foresight import Foresight
from aiqueue.cli.listings.claims import claim_document
from aiqueue.cli.listings.control import decision_status
from aiqueue.cli.listings.query import instant
from aiqueue.cli.listings.work import run_document, workload_document
from aiqueue.queue.records import Decision
from aiqueue.queue.store import views
from aiqueue.queue.units import format_amount


def document(explained: Explanation, now: datetime) -> dict[str, Any]:
    """The workload as a document, with `explanation`."""
    whole = workload_document(explained.workload, now)
    foresight = explained.foresight or Foresight()
    place, of = foresight.position or (None, None)
    outlook, claim = explained.outlook, explained.claim
    told = outlook.evicted_next if outlook is not None else None
    whole["explanation"] = {
        "decision": _decision(foresight.decision, now),
        "stored": None if explained.stored is None else decision_status(explained.stored),
        "position": place,
        "waitingInTenant": of,
        "admittedNext": foresight.admitted_next,
        "makesRoomNext": [{"runId": each.run_id, **_eviction(each)} for each in foresight.evicted_next],
        "claimant": _decision(foresight.claimant, now),
        "prospects": None if foresight.prospects is None else _prospects(foresight.prospects),
        "claim": None if claim is None else {**claim_document(claim, now)["spec"], **claim_document(claim, now)["status"]},
        "readyBy": None if outlook is None else instant(outlook.exposure.ready_by),
        "exposure": None if outlook is None else _exposure(outlook.exposure),
        "sizes": [{"podSet": name, "admitted": count, "requested": of} for name, count, of in explained.sizes],
        "evictedNext": None if told is None else _eviction(told),
        "runs": [{**run_document(run), "injected": run.injected} for run in explained.runs],
        "older": explained.older,
        "controller": {
            "leads": explained.leader.leads,
            "holder": explained.leader.holder,
            "until": instant(explained.leader.expires_at),
        },
    }
    return whole


def _decision(decision: Decision | None, now: datetime) -> dict[str, Any] | None:
    return None if decision is None else decision_status(views.DecisionView(decision, None, now, 1))


def _eviction(eviction: Eviction) -> dict[str, Any]:
    return {
        "outcome": str(eviction.outcome),
        "rule": None if eviction.rule is None else str(eviction.rule),
        "evictAt": instant(eviction.evict_at),
        "message": eviction.message,
    }


def _prospects(prospects: Prospects) -> dict[str, Any]:
    return {
        "withinTenant": str(prospects.within_tenant),
        "reclaim": str(prospects.reclaim),
        "eligible": prospects.eligible,
        "protected": prospects.protected,
        "protectedUntil": instant(prospects.protected_until),
        "notPreemptible": prospects.not_preemptible,
        "leaving": prospects.leaving,
    }


def _exposure(exposure: Exposure) -> dict[str, Any]:
    return {
        "preemptible": exposure.preemptible,
        "priority": exposure.priority,
        "candidateFrom": instant(exposure.candidate_from),
        "deadline": instant(exposure.deadline),
        "endsAt": instant(exposure.ends_at),
        "evictAt": instant(exposure.evict_at),
        "withinTenant": str(exposure.by_tenant),
        "borrowing": [
            {
                "tenant": each.tenant,
                "flavor": each.flavor,
                "resource": each.resource,
                "amount": format_amount(each.resource, each.amount),
            }
            for each in exposure.borrowing
        ],
        "takers": [
            {
                "tenant": each.tenant,
                "reclaim": str(each.reclaim),
                "abovePriority": each.above,
                "pairs": [{"flavor": flavor, "resource": resource} for flavor, resource in each.pairs],
            }
            for each in exposure.takers
        ],
    }
