"""What the API server counted, from its /metrics."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from aiqueue.cli.harness.api import Api
from aiqueue.cli.harness.errors import HarnessError

#: Of one webhook, as its configuration calls it.
WEBHOOK = "jobs.aiqueue.dev"
_ASKED = "apiserver_admission_webhook_admission_duration_seconds"
_FAILED_OPEN = "apiserver_admission_webhook_fail_open_count"
_CHECKED = ("apiserver_validating_admission_policy_check_total", "apiserver_mutating_admission_policy_check_total")
_SERIES = re.compile(r"^(?P<name>[a-z_]+)\{(?P<labels>[^}]*)\} (?P<value>\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Counts:
    """What the API server has counted so far.

    Attributes:
        asked: requests that the webhook answered, allowed or refused.
        refused: those it refused.
        asked_seconds: how long these took, as the API server saw it.
        asked_quickly: how many of them took at most 5 ms.
        failed_open: requests let through because the webhook did not answer.
        policies: checks of each of aiqueue's policies.
    """

    asked: int
    refused: int
    asked_seconds: float
    asked_quickly: int
    failed_open: int
    policies: Mapping[str, int]

    def since(self, before: Counts) -> Counts:
        """What was added."""
        policies = {name: count - before.policies.get(name, 0) for name, count in self.policies.items()}
        return Counts(
            self.asked - before.asked,
            self.refused - before.refused,
            self.asked_seconds - before.asked_seconds,
            self.asked_quickly - before.asked_quickly,
            self.failed_open - before.failed_open,
            {name: count for name, count in policies.items() if count},
        )


def counts(api: Api) -> Counts:
    """Ask the API server."""
    answer = api.ask("GET", "/metrics")
    if answer.status != 200:
        raise HarnessError(f"the API server's /metrics answered {answer.status}")
    asked = refused = quickly = failed_open = 0
    seconds = 0.0
    policies: dict[str, int] = defaultdict(int)
    for series in _SERIES.finditer(answer.body.decode()):
        name, labels, value = series["name"], dict(re.findall(r'([a-z_]+)="([^"]*)"', series["labels"])), float(series["value"])
        if labels.get("name") == WEBHOOK and name == f"{_ASKED}_count":
            asked += int(value)
            refused += int(value) if labels["rejected"] == "true" else 0
        elif labels.get("name") == WEBHOOK and name == f"{_ASKED}_sum":
            seconds += value
        elif labels.get("name") == WEBHOOK and name == f"{_ASKED}_bucket" and labels["le"] == "0.005":
            quickly += int(value)
        elif labels.get("name") == WEBHOOK and name == _FAILED_OPEN:
            failed_open += int(value)
        elif name in _CHECKED:
            policies[labels["policy"]] += int(value)
    return Counts(asked, refused, seconds, quickly, failed_open, policies)
