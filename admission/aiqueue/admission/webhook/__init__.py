"""The webhook: whoever submits a wrong Job is told so at once, in the sentence with which it would otherwise wait.

It is a courtesy, not a guard. What has to hold is held by the policies inside the API server, with no process of ours running: a
labelled Job is stored suspended, and only the controller starts it. So the webhook may be down, slow, wrong about the present or
fed nonsense, and the worst that follows is that a Job which can never start is stored, waits, and says why. It never fails closed.

The path of a request:

    API server ──POST──> app ──bytes──> reviews.decode ──Review──> Judge.quick ──Answer──> reviews.encode ──> API server
                                             │                         │ None: it would refuse on data, or knows none
                                        submitted.read                 └──> Judge.thorough, in a thread ──> read_through
                                   (kube.objects, kube.jobs)

* `reviews` reads the envelope, `submitted` the Job in it, exactly as the controller reads Jobs: one decoder, one reader, so the
  two never differ about what a Job asks for.
* `rules` is what needs no data: form, and what may not change while the Job runs. Refused at once, 422 and 403.
* `aiqueue.admission.engine.Door` is what the configuration decides: the queue exists and is open, allows the class, and could
  hold the Job if it were empty. It asks the engine's own functions, so its sentences are the verdicts of the engine. A Job with
  a min-parallelism is judged at that size.
* `hints` is what is said of a Job that is allowed.
* `judge` puts these in order. Everything but a refusal on data is answered from memory on the event loop. Before it refuses on
  data the ledger is read through, since a queue may have been made a moment ago; where the ledger does not answer in time the
  Job is allowed with a warning.

A dry run is judged as the real request would be: nothing here has side effects.

Invariants, each a test: any bytes give an answer or `UnreadableReview`; an update that changes nothing is allowed whatever is
stored, and one that changes something answers for that alone; `quick` never blocks and never refuses on data; what is refused
on data is what the engine, told the same, says can never be; answers are bounded, whatever was sent.

What fails, and how:

* The body is no AdmissionReview: `UnreadableReview`, HTTP 400. The API server goes on without us.
* The object is no Job we can read, or has so many parts that weighing it would hold up others: allowed with a warning.
* Postgres is away: judged from memory; with a warning once it has been away for some seconds. What memory would refuse, and
  everything where nothing was ever read, is allowed with a warning that says what was not checked.
* No answer in two seconds, or nobody there: failurePolicy Ignore, the Job is stored and waits.
"""
