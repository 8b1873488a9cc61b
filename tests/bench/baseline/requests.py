"""What the API server was asked, by its own count."""

from __future__ import annotations

import re
from collections import Counter

from stand.parts import Stand

_LINE = re.compile(r"^apiserver_request_total\{(?P<labels>[^}]*)\} (?P<count>[0-9.e+]+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_RESOURCES = ("jobs", "events", "pods")


def counted(ground: Stand) -> Counter[str]:
    """Requests so far for Jobs, pods and Events, as `VERB resource/subresource code`."""
    found: Counter[str] = Counter()
    for line in _LINE.finditer(ground.api.ask("GET", "/metrics").body.decode()):
        labels = dict(_LABEL.findall(line["labels"]))
        if labels["resource"] in _RESOURCES:
            what = "/".join(filter(None, (labels["resource"], labels["subresource"])))
            found[f"{labels['verb']} {what} {labels['code']}"] += round(float(line["count"]))
    return found
