"""The local harness: real Kubernetes and real Postgres on loopback, without containers, for tests and `aiqueue dev`.

Purpose. Nothing that tests, demos and benchmarks touch is a stand-in for an API server or a database. `cluster`
runs etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kwok (fake nodes that live through pods'
lifecycles); `postgres` runs a server from the programs in a wheel. `build` provides the former, once per machine.
`environment` is one of each with further programs beside them: what `aiqueue dev` starts and stops. `installed` puts aiqueue
itself there, its processes all in the shape of `services`. How long a pod on a fake node runs, whether it fails, is ready, or
takes its time to stop, is said by annotations, listed in `manifests/devcluster/stages/pods.yaml`.

States of an instance (a cluster or a server in its folder):

    absent --start--> running --stop--> stopped (data kept) --start--> running
                         |
                         +-- its owner dies --> leftover --next start of anything--> stopped

Invariants.

- All that is started is written down before it runs (`processes`, `state`), by pid and start time: a pid that was
  given to another program since is never signalled.
- An owned instance belongs to one living process. One that is not owned (`aiqueue dev up`) outlives its starter
  and is started and stopped by anybody who has its folder; the folder's lock orders them.
- Only loopback is listened on. Ports are chosen free, kept over restarts while they stay free, chosen again when
  somebody else was quicker.
- KUBECONFIG and AIQUEUE_DATABASE_URL are never read, nor passed on to anything started here. AIQUEUE_TEST_KUBECONFIG and
  AIQUEUE_TEST_DATABASE_URL may name a server; `guard` refuses one that does not carry the mark put there by whoever
  prepared it.

Failure modes. A program that ends or is not ready in time: everything started is ended again and the error carries the
tail of its log. The starter killed: a leftover, see above. A build interrupted: only a folder beside the cache is left,
removed by the next build. A damaged state file: an error, since nothing may be guessed about pids.

Known limits. What a killed test run left behind goes on running until the next start of anything. etcd listens on
loopback without TLS, so other users of the machine could reach a cluster's data: do not run this on a shared host with
anything worth hiding.
"""
