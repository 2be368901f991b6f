"""The report in a browser: on a desk and on a phone, by day and by night, on paper."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_report import write_study

from loracast.report.build import write_report

pytestmark = pytest.mark.slow

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
TUNED = {"light": "rgb(0, 114, 178)", "dark": "rgb(86, 180, 233)"}
PAPER = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 29)"}
LINES = "path.js-line"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(write_study(tmp_path_factory.mktemp("study") / "laptop", ("$prey$ & <i>co</i>", "predator")))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("needs chromium or Google Chrome")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any, report: Path) -> Iterator[Any]:
    """Opens the report: `open_page(scheme, size, touch)`. Afterwards, nothing may have gone wrong or left the page."""
    contexts, troubles = [], []

    def open_it(scheme: str = "light", size: dict[str, int] = DESK, touch: bool = False) -> Any:
        context = chromium.new_context(viewport=size, color_scheme=scheme, has_touch=touch, is_mobile=touch)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: troubles.append(request.url) if _leaves(request.url) else None)
        page.goto(report.as_uri())
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert troubles == []


def _leaves(address: str) -> bool:
    return not address.startswith(("file:", "data:", "blob:"))


def colour_of(page: Any, selector: str, name: str) -> str:
    return page.locator(selector).first.evaluate(f"element => getComputedStyle(element).{name}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("size", "touch"), [(DESK, False), (PHONE, True)])
def test_every_panel_draws_when_it_is_scrolled_to(open_page: Any, scheme: str, size: dict[str, int], touch: bool):
    page = open_page(scheme, size, touch)
    panels = page.locator(".panel")
    assert panels.count() > 60
    for index in range(panels.count()):
        panel = panels.nth(index)
        panel.scroll_into_view_if_needed()
        panel.locator(".main-svg .mlayer :is(path, image)").first.wait_for(state="attached")
        assert panel.evaluate("panel => panel.scrollWidth <= panel.clientWidth")
    assert page.evaluate("document.documentElement.scrollWidth") == size["width"]
    assert colour_of(page, "body", "backgroundColor") == PAPER[scheme]
    assert colour_of(page, f"#figure-steps .trace:nth-child(2) {LINES}", "stroke") == TUNED[scheme]


def test_the_page_draws_only_what_is_near(open_page: Any):
    page = open_page()
    page.locator("#figure-series").scroll_into_view_if_needed()
    page.locator("#figure-series .main-svg").first.wait_for()
    assert page.locator("#figure-pit .main-svg").count() == 0


def test_figures_follow_the_colour_scheme_while_the_page_is_open(open_page: Any):
    page = open_page("light")
    page.locator("#figure-steps").scroll_into_view_if_needed()
    tuned = f"#figure-steps .panel[data-index='0'] .trace:nth-child(2) {LINES}"
    page.locator(tuned).wait_for(state="attached")
    for scheme in ("light", "dark", "light"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(
            "([line, colour]) => getComputedStyle(document.querySelector(line)).stroke === colour",
            arg=[tuned, TUNED[scheme]],
        )
        assert colour_of(page, "#figure-steps .keys button:nth-child(2) path", "stroke") == TUNED[scheme]


def test_the_legend_switches_lines_off_and_on_in_all_panels(open_page: Any):
    page = open_page()
    figure = page.locator("#figure-steps")
    figure.scroll_into_view_if_needed()
    page.wait_for_function(f"document.querySelectorAll('#figure-steps {LINES}').length === 20")
    button = figure.locator(".keys button", has_text="last-value")
    for expected in (16, 20):
        button.click()
        page.wait_for_function(f"document.querySelectorAll('#figure-steps {LINES}').length === {expected}")
        assert button.get_attribute("aria-pressed") == str(expected == 20).lower()


def test_a_legend_entry_with_a_hostile_name_works_too(open_page: Any):
    page = open_page()
    button = page.locator("#figure-series .keys button").first
    assert button.text_content() == "$prey$ & <i>co</i>"
    drawn = "document.querySelectorAll('#figure-series .panel[data-index=\"0\"] .trace').length"
    for expected in (2, 1, 2):
        page.wait_for_function(f"{drawn} === {expected}")
        button.click()


def test_on_paper_everything_is_drawn_and_in_the_colours_on_light(open_page: Any):
    page = open_page("dark")
    pdf = page.pdf()
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 5
    assert page.locator(".panel:not(:has(.main-svg))").count() == 0
    page.emulate_media(media="print")
    tuned = f"#figure-steps .trace:nth-child(2) {LINES}"
    page.wait_for_function(
        "([line, colour]) => getComputedStyle(document.querySelector(line)).stroke === colour",
        arg=[tuned, TUNED["light"]],
    )
    assert colour_of(page, "body", "backgroundColor") == PAPER["light"]


def test_a_finger_scrolls_the_page_over_a_figure(open_page: Any):
    page = open_page("light", PHONE, touch=True)
    page.locator("#figure-series").scroll_into_view_if_needed()
    page.locator("#figure-series .main-svg").first.wait_for()
    layout = page.locator("#figure-series .panel").first.evaluate("panel => panel.layout")
    assert layout["dragmode"] is False
    assert layout["xaxis"]["fixedrange"] is True
