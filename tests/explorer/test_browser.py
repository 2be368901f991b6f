"""Every control of the page, in a real Chromium; `make browser` fetches one where there is none."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from explored import kept, place
from served import adapters, base

sync_api = pytest.importorskip("playwright.sync_api")
axe_core = pytest.importorskip("axe_playwright_python.sync_playwright")

SIZES = {"wide": (1440, 900), "narrow": (390, 844)}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of the thread that tunes
PATIENCE = 30_000  # milliseconds
TABLE = "year,hare,lynx\n" + "".join(f"{1900 + row},{20 + (row * 13) % 17},{4 + (row * 5) % 11}\n" for row in range(40))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_api.sync_playwright() as playwright:
        if not found and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("there is no Chromium; `make browser` fetches one")
        options = {"executable_path": found} if found else {}
        browser = playwright.chromium.launch(args=["--no-sandbox"], **options)
        yield browser
        browser.close()


class Driven:
    """A page that is looked after: what its console says, and what it asks for elsewhere."""

    def __init__(self, browser: Any, place: str, size: tuple[int, int], scheme: str = "light"):
        self.context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, accept_downloads=True
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.problems: list[str] = []
        self.page.on("console", lambda one: one.type in ("error", "warning") and self.problems.append(one.text))
        self.page.on("pageerror", lambda one: self.problems.append(str(one)))
        self.page.on("request", lambda one: self._check(one.url, place))
        self.page.goto(place)
        self.page.wait_for_selector("body[data-ready]")

    def _check(self, url: str, place: str) -> None:
        if not url.startswith((place, "data:", "blob:")):
            self.problems.append(f"asked for {url}")

    def drawn(self, act: Callable[[], Any]) -> None:
        """Acts, and waits for the forecast that follows."""
        before = self.page.get_attribute("body", "data-drawn") or "0"
        act()
        try:
            self.page.wait_for_selector(f"body[data-drawn]:not([data-drawn='{before}'])")
        except sync_api.TimeoutError:
            told = {name: self.page.inner_text(f"#{name}") for name in ("problem", "status", "set-told")}
            raise AssertionError(f"nothing was drawn; the page says {told}") from None

    def open(self, *parts: str) -> None:
        for part in parts:
            self.page.locator(f"details#{part} > summary").click()

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def close(self) -> None:
        self.context.close()
        assert not self.problems, self.problems


@pytest.fixture
def driven(browser: Any, place: str) -> Iterator[Driven]:
    page = Driven(browser, place, SIZES["wide"])
    yield page
    page.close()


def across(page: Any, time: str) -> tuple[float, float]:
    """Where a time lies in the fan's first chart, on the screen."""
    page.locator("#fan").scroll_into_view_if_needed()
    box = page.locator("#fan").bounding_box()
    find = (
        f"(() => {{ const a = document.getElementById('fan')._fullLayout.xaxis; return a.d2p({time}) + a._offset; }})()"
    )
    return box["x"] + page.evaluate(find), box["y"] + 60


def test_data_of_three_kinds(driven, tmp_path):
    page = driven.page
    driven.drawn(lambda: page.click("#shipped"))
    assert "91 years of hare and lynx" in driven.text("#understood")
    assert page.locator("#fan .trace").count() > 4
    assert page.locator("#phase .trace").count() > 2
    driven.open("simulator")
    driven.drawn(lambda: page.click("#simulate"))
    assert "predator-prey: 1 series" in driven.text("#understood")
    driven.drawn(lambda: page.locator("#sliders input").nth(4).press("ArrowRight"))
    first = driven.text("#understood")
    driven.drawn(lambda: page.locator("#noise").press("End"))
    assert driven.text("#noise-out") == "0.5"
    driven.drawn(lambda: page.locator("#process").press("ArrowRight"))
    driven.drawn(lambda: (page.fill("#seed-data", "7"), page.press("#seed-data", "Tab")))
    driven.drawn(lambda: (page.fill("#steps-data", "60"), page.press("#steps-data", "Tab")))
    assert "60 steps" in driven.text("#understood") != first
    driven.drawn(lambda: (page.fill("#individuals", "40"), page.press("#individuals", "Tab")))
    driven.drawn(lambda: (page.fill("#count-data", "3"), page.press("#count-data", "Tab")))
    assert page.locator("#sliders input").first.is_disabled()
    driven.drawn(lambda: page.select_option("#series", "2"))
    page.select_option("#system", "lotka-volterra")
    assert "Lotka" in driven.text("#law")
    file = tmp_path / "counts.csv"
    file.write_text(TABLE)
    driven.drawn(lambda: page.set_input_files("#file", file))
    assert "counts.csv: time 'year' from 1900 to 1939, yearly" in driven.text("#understood")
    page.fill("#role-targets", "lynx")
    driven.drawn(lambda: page.click("#reread"))
    assert "variables lynx" in driven.text("#understood")
    page.fill("#role-targets", "bear")
    page.click("#reread")
    page.wait_for_selector("#problem:not([hidden])")
    assert "bear" in driven.text("#problem")
    driven.problems = [one for one in driven.problems if "422" not in one]  # which the browser itself writes down


def test_a_table_is_dropped(driven):
    transfer = driven.page.evaluate_handle(
        "(text) => { const data = new DataTransfer(); data.items.add(new File([text], 'dropped.csv')); return data; }",
        TABLE,
    )
    driven.drawn(lambda: driven.page.dispatch_event("#drop", "drop", {"dataTransfer": transfer}))
    assert "dropped.csv" in driven.text("#understood")


def test_the_forecast_follows_every_control(driven):
    page = driven.page
    driven.drawn(lambda: page.click("#shipped"))
    driven.drawn(lambda: page.locator("#origin").press("ArrowLeft"))
    assert driven.text("#origin-out") == "70 of 91 steps"
    driven.drawn(lambda: (page.fill("#horizon", "9"), page.press("#horizon", "Tab")))
    assert page.get_attribute("#time", "max") == "9"
    driven.drawn(lambda: (page.fill("#paths", "7"), page.press("#paths", "Tab")))
    driven.drawn(lambda: (page.fill("#seed", "3"), page.press("#seed", "Tab")))
    driven.drawn(lambda: page.select_option("#transform", "log"))
    driven.drawn(lambda: page.locator("#forecasters").get_by_label("alpha").check())
    page.get_by_label("context-mean").check()
    page.get_by_label("last-value").check()
    rows = driven.text("#scores")
    for name in ("untouched", "alpha", "best-period", "context-mean", "last-value", "in 80%"):
        assert name in rows
    assert "tuned on prey, predator" in driven.text("#status")
    page.locator("#time").press("Home")
    assert "(step 1)" in driven.text("#time-out")
    page.fill("#paths", "0")
    page.press("#paths", "Tab")
    assert "paths" in driven.text("#problem")


def test_the_origin_is_dragged(driven):
    page = driven.page
    driven.drawn(lambda: page.click("#shipped"))
    x, y = across(page, "1915")
    page.mouse.move(x, y)
    page.mouse.down()
    for year in range(1914, 1904, -1):
        page.mouse.move(across(page, str(year))[0], y)
        page.wait_for_timeout(40)
    driven.drawn(page.mouse.up)
    origin = int(driven.text("#origin-out").split()[0])
    assert 55 < origin < 71


def test_single_paths_are_shown_where_the_pointer_is(driven):
    page = driven.page
    driven.drawn(lambda: page.click("#shipped"))
    page.wait_for_timeout(500)
    before = page.locator("#phase .trace").count()
    x, y = across(page, "1925")
    for down in range(0, 120, 4):
        page.mouse.move(x, y - 50 + down)
        page.wait_for_timeout(30)
        if page.locator("#phase .trace").count() > before:
            return
    raise AssertionError("no path was marked")


def test_the_text_is_written_token_by_token(driven):
    page = driven.page
    driven.drawn(lambda: page.click("#shipped"))
    page.fill("#path-number", "1")
    page.click("#write")
    page.wait_for_selector("#text[data-done]")
    assert driven.text("#text").replace("\n", "").replace(" ", "").count(";") == 91
    assert page.locator("#text .written b").count() == 20 * 8
    colours = page.locator("#text b").evaluate_all("all => new Set(all.map((one) => one.style.color)).size")
    assert colours == 2
    assert page.locator("#text b[title*=bits]").count() > 100
    assert "hare" in driven.text("#text-legend")


def test_what_if_by_typing_and_by_dragging(driven):
    page = driven.page
    driven.drawn(lambda: page.click("#shipped"))
    driven.open("what-if")
    page.select_option("#set-variable", "lynx")
    page.fill("#set-value", "5")
    page.fill("#set-from", "2")
    page.fill("#set-to", "4")
    driven.drawn(lambda: page.click("#set"))
    assert "lynx = 5 at step 4" in driven.text("#set-told")
    assert "not what would happen if somebody" in driven.text("#conditional")
    driven.drawn(lambda: page.click("#clear"))
    assert driven.text("#conditional") == ""
    page.click("#drag")
    assert page.get_attribute("#drag", "aria-pressed") == "true"
    x, y = across(page, "1920")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(across(page, "1924")[0], y + 10, steps=8)
    driven.drawn(page.mouse.up)
    assert re.search(r"hare = [\d.]+ at step", driven.text("#set-told"))
    page.fill("#set-to", "99")
    page.click("#set")
    assert "steps from 1 to" in driven.text("#problem")


def test_events_are_judged_as_they_are_typed(driven):
    page = driven.page
    driven.drawn(lambda: page.click("#shipped"))
    driven.open("events")
    page.type("#event", "when lynx > 40")
    page.wait_for_selector("#event-told >> text=first time that lynx")
    assert page.locator("#event-chart .trace").count() >= 2
    page.fill("#event", "lynx < 10 within 20 steps")
    page.wait_for_selector("#event-told >> text=The chance that lynx")
    page.fill("#event", "wolf < 1")
    page.wait_for_selector("#event-told .problem")
    page.fill("#event", "")
    page.wait_for_selector("#event-told:empty", state="attached")


def test_what_is_taken_away(driven):
    page = driven.page
    driven.drawn(lambda: page.click("#shipped"))
    driven.open("take")
    page.wait_for_selector("#take-links a")
    for name in ("forecast.csv", "forecast.parquet", "paths.csv", "paths.parquet", "picture.png", "context.csv"):
        with page.expect_download() as waiting:
            page.click(f"#take-links >> text={name}")
        assert waiting.value.path().stat().st_size > 100
    assert "loracast forecast" in driven.text("#take-command")
    assert "from_pretrained" in driven.text("#take-python")
    driven.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("text=Copy the command")
    assert page.evaluate("navigator.clipboard.readText()") == driven.text("#take-command")


def test_tuning_is_watched_paused_and_judged(driven):
    page = driven.page
    driven.open("simulator", "tuning")
    page.fill("#steps-data", "40")
    driven.drawn(lambda: (page.fill("#count-data", "4"), page.press("#count-data", "Tab")))
    page.select_option("#tune-series", ["0", "1", "2"])
    page.fill("#budget", "4")
    page.fill("#rank", "4")
    page.click("#tune")
    page.click("#pause")
    page.wait_for_selector("#pause >> text=Go on")
    page.click("#pause")
    page.wait_for_selector("#tune-told >> text=/Step \\d+ of/")
    page.click("#end")
    page.wait_for_selector("#tune-told >> text=choose tuned-")
    assert page.locator("#loss-chart .trace").count() == 2
    assert "best-period" in driven.text("#verdict")
    page.wait_for_selector("#forecasters >> text=tuned-")
    page.select_option("#budget-unit", "flops")
    page.fill("#budget", "1e9")
    page.click("#tune")
    page.wait_for_selector("#tune:enabled")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_nothing_serious_stands_in_anybodys_way(browser, place, size, scheme, tmp_path):
    """axe-core on the whole page, all parts open; nothing is wider than the screen."""
    driven = Driven(browser, place, SIZES[size], scheme)
    page = driven.page
    driven.open("simulator", "what-if", "events", "tuning", "take")
    driven.drawn(lambda: page.click("#shipped"))
    page.fill("#event", "lynx < 10")
    page.wait_for_selector("#event-told >> text=The chance")
    page.click("#write")
    page.wait_for_selector("#text[data-done]")
    found = axe_core.Axe().run(page).response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert not serious, [(one["id"], [node["target"] for node in one["nodes"]]) for one in serious]
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
    page.screenshot(path=tmp_path / f"{size}-{scheme}.png", full_page=True)
    theme = page.get_attribute("html", "data-theme")
    assert theme == scheme
    page.click("#theme")
    assert page.get_attribute("html", "data-theme") != scheme
    driven.close()


def test_the_page_is_used_without_a_mouse(driven):
    """By Tab and Enter alone, from the top to a forecast."""
    page = driven.page
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "shipped":
            break
    driven.drawn(lambda: page.keyboard.press("Enter"))
    assert "91 years" in driven.text("#understood")
