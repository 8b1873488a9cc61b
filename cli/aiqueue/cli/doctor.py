"""`aiqueue doctor`: where ledger, engine and cluster do not agree, why, and what to do; and, asked to, does it."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiqueue.cli.exits import Exit, WrongUsage, say
from aiqueue.cli.ledger import claimed_by, login, reading, settings
from aiqueue.cli.printers import Output
from aiqueue.queue.errors import InvalidInput, SchemaMismatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiqueue.admission.doctor.differences import Difference
    from aiqueue.admission.doctor.examining import Examiner
    from aiqueue.admission.doctor.mending import Mended
    from aiqueue.admission.kube.client import KubeClient
    from aiqueue.cli.harness.progress import Progress
    from aiqueue.queue.settings import Settings

EPILOG = (
    "Exit codes: 0 nothing differs, or nothing that is more than information; 1 something does; 2 wrong usage; 3 the ledger is"
    " unavailable; 5 stdout cannot be written. Data goes to stdout, messages to stderr. The ledger is named by the environment variable"
    " AIQUEUE_DATABASE_URL, with --repair by AIQUEUE_REPAIR_DATABASE_URL where that is set (it takes the login of the controller to"
    " repair), the cluster by AIQUEUE_KUBECONFIG or by the service account of the pod, and its name in the ledger by AIQUEUE_CLUSTER_NAME."
)
#: How long a controller that was at work may take to lead again and do its part.
WAIT_SECONDS = 60.0


def doctor(
    *,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what is safe to mend, and say what is left.")] = False,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Of the cluster, instead of AIQUEUE_KUBECONFIG.", exists=True, dir_okay=False)
    ] = None,
    no_cluster: Annotated[bool, typer.Option("--no-cluster", help="Compare ledger and engine alone.")] = False,
    pause: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds between two looks.")] = 3.0,
    output: Annotated[Output, typer.Option("--output", "-o")] = Output.TABLE,
) -> None:
    """Compare ledger, engine and cluster: name each difference, its likely cause and what mends it.

    What differs is looked at three times and told only if it stays. Nothing is changed, unless --repair is given: then the doctor leads
    for a moment instead of the controller, mends what is safe, and looks again. It never kills a pod, stops a running Job that nobody
    decided to stop, or changes a quota.
    """
    if no_cluster and kubeconfig is not None:
        raise WrongUsage("--no-cluster and --kubeconfig contradict each other: leave one out")
    from aiqueue.cli import doctor_text
    from aiqueue.cli.harness import progress

    settled = settings()
    wrong = _schema(repairing=repair)
    if wrong is not None:
        doctor_text.show([wrong], output)
        raise typer.Exit(Exit.REFUSED)
    if repair:
        _require_one_ledger()
    with ExitStack() as open_, progress.for_this_terminal() as shown:
        client = None if no_cluster else _client(settled, kubeconfig)
        if client is not None:
            open_.callback(client.close)
        examiner = _examiner(settled, client, pause, shown, repairing=repair)
        told = examiner.examine()
        mended: Sequence[Mended] = ()
        left: Sequence[Difference] = told
        if repair and any(each.safe for each in told):
            mended, left = _repair(examiner, client, told, shown)
    doctor_text.show_mended(mended, output)
    doctor_text.show(left, output, mended)
    if any(each.alarming for each in left):
        raise typer.Exit(Exit.REFUSED)


def _repair(
    examiner: Examiner, client: KubeClient | None, told: Sequence[Difference], shown: Progress
) -> tuple[list[Mended], list[Difference]]:
    from aiqueue.admission.doctor.differences import Mend
    from aiqueue.admission.doctor.kinds import Kind
    from aiqueue.admission.doctor.mending import Mended, Mender, to_be_mended
    from aiqueue.admission.doctor.term import own_term

    led = all(each.kind is not Kind.NOBODY_LEADS for each in told)
    if not led and all(each.mend in (None, Mend.LEAD_ANEW) for each in told):
        say("what can be mended is for a controller to do, and none leads: start one")
        return [], list(told)
    shown.step("leading instead of the controller")
    _, url = login(repairing=True)
    with own_term(url) as term:
        look = examiner.look()
        now = examiner.compare(look)
        mended = Mender(term, look, client, claimed_by=f"{claimed_by()}, by aiqueue doctor").mend(to_be_mended(told, now))
    keys = {each.key for each in now}
    mended += [Mended(each, True, "it was no longer so") for each in told if each.safe and each.key not in keys]
    accepted = [each for each in told if not each.safe]
    return mended, examiner.settle(accepted, WAIT_SECONDS if led else 0.0)


def _examiner(settled: Settings, client: KubeClient | None, pause: float, shown: Progress, *, repairing: bool) -> Examiner:
    from aiqueue.admission.doctor.examining import Examiner
    from aiqueue.admission.doctor.reading_cluster import ClusterReader

    reader = ClusterReader(client, settled.cluster_name, shown.step) if client is not None else None
    return Examiner(partial(reading, repairing=repairing), settled.cluster_name, reader, shipped_policies(), pause, shown.step)


def _client(settled: Settings, kubeconfig: Path | None) -> KubeClient:
    from aiqueue.admission.kube.client import KubeClient

    path = kubeconfig or settled.kubeconfig
    if path is None:
        return KubeClient.in_cluster(connections=2, component="doctor")
    return KubeClient.from_kubeconfig(path, connections=2, component="doctor")


def _schema(*, repairing: bool) -> Difference | None:
    """What is wrong with the schema, of which depends whether anything else can be read."""
    from aiqueue.admission.doctor.surroundings import schema
    from aiqueue.migrations import check

    with reading(repairing=repairing) as connection:
        try:
            check(connection)
        except SchemaMismatch as error:
            return schema(str(error))
    return None


def _require_one_ledger() -> None:
    """Refuse to repair another ledger than the one that is meant.

    Raises:
        InvalidInput: the login for repairs opens another ledger than that of all commands.
    """
    from aiqueue.queue.store import clusters

    (plain, plain_url), (variable, url) = login(), login(repairing=True)
    if not plain_url or url == plain_url:
        return
    with reading() as meant, reading(repairing=True) as repaired:
        uids = clusters.ledger_uid(meant), clusters.ledger_uid(repaired)
    if uids[0] != uids[1]:
        raise InvalidInput(
            variable, "(not shown)", f"it is ledger {uids[1]}, and {plain} is {uids[0]}: name one ledger in both"
        )


def shipped_policies() -> list[str]:
    """`Kind/name` of the admission policies and bindings that the manifests bring."""
    import yaml

    from aiqueue.admission.doctor.reading_cluster import POLICY_FOLDERS
    from aiqueue.cli.resources import manifests_path

    found = [
        f"{document['kind']}/{document['metadata']['name']}"
        for path in sorted((manifests_path() / "policies").glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
        if document and document.get("kind") in POLICY_FOLDERS
    ]
    return sorted(found)
