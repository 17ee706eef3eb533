"""Pages of hostile texts, of many runs, and what a page holds."""

import json
import re

from classicnets.report.page import Curve, Figure, Heat, Table, Verdict, page

HOSTILE = [
    "</script><script>window.pwned=1</script>",
    "</style><script>window.pwned=1</script>",
    "</title><script>window.pwned=1</script>",
    "</noscript><img src=x onerror=window.pwned=1>",
    "<img src=x onerror=window.pwned=1>",
    '"><svg onload=window.pwned=1>',
    "'><svg/onload=window.pwned=1>",
    '" onmouseover="window.pwned=1" style="position:fixed',
    "javascript:window.pwned=1",
    "<a href=javascript:window.pwned=1>click</a>",
    '=HYPERLINK("http://example.invalid","click")',
    "{{7*7}}${7*7}#{7*7}",
    "]]>",
    "<!--",
    "--><!-- <script>",
    "<plaintext>",
    "&lt;b&gt; &amp; &#x41; &nosuch;",
    "two\u2028lines\u2029more",
    "\u202eright to left\u2067",
    "null\x00bell\x07escape\x1b[31m\r\x7f\x85",
    "\ud800 lone surrogate",
    "__proto__",
    "w" * 3000,
    "-" * 400 + "日本語" * 200,
]


def shown(text):
    """What the page shows of a text: itself, with a sign where a browser would drop or change a character."""
    text = "".join(chr(0x2400 + ord(c)) if c < " " and c not in "\t\n" else c for c in text)
    return re.sub(r"[\x7f-\x9f\ud800-\udfff]", "\ufffd", text)


def filled(texts, href=None):
    """A page with the texts in every place that takes one."""
    curves = [Curve(t, f"label {t}", href, {"test_error": [(0, 9), (1, 5)], f"m {t}": [(0, 1)]}) for t in texts]
    heats = [Heat(t, t, f"other {t}", [(20, 1, 5, 3)]) for t in texts]
    tables = [Table(t, [f"head {t}", t], [[t, 1.5], [f"other {t}", t]], t, {t: href} if href else {}) for t in texts]
    verdicts = [Verdict(t, f"sentence {t}", f"detail {t}") for t in texts]
    figures = [
        Figure(t, f'<svg xmlns="http://www.w3.org/2000/svg" onload="window.pwned=1">{t}</svg>'.encode(errors="replace"))
        for t in texts
    ]
    everything = " ".join(texts)
    return page(
        everything,
        verdicts=verdicts,
        warnings=texts,
        curves=curves,
        figures=figures,
        heat=heats,
        tables=tables,
        written=everything,
    )


def many(runs, points, metrics=("train_error", "test_error", "validation_error", "train_loss")):
    log = [(352 * step, 90 / (1 + step) + step / 7) for step in range(points)]
    curves = [
        Curve(f"plain56-fashion_mnist-s{i}-0123456789ab", f"plain {i % 9}", f"runs/{i}", {m: log for m in metrics})
        for i in range(runs)
    ]
    columns = ["run", "depth", "width", "seed", "train error (%)", "test error (%)", "state"]
    rows = [[c.run, 56, 0.5, i, i / 7, i / 3, "complete"] for i, c in enumerate(curves)]
    return page("many", curves=curves, tables=[Table("Runs", columns, rows)])


def data(text):
    return json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)[0])
