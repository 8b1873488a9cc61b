"""What `get`, `explain` and `delete` can be asked for, and by which names."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from aiqueue.cli.exits import WrongUsage


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind: its plural, its other names, and the options of `get` that apply to it.

    `document` is its kind in documents, empty for what an administrator does not write.
    """

    plural: str
    singular: str
    short: tuple[str, ...]
    options: frozenset[str]
    document: str = ""
    namespaced: bool = False


KINDS = (
    Kind(
        "workloads",
        "workload",
        ("wl",),
        frozenset({"name", "namespace", "queue", "tenant", "state", "all", "limit"}),
        namespaced=True,
    ),
    Kind("runs", "run", (), frozenset({"name", "namespace", "tenant", "state", "all", "limit"}), namespaced=True),
    Kind("claims", "claim", (), frozenset({"name", "namespace", "tenant", "limit"}), namespaced=True),
    Kind("tenants", "tenant", ("tn",), frozenset({"name"}), document="Tenant"),
    Kind("queues", "queue", ("q",), frozenset({"name", "namespace", "tenant"}), document="Queue", namespaced=True),
    Kind("classes", "class", ("cl",), frozenset({"name"}), document="Class"),
    Kind("flavors", "flavor", ("fl",), frozenset({"name"}), document="Flavor"),
    Kind("clusters", "cluster", (), frozenset({"name"})),
    Kind("decisions", "decision", (), frozenset({"tenant", "limit"})),
    Kind("audit", "audit", (), frozenset({"name", "limit"})),
)
NAMES = {name: kind for kind in KINDS for name in (kind.plural, kind.singular, *kind.short)}


def find_kind(word: str) -> Kind:
    """The kind of that name, in any letter case.

    Raises:
        WrongUsage: there is none.
    """
    kind = NAMES.get(word.lower())
    if kind is None:
        close = get_close_matches(word.lower(), NAMES, n=1)
        known = ", ".join(each.plural for each in KINDS)
        raise WrongUsage(
            f"there is nothing called {word!r}: " + (f"did you mean {close[0]}?" if close else f"choose one of {known}")
        )
    return kind


def complete(incomplete: str) -> list[str]:
    """Plurals that begin so, for the shell."""
    return [kind.plural for kind in KINDS if kind.plural.startswith(incomplete.lower())]


def split_name(kind: Kind, name: str | None, namespace: str | None) -> tuple[str | None, str | None]:
    """(namespace, name) from `NAME` or `NAMESPACE/NAME` and the option -n.

    Raises:
        WrongUsage: they name different namespaces, or the kind belongs to none.
    """
    if name is None or "/" not in name or not kind.namespaced:
        return namespace, name
    before, _, after = name.partition("/")
    if "/" in after:
        raise WrongUsage(f"{name!r} has more than one /: write NAME or NAMESPACE/NAME")
    if namespace is not None and namespace != before:
        raise WrongUsage(f"{name} and -n {namespace} name different namespaces: leave one out")
    return before, after
