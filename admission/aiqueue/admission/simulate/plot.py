"""A simulation as a picture: utilization, queue length and waits over time, as SVG.

Each value is the mean over one of `STEPS` equal steps of time, so the areas are true though peaks within a step are not seen (the
CSV of `aiqueue.admission.simulate.timeline` has those). Tenants are told apart where there are few; else those that held most are,
and the rest are one. Where an eviction lost work, what the run held since its last checkpoint is hatched. Waits stand where the
jobs arrived. The colours can be told apart by the colour-blind, and the picture
follows the reader's light or dark theme. The same outcome gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

from aiqueue.admission.simulate.bins import Binned, Values, binned
from aiqueue.admission.simulate.figures import Figures, figures_of, seconds
from aiqueue.admission.simulate.outcome import Outcome
from aiqueue.admission.simulate.report import lasting

STEPS = 240
WIDTH = 960
_LEFT, _RIGHT = 72, 24
_HIGH = 180  # a chart, and with its head and axis:
_PITCH = 240
#: The palette of Okabe and Ito; the last one is for all others.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")
_OTHERS = "others"
_FEW = 4  # as many lines of waits can be told apart
_NAME_CHARACTERS = 26
_STYLE = """
  .ground { fill: #ffffff } .panel { fill: #f6f7f9 } .grid { stroke: #d5dae0; stroke-width: 1 }
  .axis { stroke: #6b7480; stroke-width: 1 } text { fill: #1f2933; font: 12px system-ui, "DejaVu Sans", sans-serif }
  .title { font-size: 20px; font-weight: 600 } .head { font-size: 14px; font-weight: 600 } .soft { fill: #5b6672 }
  .line { fill: none; stroke-width: 1.8; stroke-linejoin: round } .mean { stroke: #0072b2 }
  .tail { stroke: #d55e00; stroke-dasharray: 5 3 }
  .lost { stroke: #ffffff; stroke-width: 3 }
  .dot { stroke-width: 6; stroke-linecap: round; stroke-dasharray: none }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #14181d } .panel { fill: #1c2229 } .grid { stroke: #323b45 } .axis { stroke: #8a95a1 }
    .lost { stroke: #14181d } text { fill: #e6e9ee } .soft { fill: #a4afba } .mean { stroke: #56b4e9 } .tail { stroke: #ff8a3d }
  }
"""
#: Over whatever colour: so the tenant still shows.
_HATCH = (
    '<defs><pattern id="lost" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<path class="lost" d="M0 0V6"/></pattern></defs>'
)
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
#: Seconds from one figure of the axis to the next.
_TIMES = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200),
    *(86_400 * days for days in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)),
)


@dataclass(frozen=True, slots=True)
class _Panel:
    """Where a chart stands, and what its axes span: seconds across, `most` upward."""

    top: int
    height: int
    start: float
    end: float
    most: float

    def x(self, index: float, count: int = STEPS) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * index / count

    def at(self, second: float) -> float:
        return self.x((second - self.start) / (self.end - self.start), 1)

    def y(self, value: float) -> float:
        return self.top + self.height * (1 - min(value / self.most, 1.0))


def svg(outcome: Outcome, *, title: str = "") -> str:
    """The picture.

    Args:
        outcome: what is shown.
        title: over the picture; where it is empty, how many jobs over how long.
    """
    figures = figures_of(outcome)
    resource = _main_resource(figures)
    names = _names(figures, resource)
    found = binned(outcome, resource, names, STEPS)
    shown = list(dict.fromkeys(names.values()))
    colours = {name: _COLOURS[-1] if name == _OTHERS else _COLOURS[index % 8] for index, name in enumerate(shown)}
    first = 150 if len(shown) > 1 else 106  # the top of the first chart
    height = first + 3 * _PITCH - 8
    title = title or f"{figures.jobs:,} jobs over {lasting(seconds(figures.makespan_us))}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<desc>{escape(_subtitle(figures))}</desc>",
        f"<style>{_STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{height}"/>',
        _text(_LEFT, 38, title, "title"),
        _text(_LEFT, 60, _subtitle(figures), "soft"),
    ]
    if len(shown) > 1:
        parts.extend(_legend(shown, colours))
    if figures.lost_us:
        parts.append(_HATCH)
    parts.extend(_utilization(found, first, resource, shown, colours))
    parts.extend(_queue(found, first + _PITCH, shown, colours))
    parts.extend(_waits(found, first + 2 * _PITCH, shown, colours))
    parts.append(_text((_LEFT + WIDTH - _RIGHT) / 2, height - 14, "time since the start", "soft", anchor="middle"))
    parts.append("</svg>\n")
    return "\n".join(parts)


def _main_resource(figures: Figures) -> str | None:
    """The resource of which most was used."""
    shares = figures.utilization()
    return max(figures.held, key=lambda name: (shares.get(name, 0.0), name), default=None)


def _names(figures: Figures, resource: str | None) -> dict[str, str]:
    """Tenant -> the name it goes by in the picture, those that held most first."""
    held = {name: of_one.held.get(resource or "", 0) for name, of_one in figures.tenants.items()}
    ranked = sorted(held, key=lambda name: (-held[name], name))
    own = len(_COLOURS) if len(ranked) <= len(_COLOURS) else len(_COLOURS) - 1
    return {name: name or "(none)" if place < own else _OTHERS for place, name in enumerate(ranked)}


def _subtitle(figures: Figures) -> str:
    waits = figures.waits
    used = " · ".join(f"{name} {share:.1%} used" for name, share in list(figures.utilization().items())[:3])
    wait = f"wait: mean {lasting(waits.mean())}, median {lasting(waits.percentile(50))}, p95 {lasting(waits.percentile(95))}"
    return " · ".join(each for each in (used, wait, f"{figures.finished:,} finished") if each)


def _utilization(found: Binned, top: int, resource: str | None, shown: Sequence[str], colours: dict[str, str]) -> list[str]:
    layers = [(colours[name], found.utilization(name)) for name in shown]
    most = max(1.0, max((sum(column) for column in zip(*(values for _, values in layers), strict=True)), default=1.0))
    panel = _panel(found, top, most)
    parts = _frame(panel, f"Utilization of {resource}" if resource else "Utilization", (0, 0.25, 0.5, 0.75, 1), "{:.0%}".format)
    parts += _stack(panel, layers)
    wasted = [found.wasted(name) for name in shown]
    if any(map(any, wasted)):
        parts += _hatched(panel, [values for _, values in layers], wasted)
        x, y = WIDTH - _RIGHT - 150, panel.top - 18
        parts.append(f'<rect class="soft" x="{x}" y="{y}" width="24" height="12"/>')
        parts.append(f'<rect x="{x}" y="{y}" width="24" height="12" fill="url(#lost)"/>')
        parts.append(_text(x + 30, y + 10, "work lost by evictions"))
    return parts


def _queue(found: Binned, top: int, shown: Sequence[str], colours: dict[str, str]) -> list[str]:
    layers = [(colours[name], found.queue(name)) for name in shown]
    ticks = _ticks(max((sum(column) for column in zip(*(values for _, values in layers), strict=True)), default=0.0))
    panel = _panel(found, top, ticks[-1])
    return _frame(panel, "Jobs that wait", ticks, "{:,.6g}".format) + _stack(panel, layers)


def _waits(found: Binned, top: int, shown: Sequence[str], colours: dict[str, str]) -> list[str]:
    """Mean and 95th percentile of all, or where tenants are few the mean of each."""
    lines: list[tuple[str, str, str, Values]]
    if 1 < len(shown) <= _FEW:
        head = "Mean wait of the jobs that arrived then, by tenant"
        lines = [("", "line", f' stroke="{colours[name]}"', found.mean_waits([name])) for name in shown]
    else:
        head = "Wait of the jobs that arrived then"
        lines = [
            ("95th percentile", "line tail", "", found.percentile_waits(shown, 95)),
            ("mean", "line mean", "", found.mean_waits(shown)),
        ]
    most = max((value for *_, values in lines for value in values if value is not None), default=0.0)
    unit, name = next(((size, name) for size, name in _UNITS if most >= 2 * size), _UNITS[-1])
    ticks = [tick * unit for tick in _ticks(most / unit)]
    panel = _panel(found, top, ticks[-1])
    parts = _frame(panel, head, ticks, lambda value: f"{value / unit:,.6g} {name}")
    for _, kind, colour, values in lines:
        parts += _line(panel, kind, colour, values)
    labels = [(label, kind, colour) for label, kind, colour, _ in lines if label]
    for place, (label, kind, colour) in enumerate(reversed(labels)):
        x, y = WIDTH - _RIGHT - 240 + 90 * place, panel.top - 13
        parts.append(f'<path class="{kind}"{colour} d="M{x} {y}h24"/>')
        parts.append(_text(x + 30, y + 4, label))
    return parts


def _panel(found: Binned, top: int, most: float) -> _Panel:
    return _Panel(top, _HIGH, found.steps.start_us / 1e6, found.steps.end_us / 1e6, most)


def _frame(panel: _Panel, head: str, ticks: Iterable[float], label: Callable[[float], str]) -> list[str]:
    """Ground, grid, axes and their figures."""
    right, bottom = WIDTH - _RIGHT, panel.top + panel.height
    parts = [
        _text(_LEFT, panel.top - 9, head, "head"),
        f'<rect class="panel" x="{_LEFT}" y="{panel.top}" width="{right - _LEFT}" height="{panel.height}"/>',
    ]
    for tick in ticks:
        y = panel.y(tick)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{right}"/>')
        parts.append(_text(_LEFT - 8, y + 4, label(tick), anchor="end"))
    span = panel.end - panel.start
    step = next((each for each in _TIMES if span / each <= 10), 10_000 * 86_400)
    size, name = next((each for each in _UNITS if step % each[0] == 0), _UNITS[-1])
    second = -(-panel.start // step) * step
    while second <= panel.end:
        x = panel.at(second)
        parts.append(f'<path class="axis" d="M{x:.1f} {bottom}v5"/>')
        parts.append(_text(x, bottom + 18, f"{second / size:,.6g} {name}", anchor="middle"))
        second += step
    parts.append(f'<path class="axis" d="M{_LEFT} {bottom}H{right}"/>')
    return parts


def _ticks(most: float) -> list[float]:
    """Three to six round values from 0 to at least `most`."""
    size = 1e-6
    while most > 0:
        for step in (size, 2 * size, 2.5 * size, 5 * size):
            if most / step <= 5:
                return [round(step * index, 9) for index in range(max(2, int(-(-most // step))) + 1)]
        size *= 10
    return [0.0, 1.0]


def _stack(panel: _Panel, layers: Iterable[tuple[str, Sequence[float]]]) -> list[str]:
    """Areas one on the other, each with steps as its upper and lower edge."""
    parts: list[str] = []
    below = [0.0] * STEPS
    for colour, values in layers:
        above = [low + value for low, value in zip(below, values, strict=True)]
        if any(values):
            parts.append(f'<path fill="{colour}" d="{_area(panel, below, above)}"/>')
        below = above
    return parts


def _hatched(panel: _Panel, layers: Sequence[Sequence[float]], wasted: Sequence[Sequence[float]]) -> list[str]:
    """Of each area of a stack the upper part that is lost, hatched."""
    parts: list[str] = []
    top = [0.0] * STEPS
    for values, lost in zip(layers, wasted, strict=True):
        top = [low + value for low, value in zip(top, values, strict=True)]
        if any(lost):
            low = [high - part for high, part in zip(top, lost, strict=True)]
            parts.append(f'<path fill="url(#lost)" d="{_area(panel, low, top)}"/>')
    return parts


def _area(panel: _Panel, below: Sequence[float], above: Sequence[float]) -> str:
    """The path round what lies between two lines of steps."""
    upper = _edge(panel, ((index + 1, above[index]) for index in range(STEPS)))
    lower = _edge(panel, ((index, below[index]) for index in reversed(range(STEPS))))
    return f"M{panel.x(0):.1f} {panel.y(below[0]):.1f}{upper}{lower}Z"


def _edge(panel: _Panel, steps: Iterable[tuple[int, float]]) -> str:
    """A path of steps: to a value, then along to an index; those of one height are one."""
    drawn: list[tuple[str, str]] = []
    for index, value in steps:
        height, along = f"V{panel.y(value):.1f}", f"H{panel.x(index):.1f}"
        if drawn and drawn[-1][0] == height:
            drawn.pop()
        drawn.append((height, along))
    return "".join(height + along for height, along in drawn)


def _line(panel: _Panel, kind: str, colour: str, values: Values) -> list[str]:
    """A line through the middles of the steps that have a value; it breaks where there is none, and one alone is a dot."""
    drawn: list[str] = []
    dots: list[str] = []
    for index, value in enumerate(values):
        if value is None:
            continue
        place = f"{panel.x(index + 0.5):.1f} {panel.y(value):.1f}"
        before = values[index - 1] if index else None
        after = values[index + 1] if index + 1 < len(values) else None
        if before is None and after is None:
            dots.append(f"M{place}h0")
        else:
            drawn.append(f"{'M' if before is None else 'L'}{place}")
    paths = ((kind, drawn), (f"{kind} dot", dots))
    return [f'<path class="{each}"{colour} d="{"".join(steps)}"/>' for each, steps in paths if steps]


def _legend(shown: Sequence[str], colours: dict[str, str]) -> list[str]:
    """Tenants, four a line."""
    parts: list[str] = []
    for place, name in enumerate(shown):
        x, y = _LEFT + 216 * (place % 4), 76 + 18 * (place // 4)
        short = name if len(name) <= _NAME_CHARACTERS else name[: _NAME_CHARACTERS - 1] + "…"
        parts.append(f'<rect x="{x}" y="{y}" width="12" height="12" rx="2" fill="{colours[name]}"/>')
        parts.append(_text(x + 18, y + 10, short))
    return parts


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "") -> str:
    attributes = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{escape(text)}</text>'
