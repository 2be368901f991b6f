"""The explorer's times, and the pictures of docs/app.md, from the page in Chromium on the machine that computes.

python benchmarks/explorer.py --pictures docs/figures
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright

from loracast.compute.device import choose_device, describe_hardware

HERE = Path(__file__).parent
PORT = 8198
MOVES, MOVE_MS = 24, 250  # of the origin's slider


class Clock:
    """Waits for forecasts of the page and tells how long they took."""

    def __init__(self, page: Page):
        self.page = page

    def drawn(self, act: Callable[[], Any]) -> float:
        """Seconds from an act until all paths of the forecast that follows are on the screen."""
        before = self.page.get_attribute("body", "data-drawn") or "0"
        begin = time.monotonic()
        act()
        self.page.wait_for_selector(f"body[data-drawn]:not([data-drawn='{before}'])", timeout=120_000)
        return time.monotonic() - begin

    def changes(self, seconds: float) -> list[float]:
        """The times between two changes of the fan's lines, in milliseconds, over so many seconds."""
        watch = """(seconds) => new Promise((done) => {
            const times = [], fan = document.getElementById("fan");
            const watcher = new MutationObserver(() => times.push(performance.now()));
            watcher.observe(fan, { subtree: true, attributes: true, attributeFilter: ["d"], childList: true });
            setTimeout(() => { watcher.disconnect(); done(times); }, 1000 * seconds);
        })"""
        times = np.array(self.page.evaluate(watch, seconds))
        gaps = np.diff(times)
        return gaps[gaps > 20].tolist()  # changes of one picture belong together


def begin(command: list[str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def simulate(page: Page, clock: Clock, series: int) -> None:
    page.locator("details#simulator > summary").click()
    page.fill("#steps-data", "80")
    clock.drawn(lambda: (page.fill("#count-data", str(series)), page.press("#count-data", "Tab")))


def dragging(page: Page) -> list[float]:
    """Milliseconds between two changes of the picture while the origin is moved all the time."""
    page.evaluate(
        """([moves, pause]) => { const origin = document.getElementById("origin"); let left = moves;
        const move = () => { origin.value = +origin.value - 1; origin.dispatchEvent(new Event("input"));
        if (--left) setTimeout(move, pause); }; move(); }""",
        [MOVES, MOVE_MS],
    )
    return Clock(page).changes(MOVES * MOVE_MS / 1000)


def tune(page: Page, seconds: int) -> dict[str, Any]:
    """A tuning of so many seconds in the page: how long it took, and what it says of itself."""
    page.locator("details#tuning > summary").click()
    page.fill("#budget", str(seconds))
    started = time.monotonic()
    page.click("#tune")
    page.wait_for_selector("#tune-told >> text=/Step \\d+ of/", timeout=120_000)
    page.wait_for_selector("#tune-told >> text=choose tuned-", timeout=600_000)
    took = time.monotonic() - started
    return {"budget": seconds, "took": round(took, 1), "verdict": page.inner_text("#verdict")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=Path, help="folder for pictures of the page")
    parser.add_argument("--tune", type=int, default=60, help="seconds of a tuning; 0 for none")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "explorer.json")
    arguments = parser.parse_args()
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    process = begin([sys.executable, "-m", "loracast", "app", "--no-browser", "--port", str(PORT)])
    result: dict[str, Any] = {"hardware": describe_hardware(choose_device("cpu"))}

    def picture(page: Page, name: str) -> None:
        if arguments.pictures:
            page.evaluate("document.querySelector('.pictures').scrollTop = 0")
            page.wait_for_timeout(700)
            page.screenshot(path=arguments.pictures / f"explorer-{name}.png")

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(args=["--no-sandbox"], executable_path=found)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(f"http://127.0.0.1:{PORT}")
        page.wait_for_selector("body[data-ready]")
        clock = Clock(page)
        result["first forecast, s"] = round(clock.drawn(lambda: page.click("#shipped")), 2)
        again = [clock.drawn(lambda s=s: (page.fill("#seed", s), page.press("#seed", "Tab"))) for s in "1230"]
        result["the same with another seed, s"] = [round(one, 2) for one in again]
        page.click("#write")
        page.wait_for_selector("#text[data-done]", timeout=60_000)
        picture(page, "forecast")
        gaps = dragging(page)
        result["between two changes while dragging, ms: median, 90%"] = [
            round(float(np.quantile(gaps, q))) for q in (0.5, 0.9)
        ]
        page.wait_for_timeout(9000)
        page.locator("details#what-if > summary").click()
        page.select_option("#set-variable", "lynx")
        for name, value in (("value", "5"), ("from", "1"), ("to", "8")):
            page.fill(f"#set-{name}", value)
        clock.drawn(lambda: page.click("#set"))
        page.locator("details#events > summary").click()
        page.fill("#event", "when hare > 60")
        page.wait_for_selector("#event-told >> text=first time")
        page.locator("#event-chart").scroll_into_view_if_needed()
        picture(page, "what-if")
        page.click("#theme")
        page.set_viewport_size({"width": 390, "height": 844})
        page.evaluate("scrollTo(0, 0)")
        picture(page, "phone")
        page.set_viewport_size({"width": 1440, "height": 900})
        if arguments.tune:
            page.goto(f"http://127.0.0.1:{PORT}")
            page.wait_for_selector("body[data-ready]")
            simulate(page, clock, 12)
            result["tuning"] = tune(page, arguments.tune)
            page.wait_for_timeout(15_000)
            page.locator("#verdict").scroll_into_view_if_needed()
            picture(page, "tuned")
        browser.close()
    process.terminate()
    process.wait()
    print(json.dumps(result, indent=1))
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
