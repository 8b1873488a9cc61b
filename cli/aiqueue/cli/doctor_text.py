"""What the doctor found and did, in the formats of `get`: a table with what is to be said of each kind under it, or documents."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiqueue.cli.exits import say
from aiqueue.cli.printers import Column, Listing, Output, Row, printable, printer_for
from aiqueue.queue.documents import API_VERSION

if TYPE_CHECKING:
    from aiqueue.admission.doctor.differences import Difference
    from aiqueue.admission.doctor.mending import Mended

_COLUMNS = [
    Column("SEVERITY"),
    Column("DIFFERENCE"),
    Column("OBJECT", long=True),
    Column("SAFE"),
    Column("WHAT", wide=True, long=True),
    Column("CAUSE", wide=True, long=True),
    Column("REPAIR", wide=True, long=True),
]
_TITLES = 17  # where a sentence begins, after what it is
_TOLD = 20  # objects of one kind that are told one by one under the table


def show(left: Sequence[Difference], output: Output, mended: Sequence[Mended] = ()) -> None:
    """Print what differs; with documents also what was done."""
    rows = [_row(each) for each in left]
    if output in (Output.JSON, Output.YAML):
        printer_for(output).print(Listing(_COLUMNS, [_mended_row(each) for each in mended] + rows))
    elif left:
        printer_for(output).print(Listing(_COLUMNS, rows))
    if output is Output.TABLE and left:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print("\n".join(_told(left, width)))
    say(_summary(left, repaired=bool(mended)))


def show_mended(mended: Sequence[Mended], output: Output) -> None:
    """Print what was done about each difference, for people."""
    if not mended or output in (Output.JSON, Output.YAML, Output.NAME):
        return
    columns = [Column("MENDED"), Column("DIFFERENCE"), Column("OBJECT", long=True), Column("WHAT", long=True)]
    printer_for(output).print(Listing(columns, [_mended_row(each) for each in mended]))
    print()


def _row(each: Difference) -> Row:
    cells = (each.severity, each.kind, each.object, "yes" if each.safe else "no", each.what, each.cause, each.repair)
    return Row(each.object, cells, {"apiVersion": API_VERSION, "kind": "Difference", "status": _status(each)})


def _status(each: Difference) -> dict[str, object]:
    return {
        "kind": str(each.kind),
        "severity": str(each.severity),
        "object": each.object,
        "what": each.what,
        "cause": each.cause,
        "repair": each.repair,
        "safe": each.safe,
    }


def _mended_row(each: Mended) -> Row:
    difference = each.difference
    document = {
        "apiVersion": API_VERSION,
        "kind": "Mended",
        "status": {**_status(difference), "done": each.done, "did": each.what},
    }
    return Row(difference.object, ("yes" if each.done else "no", difference.kind, difference.object, each.what), document)


def _told(left: Sequence[Difference], width: int | None) -> list[str]:
    """Each cause and repair once, after what differs; in lines of at most so many cells."""
    groups: dict[tuple[str, str, str, bool], list[Difference]] = {}
    for each in left:
        groups.setdefault((each.kind, each.cause, each.repair, each.safe), []).append(each)
    lines: list[str] = []
    for (kind, cause, repair, safe), some in groups.items():
        lines += ["", kind]
        for each in some[:_TOLD]:
            lines += _sentence("", f"{each.object}: {each.what}", width)
        if len(some) > _TOLD:
            lines += _sentence("", f"and {len(some) - _TOLD} more: -o wide tells of all", width)
        lines += _sentence("likely cause", cause, width)
        lines += _sentence("--repair" if safe else "what to do", repair, width)
    return lines


def _sentence(title: str, text: str, width: int | None) -> list[str]:
    """A sentence after its title, or one by itself further left; wrapped."""
    begin = f"  {title}".ljust(_TITLES) if title else "  "
    after = " " * (_TITLES if title else 4)
    text = printable(text)
    if width is None:
        return [begin + text]
    return textwrap.wrap(text, max(width, 40), initial_indent=begin, subsequent_indent=after, break_on_hyphens=False)


def _summary(left: Sequence[Difference], *, repaired: bool) -> str:
    if not left:
        return "nothing differs any more" if repaired else "ledger, engine and cluster agree"
    counts = Counter(str(each.severity).lower() for each in left)
    plural = {"error": "errors", "warning": "warnings", "information": "for information"}
    parts = [f"{number} {word if number == 1 and word != 'information' else plural[word]}" for word, number in counts.items()]
    safe = sum(each.safe for each in left)
    mendable = f"; `aiqueue doctor --repair` mends {safe} of them" if safe and not repaired else ""
    return f"{len(left)} {'difference' if len(left) == 1 else 'differences'}: {', '.join(parts)}{mendable}"
