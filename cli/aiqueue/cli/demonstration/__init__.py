"""The story that `aiqueue demo` tells, on a cluster and a database of its own.

Purpose: show in about a minute what aiqueue is for: a gang is started whole or not at all, whoever waits is told why, other
people's work goes on, what could never run is refused at once, nobody gets round it, a part that is down blocks nobody, and what
was lent goes back to its owner with notice and grace, at the least cost.

- `performance`: from the start of the environment to its end;
- `stage`: the environment, and how it is asked: the command lines that a person would type, and reads that are not shown;
- `jobs`: the Jobs of the story;
- `facts`: what the API server, its audit log and the ledger say, in the few shapes that the story needs;
- `story`: the acts, in order; those in which capacity changes hands are in `making_room`, and `steps` are what acts have in
  common;
- `voice`: how it is told.

Invariants:
- everything that is shown was read back from the API server or from Postgres, after the fact;
- each act checks what it tells: a difference ends the demo with a sentence and exit code 1;
- nothing waits for time to pass, only for facts, each with a deadline;
- the cluster and the database are the demo's own and end with it, also on Ctrl-C; KUBECONFIG and AIQUEUE_DATABASE_URL are
  never read.

Failure modes: a fact that does not come in time, or is not as told, is a `NotAsTold`; the folder with the logs is then kept and
named. A demo that is killed leaves programs behind that the next start of anything ends.
"""
