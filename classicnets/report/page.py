"""A report as one self-contained HTML page: verdicts, warnings, curves, figures, heat maps and tables.

The page asks the network for nothing, and its Content-Security-Policy allows only the style and the script that it
holds. The tables are HTML and can be read and printed without the script, which draws the curves, sorts and filters.
"""

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import TypeGuard

from classicnets.report.text import visible

Cell = str | float | int | None

# The points that a page holds, about 6 bytes each: 300 runs of 100 epochs and 4 metrics stay below 1 MB.
POINTS = 120_000
DIGITS = 4
LEVELS = 9
NOTHING = "—"
SYMBOLS = {
    "reproduced": ("good", "✓"),
    "survives": ("good", "✓"),
    "refuted": ("bad", "✕"),
    "vanishes": ("bad", "✕"),
    "undecided": ("open", "?"),
}


@dataclass(frozen=True)
class Verdict:
    """What a claim ended in: one word, the sentence that says it, and its conditions."""

    outcome: str
    sentence: str
    detail: str = ""


@dataclass(frozen=True)
class Curve:
    """The log of one run: metric -> (step, value) in the order of the steps.

    Metrics whose names differ only in a leading train_, test_ or validation_ share a chart. Runs of one label share a
    colour. Values that are not finite are left out.
    """

    run: str
    label: str
    href: str | None
    metrics: Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True)
class Heat:
    """A mean over n runs for each pair of two quantities: cells are (row value, column value, mean, n)."""

    title: str
    rows: str
    columns: str
    cells: Sequence[tuple[float, float, float, int]]


@dataclass(frozen=True)
class Figure:
    """A drawing in SVG under its title."""

    title: str
    svg: bytes


@dataclass(frozen=True)
class Table:
    """Rows under headings; links: text of a cell in the first column -> href."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    links: Mapping[str, str] = field(default_factory=dict)


def page(
    title: str,
    *,
    verdicts: Sequence[Verdict] = (),
    warnings: Sequence[str] = (),
    curves: Sequence[Curve] = (),
    figures: Sequence[Figure] = (),
    heat: Heat | Sequence[Heat] | None = (),
    tables: Sequence[Table] = (),
    written: str = "",
) -> str:
    """One self-contained HTML page, the same bytes for the same arguments; written: when and by what it was.

    Links that are neither relative nor http(s) become plain text. Values of curves have 4 significant digits. Where all
    curves together have more than 120,000 points, each keeps as many as fit, evenly spaced, the first and the last
    among them, and the page says so. Raises ValueError if a row of a table has not one cell a column, or if a cell of
    a heat map comes twice.
    """
    here = Path(__file__)
    style = here.with_name("page.css").read_text(encoding="utf-8")
    script = here.with_name("page.js").read_text(encoding="utf-8")
    heats = [heat] if isinstance(heat, Heat) else heat or ()
    sections = [
        _verdicts(verdicts),
        _warnings(warnings),
        _curves(curves),
        _figures(figures),
        *(_heat(f"heat-{i}", h) for i, h in enumerate(heats)),
        *(_table(f"table-{i}", t) for i, t in enumerate(tables)),
    ]
    body = "\n".join(filter(None, sections)) or "<p>There is nothing to report.</p>"
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>{_text(title)}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{_text(title)}</h1>
{_paragraph(written, "written")}
</header>
<main>
{body}
</main>
<script>{script}</script>
</body>
</html>
"""


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _text(text: str) -> str:
    return html.escape(visible(text))


def _paragraph(text: str, kind: str) -> str:
    return f'<p class="{kind}">{_text(text)}</p>' if text else ""


def _safe(href: str | None) -> str | None:
    """The href if it is relative or http(s), else None.

    Browsers drop tabs, line ends and leading spaces and read a backslash as a slash, so none of them passes; a colon
    before the first slash ends a scheme.
    """
    if not href or re.search(r"^\s|[\x00-\x1f\x7f-\x9f\\\ud800-\udfff]", href) or href.startswith("//"):
        return None
    scheme = ":" in re.split(r"[/?#]", href, maxsplit=1)[0]
    return href if not scheme or re.match(r"https?://[^/]", href, re.IGNORECASE) else None


def _verdicts(verdicts: Sequence[Verdict]) -> str:
    if not verdicts:
        return ""
    items = []
    for verdict in verdicts:
        kind, symbol = SYMBOLS.get(verdict.outcome, ("other", "•"))
        items.append(
            f'<li class="verdict {kind}">\n'
            f'<p class="outcome"><span class="symbol" aria-hidden="true">{symbol}</span> '
            f"<bdi>{_text(verdict.outcome)}</bdi></p>\n"
            f'<p class="sentence">{_text(verdict.sentence)}</p>\n{_paragraph(verdict.detail, "detail")}</li>'
        )
    return _section("verdicts", "Verdicts", '<ul class="verdicts">\n' + "\n".join(items) + "\n</ul>")


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    items = "\n".join(f"<li>{_text(warning)}</li>" for warning in warnings)
    return _section("warnings", "Warnings", f'<ul class="warnings">\n{items}\n</ul>')


def _section(name: str, title: str, content: str) -> str:
    """A section under its heading; name is its id and comes from this file, never from the caller of `page`."""
    return f'<section id="{name}">\n<h2 id="{name}-title">{_text(title)}</h2>\n{content}\n</section>'


def _curves(curves: Sequence[Curve]) -> str:
    if not curves:
        return ""
    data, most = _data(curves)
    thinned = f"Each curve shows at most {most:,} of its points, evenly spaced; the records hold all." if most else ""
    return _section(
        "curves",
        "Curves",
        "<noscript><p>The curves need the script of this page; all else can be read without it.</p></noscript>\n"
        f'<div id="chart"></div>\n{_paragraph(thinned, "note")}\n'
        f'<script type="application/json" id="data">{data}</script>',
    )


def _data(curves: Sequence[Curve]) -> tuple[str, int | None]:
    """JSON that is safe inside a script element, and the points that each curve kept if they were thinned.

    Most curves have the same steps, so these are stored once and named by their index.
    """
    logs = [
        {name: [(s, v) for s, v in points if v is not None and math.isfinite(v)] for name, points in c.metrics.items()}
        for c in curves
    ]
    lengths = [len(points) for log in logs for points in log.values()]
    most = max(2, POINTS // len(lengths)) if sum(lengths) > POINTS else None
    grids: dict[tuple[float, ...], int] = {}
    runs = []
    for curve, log in zip(curves, logs, strict=True):
        series = {}
        for name, points in log.items():
            points = _thinned(points, most) if most else points
            grid = grids.setdefault(tuple(_short(step, 15) for step, _ in points), len(grids))
            series[visible(name)] = [grid, [_short(value, DIGITS) for _, value in points]]
        runs.append(
            {"run": visible(curve.run), "label": visible(curve.label), "href": _safe(curve.href), "series": series}
        )
    # Characters beyond ASCII are escaped, the line ends U+2028 and U+2029 among them.
    text = json.dumps({"steps": list(grids), "curves": runs}, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text, most


def _thinned(points: list[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    if len(points) <= most:
        return points
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]


def _short(value: float, digits: int) -> float:
    """The value to so many significant digits, an int where it is whole: its JSON is shorter."""
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def _figures(figures: Sequence[Figure]) -> str:
    """Images by data URL: a picture inside one runs no script and asks for nothing."""
    if not figures:
        return ""
    items = []
    for figure in figures:
        source = f"data:image/svg+xml;base64,{base64.b64encode(figure.svg).decode()}"
        title = _text(figure.title)
        items.append(f'<figure>\n<img src="{source}" alt="{title}">\n<figcaption>{title}</figcaption>\n</figure>')
    return _section("figures", "Figures", "\n".join(items))


def _heat(name: str, heat: Heat) -> str:
    found = {(row, column): (mean, n) for row, column, mean, n in heat.cells}
    if len(found) < len(heat.cells):
        raise ValueError(f"heat map {heat.title!r}: a pair of {heat.rows} and {heat.columns} comes twice")
    means = [mean for mean, _ in found.values() if math.isfinite(mean)]
    low, high, decimals = min(means, default=0.0), max(means, default=0.0), _decimals(means)
    columns = sorted({column for _, column in found})

    def cell(row: float, column: float) -> str:
        mean, n = found.get((row, column), (math.nan, 0))
        # None of the runs had a finite value, or there was none.
        if not math.isfinite(mean):
            return f'<td class="none">{NOTHING}{f" <small>n = {n}</small>" if n else ""}</td>'
        level = round((LEVELS - 1) * (mean - low) / (high - low)) if high > low else 0
        return f'<td class="level-{level}">{_number(mean, decimals)} <small>n = {n}</small></td>'

    rows = "\n".join(
        f'<tr><th scope="row">{row:g}</th>{"".join(cell(row, column) for column in columns)}</tr>'
        for row in sorted({row for row, _ in found})
    )
    heads = "".join(f'<th scope="col">{column:g}</th>' for column in columns)
    scale = "".join(f'<span class="level-{level}"></span>' for level in range(LEVELS))
    return _section(
        name,
        heat.title,
        f'<div class="scroll" role="region" aria-labelledby="{name}-title" tabindex="0">\n<table class="heat">\n'
        f'<thead>\n<tr><th rowspan="2" scope="col" class="axis">{_text(heat.rows)}</th>'
        f'<th colspan="{max(1, len(columns))}" scope="colgroup" class="axis">{_text(heat.columns)}</th></tr>\n'
        f"<tr>{heads}</tr>\n</thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n"
        f'<p class="scale">{_number(low, decimals)} <span class="ramp" aria-hidden="true">{scale}</span> '
        f"{_number(high, decimals)}</p>",
    )


def _table(name: str, table: Table) -> str:
    width = len(table.columns)
    for row in table.rows:
        if len(row) != width:
            raise ValueError(f"table {table.title!r}: {len(row)} cells under {width} headings in {list(row)}")
    columns = list(zip(*table.rows, strict=True)) or [()] * width
    decimals = [_decimals(value for value in column if _is_number(value)) for column in columns]
    # A column of numbers is flush right, its heading too.
    kinds = ["number" if column and all(v is None or _is_number(v) for v in column) else "text" for column in columns]
    heads = "".join(
        f'<th scope="col" class="{kind}">{_text(head)}</th>' for head, kind in zip(table.columns, kinds, strict=True)
    )
    rows = "\n".join(
        "<tr>" + "".join(_cell(row, i, kinds[i], decimals[i], table.links) for i in range(width)) + "</tr>"
        for row in table.rows
    )
    return _section(
        name,
        table.title,
        f"{_paragraph(table.note, 'note')}\n"
        f'<div class="scroll" role="region" aria-labelledby="{name}-title" tabindex="0">\n'
        f'<table class="sortable">\n<thead>\n<tr>{heads}</tr>\n</thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>',
    )


def _cell(row: Sequence[Cell], i: int, kind: str, decimals: int, links: Mapping[str, str]) -> str:
    """Cell i of a row; the first is the heading of the row. data-value holds the number that it is sorted by."""
    value, exact = row[i], ""
    if value is None:
        kind, text = f"{kind} none", NOTHING
    elif _is_number(value):
        text = _number(value, decimals)
        # JavaScript reads "Infinity"; what is not a number is sorted as nothing is.
        exact = f' data-value="{float(value)!r}"'.replace("inf", "Infinity")
        kind, exact = (f"{kind} none", "") if math.isnan(value) else (kind, exact)
    else:
        text = _text(str(value))
    if i > 0:
        return f'<td class="{kind}"{exact}>{text}</td>'
    href = _safe(links.get(str(value)))
    if href:
        text = f'<a href="{html.escape(href)}">{text}</a>'
    return f'<th scope="row" class="{kind}"{exact}>{text}</th>'


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool)


def _decimals(values: Iterable[float]) -> int:
    """Decimals that show the largest of the values with 4 significant digits, from 2 to 6, or fewer where all fit."""
    finite = [value for value in values if math.isfinite(value)]
    largest = max(map(abs, finite), default=0)
    most = min(6, max(2, 3 - math.floor(math.log10(largest)))) if largest else 2
    return next((d for d in range(most) if all(round(value, d) == value for value in finite)), most)


def _number(value, decimals: int) -> str:
    if isinstance(value, Integral):
        return f"{value:,}"
    # Adding 0.0 takes the sign from zero.
    rounded = round(value, decimals) + 0.0
    return f"{value:.2g}" if value and not rounded else f"{rounded:,.{decimals}f}"
