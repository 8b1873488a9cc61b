"""How fast Plans and observations are committed, beside what the disk and Postgres allow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import text

from aiqueue.queue.database import transaction
from ledger.ground import Ground, timed
from ledger.life import Life, One
from stand.printing import Say

_BARE = "INSERT INTO bare (word) VALUES ('a row as small as can be')"


def bare(made: Ground, times: int) -> dict[str, float]:
    """Transactions of one small row, one after the other."""
    made.run("CREATE TABLE IF NOT EXISTS bare (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, word text)")

    def insert() -> None:
        with transaction(made.owner) as connection:
            connection.execute(text(_BARE))

    insert()  # the connection is made
    return timed(made, iter([insert] * times)).told()


def commits(made: Ground, life: Life, sizes: Sequence[int], most: int, say: Say) -> dict[str, Any]:
    """For each size: observe so many new workloads at once, admit them by a Plan, see them started, and see them end.

    Args:
        made: where.
        life: of the workloads.
        sizes: how many at once.
        most: workloads of each size, and times.
        say: is told of the progress.
    """
    life.admit(life.new(10))  # statements are parsed, pages are there
    found: dict[str, Any] = {"bare": [bare(made, min(most, 1000))]}
    for size in sizes:
        say(f"commits of {size}")
        times = max(1, min(1000, most // size))
        unborn = [life.unborn(size) for _ in range(times)]
        alive: list[list[One]] = []
        observed = timed(made, iter([_keeping(alive, life.observe, each) for each in unborn]))
        admitted: list[list[One]] = []
        plans = timed(made, iter([_keeping(admitted, life.admit, each) for each in alive]))
        running: list[list[One]] = []
        started = timed(made, iter([_keeping(running, life.start, each) for each in admitted]))
        ended = timed(made, _finishing(life, running))
        found[str(size)] = {
            "observe_new": observed.told(size),
            "plan": plans.told(size),
            "observe_started": started.told(size),
            "observe_ended": ended.told(size),
        }
    found["bare"].append(bare(made, min(most, 1000)))
    return found


def _keeping(kept: list[list[One]], do: Callable[[Any], list[One]], what: Any) -> Callable[[], None]:
    return lambda: kept.append(do(what))


def _finishing(life: Life, running: list[list[One]]) -> Iterator[Callable[[], object]]:
    for each in running:
        yield lambda each=each: life.finish(each)  # type: ignore[misc]  # mypy cannot tell the type of a default
