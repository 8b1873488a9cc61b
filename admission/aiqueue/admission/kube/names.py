"""Labels, annotations and fixed names on Kubernetes' wire."""

from __future__ import annotations

PREFIX = "aiqueue.dev/"

QUEUE_LABEL = PREFIX + "queue"
CLASS_LABEL = PREFIX + "class"

# Written by users.
MIN_PARALLELISM_ANNOTATION = PREFIX + "min-parallelism"
MAX_RUNTIME_ANNOTATION = PREFIX + "max-runtime"
ESTIMATED_RUNTIME_ANNOTATION = PREFIX + "estimated-runtime"
CHECKPOINT_ANNOTATION = PREFIX + "checkpoint"
HOLD_ANNOTATION = PREFIX + "hold"

# Written by aiqueue; the policies keep everybody else's hands off them.
RUN_ANNOTATION = PREFIX + "run"
EVICT_AT_ANNOTATION = PREFIX + "evict-at"
USER_ANNOTATION = PREFIX + "user"
# Written by aiqueue with the value of `run` where it stops the Job itself: without it a suspension is the owner's. Of no use to forge.
STOPPED_ANNOTATION = PREFIX + "stopped"

CONTROLLER_UID_LABEL = "batch.kubernetes.io/controller-uid"
FIELD_MANAGER = "aiqueue"
POD_SET = "main"  # name of the one pod set of a Job

# Where a cluster says which ledger runs it: a ConfigMap that the manifests bring, and the keys of its data.
SYSTEM_NAMESPACE = "aiqueue-system"
CLAIM = "aiqueue-ledger"
CLAIM_LEDGER, CLAIM_CLUSTER = "ledger", "cluster"
