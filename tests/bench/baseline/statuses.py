"""What the Job controller of Kubernetes 1.36 writes into the status of a Job of one pod, as bodies of merge patches.

Each names the resourceVersion that it was made for, as that controller's updates do: where the Job has moved on, nothing is written.
The pod is ready at once, and gone at once. What that controller writes besides is left out: that a new Job is suspended, and the
counting of finished pods before their finalizers go.
"""

from __future__ import annotations

from datetime import UTC, datetime

FIELD_MANAGER = "executor"
_MANY = '{{"metadata":{{"resourceVersion":"{}"}},"status":{{{}}}}}'
_CONDITION = '{{"type":"{}","status":"{}","reason":"{}","message":"{}","lastProbeTime":"{}","lastTransitionTime":"{}"}}'


def path(job: str) -> str:
    """Where the status of the Job at a path is patched."""
    return f"{job}/status?fieldManager={FIELD_MANAGER}"


def start(resource_version: str, now: float, *, resumed: bool) -> bytes:
    """Its pod runs and is ready. A Job that was stopped before is resumed."""
    status = f'"startTime":"{_time(now)}","active":1,"ready":1,"terminating":0,"uncountedTerminatedPods":{{}}'
    if resumed:
        status += f',"conditions":[{_resumed(now)}]'
    return _MANY.format(resource_version, status).encode()


def complete(resource_version: str, now: float, *, resumed: bool) -> bytes:
    """Its pod has succeeded."""
    conditions = [_resumed(now)] if resumed else []
    conditions += [
        _condition("SuccessCriteriaMet", "True", "CompletionsReached", "Reached expected number of succeeded pods", now),
        _condition("Complete", "True", "CompletionsReached", "Reached expected number of succeeded pods", now),
    ]
    status = (
        f'"active":0,"ready":0,"succeeded":1,"completedIndexes":"0","completionTime":"{_time(now)}",'
        f'"conditions":[{",".join(conditions)}]'
    )
    return _MANY.format(resource_version, status).encode()


def stop(resource_version: str, now: float) -> bytes:
    """It was suspended, and its pod is gone."""
    suspended = _condition("Suspended", "True", "JobSuspended", "Job suspended", now)
    return _MANY.format(resource_version, f'"startTime":null,"active":0,"ready":0,"conditions":[{suspended}]').encode()


def _resumed(now: float) -> str:
    return _condition("Suspended", "False", "JobResumed", "Job resumed", now)


def _condition(kind: str, status: str, reason: str, message: str, now: float) -> str:
    return _CONDITION.format(kind, status, reason, message, _time(now), _time(now))


def _time(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
