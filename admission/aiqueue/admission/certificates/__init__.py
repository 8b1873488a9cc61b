"""The certificates of the webhook: issued by aiqueue itself, and rotated while requests go on.

The API server believes the webhook because two things agree: the serving certificate, which replicas read from a mounted Secret,
and the bundle of authorities in the webhook's configuration (caBundle). Neither changes everywhere at once: a kubelet brings a
Secret to a pod within a minute or so, an API server learns of a configuration from a watch. So the two are moved one
after the other, with a settle time in between.

    state          bundle     serving by   what ends it
    ----------     --------   ----------   -----------------------------------------------------------------------
    steady         [A]        A            A has less than a year left, cannot sign, or is not there
    announced      [B, A]     A            the bundle was in the configuration for the settle time
    taken over     [B, A]     B            the serving certificate is as old as the settle time
    steady         [B]        B

In every state a serving certificate is issued again, by whoever signs then, once two thirds of its 90 days are over or the host
names differ. What a replica may serve from memory that no longer suits the Secret is one certificate back at most.

Modules:
    x509      authorities, certificates and keys; nothing of rotation
    material  what a Secret or a folder holds, and `renewed`, the pure next step
    rotation  the same for a cluster: which of Secret and configuration is written next
    files     `provide`: a folder
    keeper    one pass over a cluster

Invariants:
    * A certificate that a replica may serve verifies against every bundle that an API server may hold: present and
      previous certificate against present and previous bundle.
    * The key of a new authority is stored before the authority is published, and it signs only after it was published.
    * `renewed` is idempotent: asked again with what it said, at the same time, it soon says that there is nothing to do.
    * Each write to the cluster names the resourceVersion it was decided on. The configuration is read before the Secret: a
      pass that fell asleep in between cannot publish an older bundle over a newer one.
    * Keys are in the Secret or in files of mode 0600; no text, log or error shows them.
    * A bundle holds at most `material.MOST_AUTHORITIES`.

Failure modes:
    * A pass dies anywhere: the next one finds a state of the table, or a step before one, and goes on from there.
    * Two passes at once: one of them gets a conflict, looks again and finds less to do, or nothing.
    * The Secret was emptied, or deleted and applied again: a new authority signs; what the configuration still
      names stays in the bundle for the settle time, so that replicas which serve from memory go on being believed.
    * The bundle in the Secret is lost: it is what the configuration names.
    * Somebody wrote another bundle into the configuration: ours is published again, and its settle time begins anew.
    * Parts are damaged, do not belong together or are over: made anew, one sentence each. With no serving certificate that
      verifies nobody is served anyway, so nothing waits for the settle time then.
    * The key of the authority is lost: a new authority is announced, and signs after the settle time; nothing drops.
    * The clock was set back behind the begin of a certificate: it is issued again, good for both clocks. Behind that of an
      authority: a new one takes over by the steps above. A clock set forward shortens a settle time unseen.
    * The keeper stops: 30 days are left when a serving certificate is due. After that the API server
      does not believe the webhook, and its failurePolicy decides: Jobs pass, the policies hold.
"""

from aiqueue.admission.certificates.files import provide

__all__ = ["provide"]
