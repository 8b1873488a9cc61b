"""The controller: observe, decide, commit, act, round one ledger.

Purpose: make the cluster follow the ledger and the ledger follow the cluster, whatever dies in between.

    reflector --Jobs--> [cycle thread: observe -> ledger, engine; decide -> Plan -> ledger] --actions--> actor --PATCH--> cluster
                             ^                                                          (lane, then hands) |
                             +------------------- facts: done, gone, no pods left -----------------------+

States: a process is standby or leader (`process`, `term`); a leader rebuilds (`recollection`, `arrears`) or goes round (`leader`).

Invariants:
- one thread writes to the ledger, and each of its transactions begins with the fence of its term;
- nothing is told to the engine, the actor or the confirmer before the ledger has it;
- a PATCH is sent only while the term is trusted, with the uid and the resourceVersion that was decided on; after a conflict
  only if the Job still asks for the same and the ledger says the run is still to start under this term;
- what a run writes into a Job, and what its owner had there, is in the ledger before it is written (`rewriting`);
- a run is closed only when the cluster has proven that none of its pods is left (`follow`, `questions`);
- a run that was not started and that nobody is to start any more is closed, and its workload decided anew (`questions`);
- notice of an end is best effort and never holds the end up (`notices`), and nobody waits for what is told in Events (`news`);
- what we stop carries our mark: any other suspension of a run is its owner's, and his will outlasts the run (`follow`);
- a running Job that nobody admitted is adopted if it may be ours or old, stopped only if it slipped by, and only so many.

Failure modes:
- killed anywhere: the next leader reads the ledger, lists the cluster and goes on; actions that were done are seen to be done;
- stopped and continued: the term is not trusted any more, its sessions were ended, its PATCH meets a newer resourceVersion;
- Postgres away: the engine is thrown away and rebuilt with back-off, nothing is started meanwhile;
- API server away: the reflector and every action back off; the ledger keeps what is to be done;
- wrong, empty or restored ledger: `registration` refuses, `unknown` rations; the reason is a sentence in /readyz and the log.
"""
