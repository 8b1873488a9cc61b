"""Everything that knows Kubernetes' wire, and nothing that decides.

    API server --list, watch--> reflector --> store --drain--> observe (jobs) --> the ledger's words
    API server <--merge patch-- client <-- patches <-- what the ledger wants done

Modules:
    names      labels and annotations
    objects    the fields we read, as frozen structs
    requests   what a pod takes
    templates  where a pod may run
    jobs       a Job as an Observation
    patches    start, stop, restore
    client     requests over the official client's transport
    watches    one watch, which can be closed from another thread
    backoff    how long to wait before trying again
    reflector  the thread that keeps a store equal to the cluster
    store      Jobs in memory, with what changed since the last look
    trust      the Secret and the caBundle by which the API server believes the webhook

Invariants:
    * A struct that was read is never written back: it holds a part of the object only. Writes are merge patches.
    * Each write names the uid and the resourceVersion it was decided on, so it lands on that object or not at all.
    * What the store holds of one uid never goes back in time. An absence in it proves nothing: the consumer asks with a GET.
    * Every response is read to its end or its connection is closed: an unread one would keep its connection for ever.

Failure modes:
    * API server away: the reflector tries again for ever, at most one attempt every 0.1 s growing to one every 30 s; what
      was known stays readable; `ReflectorState.last_error` says what is wrong.
    * resourceVersion too old (410), an ERROR event, an answer that cannot be read: a new list.
    * 401, 403: the same back-off; somebody has to act, and `last_error` says on what.
"""
