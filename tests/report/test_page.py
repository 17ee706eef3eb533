"""The report page holds all that it needs, in the same bytes, and makes markup of no text."""

import base64
import hashlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from helpers.pages import HOSTILE, data, filled, many

from classicnets.report.page import Curve, Heat, Table, page

BAD_LINKS = [
    *(
        "javascript:alert(1)",
        " javascript:alert(1)",
        "java\tscript:alert(1)",
        "JAVASCRIPT:alert(1)",
        "\x01javascript:x",
    ),
    *("data:text/html,x", "vbscript:x", "file:///etc/passwd", "//host/x", "\\\\host\\x", "/\\host", "http:host"),
    *("https:///host", "\n//host", " //host", "/\t/host", "mailto:a@b.c", "runs\ud800", ""),
]
GOOD_LINKS = [
    "runs/a-1/metrics.jsonl",
    "../x",
    "/x",
    "#here",
    "?q=a:b",
    "a/b:c",
    "http://h/x",
    "HTTPS://h.example/<\"'>",
]


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.mark.process
def test_the_same_arguments_give_the_same_bytes_and_nothing_heavy_is_imported():
    code = (
        "import sys, hashlib; from helpers.pages import filled, many, HOSTILE;"
        "print(hashlib.sha256((filled(HOSTILE) + many(3, 5)).encode()).hexdigest())"
    )
    path = os.pathsep.join(filter(None, sys.path))
    environment = dict(os.environ, PYTHONHASHSEED="7", PYTHONPATH=path)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert run.stdout.strip() == hashlib.sha256((filled(HOSTILE) + many(3, 5)).encode()).hexdigest()
    light = "import sys, classicnets.report.page; print({'jax', 'numpy', 'matplotlib', 'scipy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", light], capture_output=True, text=True).stdout.strip() == "set()"


def test_the_policy_names_the_style_and_the_script_that_are_there():
    text = filled(HOSTILE)
    policy = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', text)[0]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        inline = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline[0].encode()).digest()).decode()
        assert (len(inline), rules.pop(rule)) == (1, f"'sha256-{digest}'")
    assert rules == {"default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'"}


def test_markup_has_no_handlers_styles_or_sources_and_headings_come_in_order():
    tags = Tags(filled(HOSTILE, href="javascript:window.pwned=1")).found
    names = {name for _, attributes in tags for name in attributes}
    assert not [name for name in names if name in ("style", "srcset", "action") or name.startswith("on")]
    sources = [(tag, attributes["src"]) for tag, attributes in tags if "src" in attributes]
    assert len(sources) == len(HOSTILE)
    assert all(tag == "img" and re.fullmatch(r"data:image/svg\+xml;base64,[\w+/=]+", src) for tag, src in sources)
    headings = [int(tag[1]) for tag, _ in tags if re.fullmatch(r"h\d", tag)]
    assert headings[0] == 1 and headings.count(1) == 1 and all(b - a <= 1 for a, b in pairwise(headings))
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert tags[0] == ("html", {"lang": "en"})


@pytest.mark.parametrize("href", BAD_LINKS)
def test_links_that_leave_for_elsewhere_are_plain_text(href):
    text = page("t", curves=[Curve("r", "r", href, {})], tables=[Table("t", ["a"], [["cell"]], links={"cell": href})])
    assert not any(tag == "a" for tag, _ in Tags(text).found)
    assert 'scope="row" class="text">cell</th>' in text
    assert data(text)["curves"][0]["href"] is None


@pytest.mark.parametrize("href", GOOD_LINKS)
def test_relative_and_web_links_are_links(href):
    text = page("t", curves=[Curve("r", "r", href, {})], tables=[Table("t", ["a"], [["cell"]], links={"cell": href})])
    assert ("a", {"href": href}) in Tags(text).found
    assert data(text)["curves"][0]["href"] == href


def test_three_hundred_runs_of_a_hundred_epochs_stay_below_a_megabyte():
    text = many(300, 100)
    assert len(text.encode()) < 1_000_000
    assert "evenly spaced" not in text


def test_longer_curves_are_thinned_and_the_page_says_so():
    text = many(300, 1000)
    assert len(text.encode()) < 1_000_000
    assert "Each curve shows at most 100 of its points, evenly spaced" in text
    found = data(text)
    grid, values = found["curves"][0]["series"]["test_error"]
    steps = found["steps"][grid]
    assert (len(steps), len(values), steps[0], steps[-1]) == (100, 100, 0, 352 * 999)
    assert {b - a for a, b in pairwise(steps)} == {352 * 10, 352 * 11}


def test_values_that_are_not_finite_are_left_out():
    nan, inf = float("nan"), float("inf")
    found = data(
        page("t", curves=[Curve("r", "r", None, {"m": [(0, 1.23456), (1, nan), (2, inf), (3, None), (4, 2)]})])
    )
    assert found == {
        "steps": [[0, 4]],
        "curves": [{"run": "r", "label": "r", "href": None, "series": {"m": [0, [1.235, 2]]}}],
    }


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        ([88.283, 0.5, 0.0, None], ["88.28", "0.50", "0.00", "—"]),
        ([0.25, 0.5, 1.0], ["0.25", "0.50", "1.00"]),
        ([0.5, 1.0, 2.0], ["0.5", "1.0", "2.0"]),
        ([0.12345, 3e-7], ["0.1235", "3e-07"]),
        ([272474, -3], ["272,474", "-3"]),
        ([float("nan"), float("inf"), 1.5, -0.0], ["nan", "inf", "1.5", "0.0"]),
        (["diverged", True, 3], ["diverged", "True", "3"]),
        ([123456.789], ["123,456.79"]),
    ],
)
def test_numbers_of_a_column_share_their_decimals(column, cells):
    text = page("t", tables=[Table("t", ["a", "b"], [["x", value] for value in column])])
    assert re.findall(r"<td [^>]*>(.*?)</td>", text) == cells


def test_bad_tables_and_heat_maps_are_refused():
    with pytest.raises(ValueError, match="1 cells under 2 headings"):
        page("t", tables=[Table("t", ["a", "b"], [["x"]])])
    with pytest.raises(ValueError, match="pair of depth and width comes twice"):
        page("t", heat=Heat("t", "depth", "width", [(20, 1, 5, 3), (20, 1, 6, 3)]))


def test_what_is_absent_leaves_no_section():
    assert "There is nothing to report." in page("t", heat=None)
    assert re.findall(r'<section id="(.+?)">', filled(["x"])) == [
        "verdicts",
        "warnings",
        "curves",
        "figures",
        "heat-0",
        "table-0",
    ]
