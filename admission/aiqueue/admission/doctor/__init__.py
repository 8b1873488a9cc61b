"""The doctor: does what the ledger says, what the engine makes of it and what the cluster shows agree, and what mends it where not?

Purpose: say of each difference what it is, where it likely comes from and what to do; do it oneself where nothing can be lost.

    cluster --lists--> ClusterSnapshot --.
    ledger  --one transaction--> LedgerSnapshot --> compare (pure) --> Differences --several looks--> those that stay
                                                                                          |
                                         a term of its own, one more look <-- mend -------'

States of a difference: seen (in one look), staying (in each of several), mended (gone after its mend), left (a person is needed).

Invariants:
- a look changes nothing, in the ledger or in the cluster (where run ids have to be compared, one id may be drawn and left out);
- a snapshot of a moving system lies, so only what every look shows is told, as the last look shows it;
- nothing is written to the cluster, ever: what has to be done there becomes an action, which the controller carries out;
- mending is done in a term taken from whoever led, so nobody else writes meanwhile; each mend is one fenced transaction, and only of
  what was told before and is still so in that term;
- a run is closed only when it is proven over: its Job is finished, gone or suspended, and a consistent list shows no pod of it alive;
- no pod is killed, no running Job is stopped that nobody decided to stop, no quota is changed;
- each mend leaves a row in the audit, in the transaction that does it.

Failure modes:
- killed at any point: the term runs out within its lease and a controller leads again; what was mended is whole;
- a controller is at work: it loses its term, stands by, leads again when the doctor is done, and builds its engine from the ledger;
- the account may not look at something: that is told as `NotLookedAt`, and what depends on it is not judged;
- the API server or Postgres goes away: the command ends with a sentence, and nothing is half done.
"""
