"""Each rule of the webhook against a real API server, as a user meets it: the whole sentence, on create and on update."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any

import pytest

from aiqueue.cli.harness import build
from aiqueue.cli.harness.errors import HarnessError
from fix_doors import Doors
from fix_managed import Actor, said
from fix_shop import NOTE, a_job, change_refused, creation_refused, fresh, label, note

pytestmark = pytest.mark.e2e
GPU = "nvidia.com/gpu"
NAME = "at most 63 lower-case letters, digits, '-' and '.', with a letter or digit at both ends"
DURATION = 'write a duration in whole seconds such as "90s", "10m", "1h30m" or "7d"'
ABOVE_ZERO = 'write a duration above zero such as "90s", "10m" or "1h30m"'
ANY = "may be added, changed or removed only while spec.suspend is true; suspend it first, then change it in a second request"


@dataclass(frozen=True)
class Rule:
    """A rule by way of what breaks it.

    Attributes:
        broken: a Job that does, as arguments of `a_job`.
        whole: one that does not.
        change: a patch of the second that does.
        sentence: what is said of either, after the name; `{team}` is the namespace.
    """

    broken: dict[str, Any]
    whole: dict[str, Any]
    change: dict[str, Any]
    sentence: str


def noted(key: str, value: str, fix: str, **content: Any) -> Any:
    """A rule about an annotation: the Job that breaks it, the change that does, and the sentence."""
    broken = content | {"notes": {key: value}}
    return pytest.param(
        Rule(broken, content, note(key, value), f"metadata.annotations[{NOTE}{key}] is '{value}': {fix}"), id=f"{key}-{value}"
    )


def labelled(key: str, value: str, sentence: str, **content: Any) -> Any:
    """A rule about a label."""
    broken = content | {{"queue": "queue", "class": "class_name"}[key]: value}
    return pytest.param(Rule(broken, content, label(**{key: value}), sentence), id=f"{key}-{value}")


FORM = [
    labelled(
        "queue", "Cpu_1", f"metadata.labels[aiqueue.dev/queue] is 'Cpu_1': write the name of a queue of this namespace: {NAME}"
    ),
    labelled("queue", "", "metadata.labels[aiqueue.dev/queue] is '': write the name of a queue of this namespace"),
    labelled(
        "class",
        "Normal",
        f"metadata.labels[aiqueue.dev/class] is 'Normal': write the name of a class, {NAME}, or remove the label",
    ),
    labelled("class", "", "metadata.labels[aiqueue.dev/class] is '': write the name of a class or remove the label"),
    noted("min-parallelism", "two", "write a whole number above zero", parallelism=4),
    noted("min-parallelism", "0", "write a whole number above zero", parallelism=4),
    noted("min-parallelism", "4", "write less than 4, the pods that run at once, or remove the annotation", parallelism=4),
    noted(
        "min-parallelism",
        "3",
        "write less than 3, the pods that run at once, or remove the annotation",
        parallelism=4,
        completions=3,
    ),
    noted("max-runtime", "an hour", DURATION),
    noted("max-runtime", "0s", ABOVE_ZERO),
    noted("max-runtime", "40000d", "write at most 100 years"),
    noted("estimated-runtime", "1.5h", DURATION),
    noted("estimated-runtime", "0h", ABOVE_ZERO),
    noted("checkpoint", "-5m", DURATION),
    noted("checkpoint", "0m", ABOVE_ZERO),
    noted("hold", "yes", 'write "true" to hold the Job or "false" to release it'),
    pytest.param(
        Rule(
            {"parallelism": 0},
            {},
            {"spec": {"parallelism": 0}},
            "spec.parallelism is 0: write 1 or more: the Job waits until then, since it asks for no pods",
        ),
        id="parallelism-0",
    ),
    pytest.param(
        Rule(
            {"parallelism": 2, "requests": {"memory": "4Ei"}},
            {"parallelism": 1, "requests": {"memory": "4Ei"}},
            {"spec": {"parallelism": 2}},
            f"spec.template.spec: memory of 2 pods is {2**63}: ask for at most {2**63 - 1} base units in all",
        ),
        id="requests",
    ),
]

DATA = [
    labelled(
        "queue",
        "lost",
        "there is no queue lost in namespace {team}; what would change it: queue {team}/lost created, or the label "
        "aiqueue.dev/queue set to one that exists",
    ),
    labelled(
        "queue",
        "theirs",
        "there is no queue theirs in namespace {team}; what would change it: queue {team}/theirs created, or the label "
        "aiqueue.dev/queue set to one that exists",
    ),
    labelled(
        "queue", "closed", "queue {team}/closed is in state Hold; what would change it: queue {team}/closed set to Active"
    ),
    labelled(
        "class",
        "urgent",
        "queue {team}/train does not allow class urgent; it allows one of normal; what would change it: an allowed class, or "
        "urgent allowed in queue {team}/train",
        queue="train",
    ),
    labelled(
        "class",
        "zeal",
        "there is no class zeal, asked for through queue {team}/cpu; what would change it: class zeal created, or another class",
    ),
    pytest.param(
        Rule(
            {"requests": {GPU: 1}},
            {"queue": "train", "requests": {GPU: 1}},
            label(queue="cpu"),
            "pod set main requests nvidia.com/gpu, and tenant ops has no quota for that; it has quota for cpu; what would change it: "
            "a quota for nvidia.com/gpu in tenant ops, or a request without it",
        ),
        id="not-covered",
    ),
    pytest.param(
        Rule(
            {"queue": "train", "requests": {GPU: 1}, "pod": {"nodeSelector": {"aiqueue.dev/pool": "a100"}}},
            {"queue": "train", "requests": {GPU: 1}},
            {"spec": {"template": {"spec": {"nodeSelector": {"aiqueue.dev/pool": "a100"}}}}},
            "pod set main may run on no flavor of tenant research: h100: node selector aiqueue.dev/pool=a100 does not match h100; "
            "what would change it: a toleration, node selector or affinity that lets pod set main run on h100",
        ),
        id="no-flavor",
    ),
    pytest.param(
        Rule(
            {"queue": "train", "requests": {GPU: 2}, "parallelism": 7},
            {"queue": "train", "requests": {GPU: 2}, "parallelism": 1},
            {"spec": {"parallelism": 7}},
            "needs 14 nvidia.com/gpu of flavor h100 and tenant research can never have more than 12: exceeds it by 2; what would "
            "change it: 2 nvidia.com/gpu of h100 less requested, or that much more quota in tenant research",
        ),
        id="ceiling",
    ),
    pytest.param(
        Rule(
            {"queue": "train", "requests": {GPU: 1}, "parallelism": 20, "notes": {"min-parallelism": "13"}},
            {"queue": "train", "requests": {GPU: 1}, "parallelism": 20, "notes": {"min-parallelism": "12"}},
            note("min-parallelism", "13"),
            "even with aiqueue.dev/min-parallelism 13 it needs 13 nvidia.com/gpu of flavor h100 and tenant research can never have "
            "more than 12: exceeds it by 1; what would change it: 1 nvidia.com/gpu of h100 less requested, or that much more quota "
            "in tenant research",
        ),
        id="ceiling-at-least",
    ),
]


@pytest.mark.parametrize("rule", [*FORM, *DATA])
def test_each_rule_on_create_and_on_update(shop: Doors, alice: Actor, rule: Rule) -> None:
    team, name = shop.namespace, fresh()
    sentence = f"Job {team}/{name}: {rule.sentence.replace('{team}', team)}"
    assert creation_refused(alice, a_job(team, name=name, **rule.broken)) == sentence
    stored = alice.create(a_job(team, name=name, **rule.whole))
    assert change_refused(alice, stored, rule.change) == sentence


class TestWhileItRuns:
    @pytest.fixture
    def running(self, shop: Doors, alice: Actor, controller: Actor) -> dict[str, Any]:
        """A Job of alice that the controller has admitted."""
        notes = {"max-runtime": "1h", "min-parallelism": "1"}
        stored = alice.create(a_job(shop.namespace, "cpu", "normal", notes=notes, parallelism=2))
        return controller.patch(stored, {"spec": {"suspend": False}} | note("run", "ledger/1/1"))

    @pytest.mark.parametrize(
        ("key", "value", "sentence"),
        [
            (
                "max-runtime",
                "2h",
                "metadata.annotations[aiqueue.dev/max-runtime] is '2h': the Job runs with '1h', and the annotation ",
            ),
            (
                "max-runtime",
                None,
                "metadata.annotations[aiqueue.dev/max-runtime] is missing: the Job runs with '1h', and the annotation ",
            ),
            (
                "min-parallelism",
                "x",
                "metadata.annotations[aiqueue.dev/min-parallelism] is 'x': the Job runs with '1', and the annotation ",
            ),
            (
                "min-parallelism",
                None,
                "metadata.annotations[aiqueue.dev/min-parallelism] is missing: the Job runs with '1', and the annotation ",
            ),
        ],
    )
    def test_what_it_was_admitted_with_stays(
        self, alice: Actor, running: dict[str, Any], key: str, value: str | None, sentence: str
    ) -> None:
        refused = change_refused(alice, running, note(key, value))
        name = f"Job {running['metadata']['namespace']}/{running['metadata']['name']}"
        assert refused.startswith(f"{name}: {sentence}{ANY}")

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            (
                label(queue="train"),
                (
                    "Job {name} is running in queue cpu and may not leave it: the label aiqueue.dev/queue may be added, changed or "
                    "removed only while spec.suspend is true; suspend it first, then change the label in a second request"
                ),
            ),
            (
                label(**{"class": "urgent"}),
                (
                    "Job {name} is running in queue cpu and may not change its class: the label aiqueue.dev/class may be added, "
                    "changed or removed only while spec.suspend is true; suspend it first, then change the label in a second request"
                ),
            ),
            (
                {"spec": {"parallelism": 1}},
                (
                    "Job {name} is running in queue cpu with quota for 2 pods at a time: spec.parallelism may be raised or lowered "
                    "only while spec.suspend is true; suspend it first, then change it in a second request"
                ),
            ),
        ],
    )
    def test_the_policies_speak_first_of_queue_class_and_size(
        self, alice: Actor, running: dict[str, Any], change: dict[str, Any], sentence: str
    ) -> None:
        with pytest.raises(HarnessError) as refusal:
            alice.patch(running, change)
        name = f"{running['metadata']['namespace']}/{running['metadata']['name']}"
        assert said(refusal.value) == sentence.replace("{name}", name)

    def test_the_rest_may_change_and_so_may_all_once_it_is_suspended(self, alice: Actor, running: dict[str, Any]) -> None:
        alice.patch(running, note("checkpoint", "5m"))
        alice.patch(running, {"spec": {"suspend": True}})
        changed = alice.patch(running, note("max-runtime", "2h") | {"spec": {"parallelism": 3}})
        assert changed["spec"]["parallelism"] == 3


class TestKubectl:
    """What kubectl prints."""

    def printed(self, shop: Doors, alice: Actor, content: dict[str, Any], *options: str) -> tuple[int, str, str]:
        """Status, output and what is said besides."""
        kubectl = build.provide().path(build.KUBECTL)
        argv = [str(kubectl), f"--kubeconfig={alice.kubeconfig}", "create", "--filename=-", *options]
        environment = {"HOME": str(shop.folder), "PATH": ""}
        done = subprocess.run(argv, env=environment, input=json.dumps(content), capture_output=True, text=True, check=False)
        return done.returncode, done.stdout.strip(), done.stderr.strip()

    @pytest.mark.parametrize("dry_run", [False, True])
    def test_data(self, shop: Doors, alice: Actor, dry_run: bool) -> None:
        content = a_job(shop.namespace, "cpv", name="mine")
        status, _, err = self.printed(shop, alice, content, *(["--dry-run=server"] if dry_run else []))
        assert status == 1
        assert err.splitlines() == [
            f"Warning: Job {shop.namespace}/mine: did you mean queue cpu?",
            (
                'Error from server (Forbidden): error when creating "STDIN": admission webhook "jobs.aiqueue.dev" denied the request: '
                f"Job {shop.namespace}/mine: there is no queue cpv in namespace {shop.namespace}; what would change it: queue "
                f"{shop.namespace}/cpv created, or the label aiqueue.dev/queue set to one that exists"
            ),
        ]

    def test_form(self, shop: Doors, alice: Actor) -> None:
        status, _, err = self.printed(shop, alice, a_job(shop.namespace, name="mine", notes={"hold": "yes"}))
        assert status == 1
        assert err == (
            'The request is invalid: error when creating "STDIN": admission webhook "jobs.aiqueue.dev" denied the request: '
            f"Job {shop.namespace}/mine: metadata.annotations[aiqueue.dev/hold] is 'yes': write \"true\" to hold the Job or "
            '"false" to release it'
        )

    def test_warnings(self, shop: Doors, alice: Actor) -> None:
        content = a_job(shop.namespace, "paused", name="warned", notes={"max-runtime": "48h", "chekpoint": "5m"})
        status, out, err = self.printed(shop, alice, content)
        assert (status, out) == (0, "job.batch/warned created")
        name = f"Warning: Job {shop.namespace}/warned: "
        assert err.splitlines() == [
            name + "aiqueue.dev/max-runtime is 2d, and class normal allows 1d: the lesser counts",
            name + "is stored and waits: tenant resting is in state Hold",
            name + "metadata.annotations[aiqueue.dev/chekpoint] means nothing to aiqueue: did you mean aiqueue.dev/checkpoint?",
        ]

    def test_a_job_whose_name_is_to_be_made(self, shop: Doors, alice: Actor) -> None:
        content = a_job(shop.namespace, notes={"hold": "yes"})
        content["metadata"] |= {"generateName": "mine-"}
        del content["metadata"]["name"]
        _, _, err = self.printed(shop, alice, content)
        assert f"Job {shop.namespace}/mine-" in err
