"""The production engine on a virtual clock: what would happen to these jobs under this configuration.

Purpose: to try a change of quota, of order or of tenants before people feel it; to replay what a cluster went through; and to
be the oracle of the engine's tests, since nothing decides here that does not decide in production.

    files ──reading──────────────┐
    trace ──traces, swf──tenancy─┴─> Scenario ──loop──> Outcome ──figures──> report, timeline, plot
                                                │  ▲
                                        Engine ─┘  └─ SimulatedCluster

`loop` does what the controller's three loops do, without what may go wrong between them: what happened is told to the engine,
its Plans are confirmed at once, and the cluster carries them out at once. Its module says in which order things happen at one
instant; between two instants nothing does. A job is where its workload would be in the ledger:

    (arrives) ──> Pending ──admitted──> Admitted ──runtime over──> Finished | Failed
                    ▲ Held                 │ notice
                    └──── at its deadline ─┴─> Evicting ──runtime over──> Finished | Failed
                                                  └──at its deadline, its time was up──> Expired

What is simpler than a cluster: nodes limit nothing, quota alone does; pods are ready at once and gone at once at the deadline of
an eviction; nobody releases a job that its owner holds; objects are applied and replaced, never deleted. What an eviction costs is
the work since the last checkpoint of that run, all of it where the job saves none; that of a run that expired is not counted, since
nobody does it again. A job that was told to end works on until its deadline, and who ends before is Finished. Work is pods times
time: at k of n pods a job takes n/k times as long. `cluster` says what starting and stopping mean, and one suite of tests holds the
simulated cluster and Kubernetes to it.

Invariants, each a test: open runs never exceed the quota of the time they were admitted; a job that finished has done the work of
its runtime, lost work left aside; a run that makes room has had its minimal runtime and its grace, and none lasts beyond its limit;
a simulation cut off at a time is the beginning of the whole one; one Strict queue is first come,
first served; everything that fits and is not kept back finishes, and every other job says why it waits, in the engine's words. The
same input gives the same bytes, whatever the seed of hashes and the order of the administrator's documents.

Failure modes. Input that cannot be understood, or contradicts itself at any time, is refused with sentences before anything is
played. A simulation ends: between two things that happen the engine is asked again at most twice for each job that waits or runs, and
at one instant for a bounded number of Plans, which evict a bounded number of runs; an engine that wants more is at fault, and `SimulationStalled` says so. Memory grows with the jobs: an
outcome keeps every run.
"""
