"""The report page does in Chromium what its controls say, asks for nothing, and runs no script but its own."""

import json
import os
import shutil

import pytest
from helpers.pages import HOSTILE, filled, many, shown
from selenium import webdriver
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from classicnets.report.page import Curve, Heat, Table, page

pytestmark = [pytest.mark.browser, pytest.mark.process]


@pytest.fixture(scope="module")
def driver():
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        sentence = "the page is tested in Chromium: apt-get install chromium chromium-driver"
        pytest.fail(sentence) if os.environ.get("CI") else pytest.skip(sentence)
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for argument in ("--headless=new", "--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs[1]))
    yield driver
    driver.quit()


@pytest.fixture
def show(driver, tmp_path):
    """Opens a page at a width of the window; at the end nothing but the page was fetched and nothing complained."""
    file = tmp_path / "page.html"

    def opened(text, width=1440, media="screen", scheme="light", fresh=True):
        file.write_text(text, encoding="utf-8")
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
        if fresh:
            driver.get(file.as_uri())
        return driver

    driver.get_log("browser"), driver.get_log("performance")
    yield opened
    assert driver.execute_script("return performance.getEntriesByType('resource').map(e => e.name)") == []
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    requests = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    # Chromium counts a figure as a request, though the page holds it.
    assert {url for url in requests if not url.startswith("data:image/svg+xml;base64,")} == {file.as_uri()}
    assert driver.get_log("browser") == []


def curves():
    steps = (0, 100, 200)
    logs = {
        "plain56-s0": ("plain 56", {"test_error": [100, 10, 1], "train_error": [90, 9, 3], "train_loss": [2, 1, 0.5]}),
        "residual56-s0": ("residual 56", {"test_error": [80, 20.56, 7], "train_error": [70, 50, 0.0]}),
    }
    return [
        Curve(run, label, f"runs/{run}", {name: list(zip(steps, values, strict=True)) for name, values in log.items()})
        for run, (label, log) in logs.items()
    ]


def line(driver, run, split="test"):
    """The corners of a drawn line in pixels of the plot."""
    path = driver.find_element(By.CSS_SELECTOR, f'[data-run="{run}"] .line.{split}').get_attribute("d")
    return [tuple(map(float, corner.split(","))) for corner in path[1:].split("L")]


def button(driver, text):
    return driver.find_element(By.XPATH, f"//button[contains(., '{text}')]")


def cells(driver, column):
    rows = driver.find_elements(By.CSS_SELECTOR, "tbody tr")
    return [row.find_elements(By.CSS_SELECTOR, "th, td")[column].text for row in rows if row.is_displayed()]


@pytest.mark.parametrize("width", [390, 1440])
def test_hostile_texts_are_shown_literally_and_change_no_structure(show, width):
    elements = "return [...document.querySelectorAll('*')].map(e => e.tagName).join(' ')"
    harmless = show(filled([f"text {i}" for i in range(len(HOSTILE))]), width).execute_script(elements)
    driver = show(filled(HOSTILE, href="javascript:window.pwned=1"), width)
    assert driver.execute_script(elements) == harmless
    wanted = list(map(shown, HOSTILE))

    def texts(selector):
        return driver.execute_script(
            "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector
        )

    assert texts("h1") == texts(".written") == [" ".join(wanted)]
    assert texts(".outcome bdi") == texts(".warnings li") == wanted
    assert texts(".sentence") == [f"sentence {text}" for text in wanted]
    assert texts(".verdict .detail") == [f"detail {text}" for text in wanted]
    assert texts("section[id^=table] h2") == texts("section[id^=heat] h2") == wanted
    assert texts("section[id^=table] .note") == wanted
    assert texts("section[id^=table] thead th:nth-child(2)") == wanted
    assert texts("tbody tr:nth-child(1) th.text") == texts("tbody tr:nth-child(2) td.text") == wanted
    assert texts(".heat .axis[rowspan]") == wanted
    assert texts(".legend bdi:not(.id)") == [f"label {text}" for text in wanted]
    assert texts(".legend .id") == wanted
    assert texts("option")[1:] == [f"m {text}".replace("_", " ") for text in wanted]
    # Every control is used once with these texts in place.
    driver.execute_script("for (const b of document.querySelectorAll('button')) b.click()")
    assert driver.execute_script("return window.pwned") is None
    assert driver.execute_script("return ({}).steps === undefined && document.querySelectorAll('a').length") == 0
    assert driver.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0


def test_a_legend_entry_toggles_its_run(show):
    driver = show(page("t", curves=curves()))
    group = driver.find_element(By.CSS_SELECTOR, '[data-run="plain56-s0"]')
    other = driver.find_element(By.CSS_SELECTOR, '[data-run="residual56-s0"]')
    entry = button(driver, "plain 56")
    assert group.is_displayed() and entry.get_attribute("aria-pressed") == "true"
    entry.click()
    assert not group.is_displayed() and other.is_displayed() and entry.get_attribute("aria-pressed") == "false"
    assert "1 of 2 runs shown" in driver.find_element(By.CSS_SELECTOR, ".figure .note").text
    entry.click()
    assert group.is_displayed()
    button(driver, "Hide all").click()
    assert not group.is_displayed() and not other.is_displayed()
    assert "nothing is shown" in driver.find_element(By.CSS_SELECTOR, ".plot").text
    button(driver, "Show all").click()
    assert group.is_displayed() and other.is_displayed()
    assert driver.find_element(By.LINK_TEXT, "record").get_attribute("href").endswith("/runs/plain56-s0")


def test_many_runs_can_be_filtered_and_hidden_together(show):
    driver = show(many(12, 5))
    box = driver.find_element(By.CSS_SELECTOR, ".legend input")
    box.send_keys("PLAIN -s1-")
    listed = [entry for entry in driver.find_elements(By.CSS_SELECTOR, ".legend li") if entry.is_displayed()]
    assert len(listed) == 1
    button(driver, "Hide these").click()
    visible = [group.is_displayed() for group in driver.find_elements(By.CSS_SELECTOR, ".curve")]
    assert (len(visible), sum(visible)) == (12, 11)


@pytest.mark.parametrize("width", [390, 1440])
def test_the_pointer_reads_the_nearest_value(show, width):
    driver = show(page("t", curves=curves()), width)
    tip = driver.find_element(By.CSS_SELECTOR, ".tip")
    assert not tip.is_displayed()
    plot = driver.find_element(By.CSS_SELECTOR, ".plot")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    left, top = driver.execute_script("const b = arguments[0].getBoundingClientRect(); return [b.left, b.top]", plot)
    x, y = line(driver, "residual56-s0")[1]
    mouse = ActionBuilder(driver)
    mouse.pointer_action.move_to_location(round(left + x + 3), round(top + y + 3))
    mouse.perform()
    assert tip.text.split("\n") == ["residual 56", "residual56-s0", "test error 20.56 %", "step 100"]
    emphasised = driver.find_elements(By.CSS_SELECTOR, ".dimmed .emphasised")
    assert [group.get_attribute("data-run") for group in emphasised] == ["residual56-s0"]
    assert driver.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0
    mouse.pointer_action.move_to_location(1, 1)
    mouse.perform()
    assert not tip.is_displayed() and not driver.find_elements(By.CSS_SELECTOR, ".dimmed, .emphasised")


def test_arrow_keys_read_the_values(show):
    driver = show(page("t", curves=curves()))
    plot, tip = (driver.find_element(By.CSS_SELECTOR, selector) for selector in (".plot", ".tip"))
    plot.send_keys(Keys.ARROW_RIGHT)
    assert tip.text.split("\n")[2:] == ["test error 100 %", "step 0"]
    plot.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    assert tip.text.split("\n")[2:] == ["train error 9 %", "step 100"]
    plot.send_keys(Keys.ARROW_UP, Keys.ARROW_UP, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert tip.text.split("\n")[1:] == ["residual56-s0", "train error 70 %", "step 0"]
    plot.send_keys(Keys.ESCAPE)
    assert not tip.is_displayed()


def test_the_log_axis_and_smoothing_move_the_lines(show):
    driver = show(page("t", curves=curves()))
    (_, a), (_, b), (_, c) = line(driver, "plain56-s0")
    assert (b - a) / (c - b) == pytest.approx(90 / 9, rel=0.02)
    driver.find_element(By.NAME, "smoothing").send_keys(*[Keys.ARROW_RIGHT] * 10)
    # 100, 55, 28
    (_, a), (_, b), (_, c) = line(driver, "plain56-s0")
    assert (b - a) / (c - b) == pytest.approx(45 / 27, rel=0.02)
    driver.find_element(By.NAME, "smoothing").send_keys(Keys.HOME)
    driver.find_element(By.NAME, "log").click()
    (_, a), (_, b), (_, c) = line(driver, "plain56-s0")
    assert b - a == pytest.approx(c - b, abs=0.2)
    assert "not positive lie on the lower edge" in driver.find_element(By.CSS_SELECTOR, ".figure .note").text
    bottom = driver.find_element(By.CSS_SELECTOR, ".axes > line:last-of-type").get_attribute("y1")
    assert line(driver, "residual56-s0", "train")[2][1] == float(bottom)


def test_metrics_and_splits_are_chosen(show):
    driver = show(page("t", curves=curves()))

    def dashes():
        lines = driver.find_elements(By.CSS_SELECTOR, ".curve .line")
        return sorted(element.value_of_css_property("stroke-dasharray") for element in lines)

    assert dashes() == ["6px, 4px", "6px, 4px", "none", "none"]
    driver.find_element(By.NAME, "train").click()
    assert dashes() == ["none", "none"]
    driver.find_element(By.NAME, "train").click()
    Select(driver.find_element(By.TAG_NAME, "select")).select_by_visible_text("loss")
    assert dashes() == ["6px, 4px"]
    assert "loss" in driver.find_element(By.CSS_SELECTOR, ".plot").text


def test_a_heading_sorts_its_column_and_again_backwards(show):
    rows = [["b", 10.0, "s10"], ["e", 9.5, "s9"], ["a", None, "s1"], ["d", 100.0, None], ["c", 9.5, "s2"]]
    driver = show(page("t", tables=[Table("t", ["run", "error", "seed"], [*rows, ["f", "diverged", "s3"]])]))

    def sorts():
        return [head.get_attribute("aria-sort") for head in driver.find_elements(By.CSS_SELECTOR, "thead th")]

    assert cells(driver, 0) == ["b", "e", "a", "d", "c", "f"]
    button(driver, "error").click()
    assert cells(driver, 0) == ["e", "c", "b", "d", "f", "a"]
    assert cells(driver, 1) == ["9.5", "9.5", "10.0", "100.0", "diverged", "—"]
    button(driver, "error").click()
    assert cells(driver, 0) == ["d", "b", "e", "c", "f", "a"]
    assert sorts() == [None, "descending", None]
    button(driver, "seed").click()
    assert cells(driver, 2) == ["s1", "s2", "s3", "s9", "s10", "—"]
    assert sorts() == [None, None, "ascending"]
    button(driver, "run").send_keys(Keys.ENTER)
    assert cells(driver, 0) == list("abcdef")


def test_a_filter_narrows_a_table_on_the_screen_and_not_on_paper(show):
    text = many(12, 2)
    driver = show(text)
    driver.find_element(By.CSS_SELECTOR, "section[id^=table] input").send_keys("s3 complete")
    assert cells(driver, 0) == ["plain56-fashion_mnist-s3-0123456789ab"]
    assert driver.find_element(By.CSS_SELECTOR, "section[id^=table] output").text == "1 of 12 rows"
    show(text, media="print", scheme="dark", fresh=False)
    assert len(cells(driver, 0)) == 12
    assert not any(element.is_displayed() for element in driver.find_elements(By.CSS_SELECTOR, ".controls"))
    background = driver.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
    assert background == "rgba(255, 255, 255, 1)"


CONTRAST = """
const light = (rgb) => rgb.match(/[\\d.]+/g).slice(0, 3).map((c) => c / 255)
  .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
return [...document.querySelectorAll(arguments[0])].map((element) => {
  const {color, backgroundColor} = getComputedStyle(element);
  const [a, b] = [light(color), light(backgroundColor)].sort((a, b) => b - a);
  return (a + 0.05) / (b + 0.05);
});
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_heat_maps_are_readable_in_both_schemes(show, scheme):
    found = [(depth, width, depth * width / 8, 5) for depth in range(1, 10) for width in range(1, 10)]
    driver = show(
        page("t", heat=Heat("errors", "depth", "width", [*found[:-1], (9, 9, float("nan"), 2)])), scheme=scheme
    )
    assert (
        len(driver.execute_script("return [...new Set([...document.querySelectorAll('td')].map(e => e.className))]"))
        == 10
    )
    assert min(driver.execute_script(CONTRAST, ".heat td:not(.none)")) >= 4.5
    assert min(driver.execute_script(CONTRAST, "body")) >= 7
    assert cells(driver, 0)[0] == "1" and cells(driver, 2)[1] == "0.500\nn = 5" and cells(driver, 9)[8] == "—\nn = 2"


def test_no_page_scrolls_sideways_and_the_plot_follows_the_window(show):
    text = many(12, 20)
    driver = show(text)
    fits = (
        "const {viewBox, clientWidth} = document.querySelector('.plot'); return viewBox.baseVal.width === clientWidth"
    )
    for width in (1440, 390, 800):
        show(text, width, fresh=False)
        WebDriverWait(driver, 5, 0.02).until(lambda driver: driver.execute_script(fits))
        assert driver.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0


def test_tables_and_verdicts_are_there_without_the_script(show):
    driver = show("")
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(filled(["text"]))
        assert "The curves need the script of this page" in driver.find_element(By.ID, "curves").text
        assert cells(driver, 0)[1:] == ["text", "other text"]
        assert driver.find_elements(By.CSS_SELECTOR, "button, input, select") == []
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_the_policy_stops_a_script_that_comes_in_later(show):
    driver = show(filled(["text"]))
    driver.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.pwned = 1'; document.body.append(s);"
    )
    assert driver.execute_script("return window.pwned") is None
    assert any("Content Security Policy" in entry["message"] for entry in driver.get_log("browser"))
