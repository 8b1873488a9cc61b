"""The engine: decides which pending workloads are admitted, and says of every other one why it waits.

It is a pure function of the events it was told, in the sense that matters: no input or output, no clock of its own, no
randomness, nothing that depends on the order of a hash. `observe` tells it facts that the ledger holds; `decide(now)` answers with
a `Plan`; `confirm` says that the ledger took the Plan. A Plan that is not confirmed leaves no trace, so the caller may decide,
fail to commit, and decide again.

One decide, in steps (`engine.py`, numbered there):

1. **Time.** Back-offs that ended are let in; heads that waited longer than their tenant's starvation bound are overdue; queues
   change places by what they used; runs that others had to leave alone may be put out.
2. **Endings** (`endings.py`). Each run of a tenant or queue in state Drain, and each whose time will be up by the end of its grace,
   is told once to end. Its quota stays taken until the run is closed.
3. **Contest** (`contest.py`). Claims whose room is there are admitted (`preempting.py`). Then of each tenant the next workload that
   fits whole (`flavors.py`), elastic work at the largest size that does (`sizes.py`), or for which others have to make room
   (`preemption.py`), enters the fair-share tournament (`tournament.py`, `shares.py`); those before it are parked, each with its whole
   bucket (below). The winner's quota is taken, or its claim made, tentatively; its tenant's next enters, and whoever it took room
   from is looked at again. Until nobody is left or the Plan is full.
4. **Verdicts.** Those that may have changed are worked out from the state and compared with what was confirmed (`verdicts.py`).
5. **wake_at.** The next end of a back-off, of a starvation bound, of a run's protection where somebody waits, or of its time; the
   next turn of queues that somebody waits for; `now` where a bound of the Plan was reached.

Taking room back. Who has no room and the better claim has runs put out, and the room is his (`claims.py`):

    Waiting ──victims found, told to end──> claims ──room is there──> admitted
       ▲                                      │
       └──cannot be met any more──────────────┘      gone, held, changed: the claim ends with it

From then on two usages are kept apart in his tree (`tree.py`): what was agreed, with the claim and without those who make room, by
which every rule goes; and what open runs hold. An admission has to fit both. So while room is being vacated nobody takes it,
nor the free room beside it that the claimant counts on, and nothing is given away that is not there yet. Not even who has a better
claim: that one waits until the room is taken, and then has it vacated again. Notice is not taken back: where a claim ends early,
those who were told leave, and their room is anybody's.

Where work stands (`buckets.py`, `standings.py`, `backlog.py`). Pending work that differs only in age is one bucket: (queue, class,
shape). Only its oldest is ever tried. The buckets of a tenant are a line, sorted by queue weight 0, then the tenant's `order`
(decayed usage by `ordering.py`), then age.

    Idle ──work arrives──> Ready ──fits──> admitted
      ▲                    │  ▲ │
      └─────emptied────────┘  │ ├─does not fit──────────────> Waiting ──room on what it waits for──> Ready
                              │ └─would delay who starves───> Behind ───that one gone──────────────> Ready
    Shut: queue, tenant or class closed, or it can never fit; leaves only when the configuration changes

A Waiting bucket is parked on the (tenant, flavor, resource) cells that refused it, sorted by the room it needs there, so a
closed run wakes those it made room for and looks at nobody else (`tree.py`, `Cell.blocks`). A Strict tenant's first bucket that
waits blocks all behind it, and where it could not always take back what it lends it reserves what is left of its nominal; a
BestEffort tenant's blocks, once it starves, those behind it that could take from any cell it may need. Whoever starves keeps
other tenants of its tree from borrowing what it has a stake in (`starvation.py`).

Invariants, each a property test: a gang is placed whole, or at a size that it agreed to; no admission raises usage above what the
tree's algebra allows, nor does a claim what was agreed; nobody but a claimant takes what is vacated for it; nobody is put out but by
a rule, past what its class promises; usage is the sum of open runs; two decides in a row are equal; a dropped Plan leaves no trace; fed by a history it decides as if built from
the final state; every pending workload has one verdict, and the confirmed ones give it back; nothing that fits is left unless the
Plan was cut; work per call is bounded.

A bucket's verdict is shared by (tenant, shape); where several queues lead the same shape to a tenant it is that of whichever comes
first. Several queues' holds and classes are told per workload (`OVERRIDE_REASONS`), in this order of precedence: QueueNotFound,
QueueClosed, TenantClosed, WorkloadHeld, ClassNotAllowed, InvalidRequest, Backoff, WaitingForVictims, then the shape's own. A queue that leads to a
tenant with others under it, or to none, is QueueNotFound: it leads nowhere. Work that names no class through a queue without a
default has the built-in class, priority 0, which every queue allows.

Failure modes. An event that contradicts what is known is taken as the newer truth: a run that opens again replaces itself, a
workload whose run is still open waits unseen until that run is closed. Usage above a limit (adopted runs, lowered quotas) stops
admissions there and evicts nobody by itself. Parents that are missing or go in a circle close the tenants under them. The engine cannot
notice that it drifted from the ledger: compare `usage()` with SQL's and build a new one. The one thing that is not a function of
the final state is when a shape came to be possible by a change of configuration, from which its starvation counts: an engine
built later counts from submission.
"""

from aiqueue.admission.engine.adoption import assign_for_adoption
from aiqueue.admission.engine.door import Door
from aiqueue.admission.engine.engine import Engine, PlanNotCurrent
from aiqueue.admission.engine.events import (
    ClaimHeld,
    ConfigurationChanged,
    Event,
    RunClosed,
    RunOpened,
    UsageMoved,
    WorkloadGone,
    WorkloadPending,
)
from aiqueue.admission.engine.plan import Admission, Eviction, Plan

__all__ = [
    "Admission",
    "ClaimHeld",
    "ConfigurationChanged",
    "Door",
    "Engine",
    "Event",
    "Eviction",
    "Plan",
    "PlanNotCurrent",
    "RunClosed",
    "RunOpened",
    "UsageMoved",
    "WorkloadGone",
    "WorkloadPending",
    "assign_for_adoption",
]
