"""`aiqueue explain`: why a workload waits, what it holds, how its runs ended."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from aiqueue.cli.kinds import find_kind, split_name
from aiqueue.cli.ledger import now_of, reading

app = typer.Typer(help="Say why something is as it is.", no_args_is_help=True)


class ExplainOutput(StrEnum):
    """How an explanation is printed."""

    TABLE = "table"
    JSON = "json"


@app.command()
def workload(
    name: Annotated[str, typer.Argument(help="NAME or NAMESPACE/NAME of the Job.")],
    namespace: Annotated[str | None, typer.Option("--namespace", "-n")] = None,
    output: Annotated[ExplainOutput, typer.Option("--output", "-o")] = ExplainOutput.TABLE,
) -> None:
    """Say who a workload is, where it stands and since when; why it waits and what would change that; and its runs.

    Reason and position of a waiting workload are worked out now, by the engine that the controller runs.
    """
    namespace, wanted = split_name(find_kind("workload"), name, namespace)
    from aiqueue.cli import explanation, explanation_document, explanation_text

    with reading() as connection:
        now = now_of(connection)
        explained = explanation.explain(connection, namespace, wanted or "", now)
    if output is ExplainOutput.JSON:
        print(json.dumps(explanation_document.document(explained, now), indent=2, ensure_ascii=False))
    else:
        print("\n".join(explanation_text.lines(explained, now)))
