"""The report of a study: what the page holds, that it needs nothing else, and that it survives what folders hold."""

import json
import shutil
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from matplotlib.image import imread

from loracast.baselines import BASELINES
from loracast.charts.drawing import to_matplotlib
from loracast.charts.marks import Axis, Figure, Line, Panel, log_ticks
from loracast.charts.palette import COLOURS
from loracast.errors import ConfigError, DataError
from loracast.report import build as report
from loracast.report.build import write_report
from loracast.report.reading import COLUMNS
from loracast.report.wording import decimals_text, duration, flops, listed, number, percent

FORECASTERS = {"zero-shot": 0.07, "tuned": 0.015, "last-value": 0.46, "context-mean": 0.33, "best-period": 0.21}
CONTEXT, HORIZON = 30, 20
EVERY_FIGURE = {"series", "dynamics", "baseline", "default", "search-error", "search-loss", "search-stopped", "context",
                "curves", "fans-1", "fans-2", "steps", "errors-distribution", "errors-boxes", "errors-sorted",
                "calibration", "pit", "flops"}  # fmt: skip


# -- a study that never ran -----------------------------------------------------------------------------------------


def write_study(directory: Path, variables: tuple[str, ...] = ("prey", "predator"), series: int = 24) -> Path:
    """Writes a folder such as a study leaves behind; the same arguments always write the same numbers."""
    random = np.random.default_rng(7)
    ids = [f"{index:03d}" for index in range(series)]
    subsets = {name: "train" if index < series // 2 else "validation" if index < 3 * series // 4 else "test"
               for index, name in enumerate(ids)}  # fmt: skip
    test = [name for name in ids if subsets[name] == "test"]
    (directory / "tables").mkdir(parents=True)
    _write_settings(directory, variables, series)
    _write_data(directory, variables, subsets, random)
    _write_tuning(directory, random)
    _write_test(directory, variables, test, random)
    _write_costs(directory)
    return directory


def write_table(directory: Path, name: str, rows: list[dict[str, Any]]) -> None:
    pd.DataFrame(rows).to_csv(directory / "tables" / f"{name}.csv", index=False)


def wave(name: str, variable: int, steps: np.ndarray) -> np.ndarray:
    return 2 + variable + 1.5 * np.sin(steps / (2 + int(name) % 5) - 0.9 * variable) * 0.995**steps


def _write_settings(directory: Path, variables: tuple[str, ...], series: int) -> None:
    settings = {
        "loracast": "0.1.0",
        "name": "laptop",
        "protocol": {"seed": 0, "search": {"learning_rates": [0.001, 0.003], "ranks": [4, 16]}, "context": CONTEXT},
        "model": {"source": "bundled", "fingerprint": "5f3a", "parameters": 5518336, "layers": 8, "hidden_size": 256,
                  "vocabulary": 19, "precision": "bfloat16"},
        "data": {"source": "data.h5", "fingerprint": "91bc", "series": series, "steps": CONTEXT + HORIZON,
                 "variables": list(variables)},
        "budget": 1e15,
        "convention": "executed",
        "seed": 0,
        "plan": [{"stage": "default", "runs": 1, "published": 1.2e14, "executed": 1.1e14}],
        "made": {"date": "2026-01-02T03:04:05Z", "hardware": "2 cores", "python": "3.11.7", "torch": "2.13.0",
                 "packages": {"numpy": "2.4.6"}},
    }  # fmt: skip
    (directory / "study.json").write_text(json.dumps(settings))


def _write_data(
    directory: Path, variables: tuple[str, ...], subsets: dict[str, str], random: np.random.Generator
) -> None:
    steps = np.arange(CONTEXT + HORIZON)
    write_table(directory, "data", [
        {"variable": name, "observed": 1200 - index, "missing": index, "minimum": 0.01, "mean": 2.0, "maximum": 4.5,
         "deviation": 1.1, "p99": 4.2} for index, name in enumerate(variables)
    ])  # fmt: skip
    kinds = random.choice(["oscillating", "damped", "collapsing"], len(subsets), p=[0.7, 0.2, 0.1])
    write_table(directory, "dynamics", [
        {"series": name, "subset": subset, "kind": kind, "period": "" if kind == "collapsing" else 10 + random.gamma(4),
         "lag": 3.0, "lag_share": random.normal(0.24, 0.03)}
        for (name, subset), kind in zip(subsets.items(), kinds)
    ])  # fmt: skip
    write_table(directory, "splits", [{"subset": subset, "series": name} for name, subset in subsets.items()])
    symbols = "246,999;" * CONTEXT
    write_table(directory, "examples", [
        {"series": "000", "subset": "train", "decimals": decimals, "text": symbols,
         "ids": " ".join(str(15 + ord(symbol) % 11) for symbol in symbols)} for decimals in (2, 3)
    ])  # fmt: skip
    write_table(directory, "example_values", [
        {"series": name, "subset": subsets[name], "step": step + 1, "time": 0.5 * step, "variable": variable,
         "value": "" if step == 9 else wave(name, index, steps)[step]}
        for name in list(subsets)[::3] for index, variable in enumerate(variables) for step in steps
    ])  # fmt: skip


def write_log(directory: Path, run: str, steps: int, start: float, end: float, random: np.random.Generator) -> None:
    folder = directory / "runs" / run
    folder.mkdir(parents=True)
    lines = []
    for step in range(steps + 1):
        loss = end + (start - end) * np.exp(-5 * step / steps)
        if step:
            noisy = None if step == 4 else loss + random.normal(0, 0.04)
            lines.append({"event": "train", "step": step, "steps": steps, "loss": noisy, "learning_rate": 0.003})
        if step % 5 == 0:
            lines.append({"event": "validation", "step": step, "loss": loss + 0.03 + 0.0008 * step})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _write_tuning(directory: Path, random: np.random.Generator) -> None:
    scores = {"crps": 0.05, "coverage_80": 0.71}
    cost = {"executed": 1.1e14, "published": 1.4e14, "seconds": 83.0}
    write_table(directory, "baseline", [
        {"forecaster": "zero-shot", "decimals": decimals, "constrained": constrained,
         "mae": 0.07 + 0.01 * (decimals == 2), "mae_median": 0.05, "mae_seed_units": 0.26, "mae_seed_units_median": 0.2,
         **scores,
         "valid_share": 1.0 if constrained else 0.93, "n_unscored": 0, "executed": 2e12, "published": 3e12}
        for decimals in (2, 3) for constrained in (True, False)
    ] + [{"forecaster": name, "mae": FORECASTERS[name], "crps": FORECASTERS[name]} for name in BASELINES])  # fmt: skip
    run = {"learning_rate": 0.003, "rank": 8, "targets": "all-linear", "decimals": 3, "steps": 60, "best_step": 50,
           "loss_untouched": 0.61, "loss_tuned": 0.31, "mae": 0.022, **scores, **cost}  # fmt: skip
    write_table(directory, "default", [{"run": "default", **run}])
    write_table(directory, "final", [{"run": "final", **run, "mae": 0.015, "steps": 120, "best_step": 100}])
    write_table(directory, "context", [
        {"run": f"context-{tokens}", "tokens": tokens, "window_steps": tokens // 8, "mae": 0.03 - tokens / 4e4,
         **scores, **cost, "executed": tokens * 3e11} for tokens in (200, 400)
    ])  # fmt: skip
    write_log(directory, "default", 60, 0.61, 0.31, random)
    write_log(directory, "final", 120, 0.61, 0.27, random)
    for tokens in (200, 400):
        write_log(directory, f"context-{tokens}", 60, 0.7, 0.3 + 20 / tokens, random)
    rows = []
    configurations = [(rate, rank, decimals) for decimals in (2, 3) for rate in (3e-4, 1e-3, 3e-3) for rank in (4, 16)]
    for method in ("grid", "halving"):
        for index, (rate, rank, decimals) in enumerate(configurations):
            pruned = method == "halving" and index % 4 != 3
            steps = 10 * (1 + index % 2) if pruned else 40
            nats = 1.2 + 0.3 * abs(np.log10(rate / 2e-3)) + 0.4 / rank + 0.2 * (decimals == 2) + pruned * 0.5
            name = f"{method}-{index:02d}"
            write_log(directory, name, steps, 0.61, 0.2 * nats, random)
            rows.append({"method": method, "run": name, "learning_rate": rate, "rank": rank, "decimals": decimals,
                         "steps": steps, "planned_steps": 40, "stopped": "pruned" if pruned else "", "nats": nats,
                         "mae": "" if pruned else 0.015 * nats**2, **cost, "executed": steps * 4e11})  # fmt: skip
    write_table(directory, "search", rows)
    write_table(directory, "search_methods", [
        {"method": method, "runs": 12, "pruned": 9 * (method == "halving"), "best_mae": 0.021, "learning_rate": 0.003,
         "rank": 16, "decimals": 3, "executed": 1.9e14 * share, "published": 2.2e14 * share, "share_of_grid": share}
        for method, share in (("grid", 1.0), ("halving", 0.44))
    ])  # fmt: skip


def _write_test(directory: Path, variables: tuple[str, ...], test: list[str], random: np.random.Generator) -> None:
    write_table(directory, "test", [
        {"forecaster": name, "variable": variable, "mae": error, "mse": error**2, "rmse": error, "r2": 1 - error,
         "crps": 0.7 * error, "coverage_80": "" if name in BASELINES else 0.72, "mae_seed_units": 4 * error,
         "mae_seed_units_median": 3 * error, "mae_median": 0.8 * error, "valid_share": 1.0, "n_unscored": 0,
         "n_series": len(test), "n_windows": len(test),
         "executed": 0 if name in BASELINES else 3.1e12, "published": 0 if name in BASELINES else 3.7e12}
        for variable in ("all", *variables) for name, error in FORECASTERS.items()
    ])  # fmt: skip
    write_table(directory, "test_series", [
        {"forecaster": name, "series": series, "variable": variable, "mae": error * random.lognormal(-0.3, 0.8),
         "crps": 0.7 * error, "mae_seed_units": 4 * error}
        for name, error in FORECASTERS.items() for series in test for variable in variables
    ])  # fmt: skip
    write_table(directory, "test_steps", [
        {"forecaster": name, "step": step, "variable": variable, "mae": error * (0.4 + step / HORIZON),
         "crps": 0.7 * error * (0.4 + step / HORIZON)}
        for name, error in FORECASTERS.items() for variable in variables for step in range(1, HORIZON + 1)
    ])  # fmt: skip
    models = {name: FORECASTERS[name] for name in ("zero-shot", "tuned")}
    levels = [round(0.05 * index, 2) for index in range(1, 20)]
    write_table(directory, "calibration", [
        {"forecaster": name, "variable": variable, "nominal": level,
         "coverage": level ** (1.1 if name == "tuned" else 1.5)}
        for name in models for variable in variables for level in levels
    ])  # fmt: skip
    write_table(directory, "pit", [
        {"forecaster": name, "variable": variable, "bin": (index + 0.5) / 10,
         "density": 1 + 6 * error * abs(index - 4.5) / 4.5}
        for name, error in models.items() for variable in variables for index in range(10)
    ])  # fmt: skip
    steps = np.arange(1, CONTEXT + HORIZON + 1)
    write_table(directory, "fan_values", [
        {"series": series, "variable": variable, "step": step, "part": "context" if step <= CONTEXT else "future",
         "value": wave(series, index, steps)[step - 1]}
        for series in test[:6] for index, variable in enumerate(variables) for step in steps
    ])  # fmt: skip
    spread = {"q10": -1.3, "q25": -0.7, "q50": 0.1, "q75": 0.7, "q90": 1.3}
    write_table(directory, "fans", [
        {"forecaster": name, "series": series, "variable": variable, "step": step,
         **{level: wave(series, index, steps)[step - 1] + width * 3 * error * (step - CONTEXT) ** 0.5
            for level, width in spread.items()}}
        for name, error in models.items() for series in test[:6] for index, variable in enumerate(variables)
        for step in steps[CONTEXT:]
    ])  # fmt: skip


def _write_costs(directory: Path) -> None:
    stages = {"baseline": 4e12, "default": 1.1e14, "search": 3e14, "context": 1.8e14, "final": 1.9e14, "test": 9e12}
    write_table(directory, "stages", [
        {"stage": stage, "runs": 3, "predicted_executed": 1.1 * cost, "predicted_published": 1.3 * cost,
         "executed": cost, "published": 1.2 * cost, "share": cost / 1e15, "seconds": cost / 1e12}
        for stage, cost in stages.items()
    ])  # fmt: skip
    write_table(directory, "flops", [
        {"stage": stage, "run": stage, "training": 0.8 * cost, "validation": 0.15 * cost, "forecasts": 0.05 * cost,
         "executed": cost, "published": 1.2 * cost, "share": cost / 1e15} for stage, cost in stages.items()
    ])  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study with its report. To be read only."""
    directory = write_study(tmp_path_factory.mktemp("study") / "laptop")
    assert write_report(directory) == directory / "report.html"
    return directory


# -- reading a page -------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What is in a page: its tags with their attributes, its headings, its visible text, and the JSON it carries."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.text = ""
        self.json: dict[str, Any] = {}
        self._open: tuple[str, dict[str, str | None]] = ("", {})
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = (tag, dict(attrs))
        self.tags.append(self._open)
        if tag in ("h1", "h2", "h3"):
            self.headings.append("")

    def handle_data(self, data: str) -> None:
        tag, attributes = self._open
        if tag == "script":
            if attributes.get("type") == "application/json":
                self.json[attributes["id"] or ""] = json.loads(data)
        elif tag != "style":
            self.text += data
            if tag in ("h1", "h2", "h3"):
                self.headings[-1] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == self._open[0]:
            self._open = ("", {})

    @property
    def figures(self) -> list[str]:
        return [attributes["data-name"] or "" for tag, attributes in self.tags if tag == "figure"]


def read_page(directory: Path) -> Page:
    return Page((directory / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(study: Path) -> Page:
    return read_page(study)


@pytest.fixture
def copy(study: Path, tmp_path: Path) -> Path:
    """The finished study's folder without its report. To be spoilt."""
    directory = tmp_path / "laptop"
    shutil.copytree(study, directory, ignore=shutil.ignore_patterns("report.html", "figures"))
    return directory


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the PNG files, which take most of the time."""
    monkeypatch.setattr(report, "write_png", lambda figure, path: None)


def edit_table(directory: Path, name: str, **columns: Any) -> None:
    path = directory / "tables" / f"{name}.csv"
    pd.read_csv(path, dtype=str, keep_default_na=False).assign(**columns).to_csv(path, index=False)


def traces(page: Page, figure: str, label: str) -> list[dict[str, Any]]:
    return [trace for panel in page.json["figures"][figure] for trace in panel["data"] if trace.get("name") == label]


# -- the whole page -------------------------------------------------------------------------------------------------


def test_the_page_asks_the_network_for_nothing(page: Page, study: Path):
    addresses = [value for _, attributes in page.tags for name, value in attributes.items()
                 if name in ("src", "href", "srcset", "poster", "action", "data")]  # fmt: skip
    assert addresses == ["data:,"]  # an empty icon, or browsers ask for one
    style = (study / "report.html").read_text(encoding="utf-8").split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_the_headline_says_what_was_found_and_what_it_cost(page: Page):
    assert (
        "On 6 test windows, the tuned model has a mean absolute error of 0.015, against 0.07 zero-shot (78.6% lower) "
        "and 0.21 for the best baseline, best-period." in page.text
    )
    assert "The study spent 7.93·10¹⁴ FLOPs, 79.3% of its budget of 10¹⁵ (executed convention)." in page.text
    assert "not finished" not in page.text


def test_a_tuning_that_did_not_help_is_called_so(copy: Path, no_pictures: None):
    edit_table(copy, "test", mae="0.07")
    write_report(copy)
    assert "Tuning did not help. On 6 test windows" in read_page(copy).text


def test_the_sections_follow_the_protocol(page: Page):
    sections = [heading for heading in page.headings if heading[0].isdigit()]
    assert [heading[:2] for heading in sections] == [f"{number}." for number in range(1, 10)]
    assert sections[0] == "1. The data"
    assert sections[-1] == "9. How it was made"


@pytest.mark.parametrize(
    "said",
    [
        "24 series of 50 steps with prey and predator, from data.h5. By subset: 12 train, 6 validation and 6 test.",
        "Of the untouched model's steps, 100% could be read as numbers with constrained sampling, and with free "
        "sampling 93% at 2 decimals and 93% at 3 decimals.",
        "The MAE on the validation windows is 0.022, untouched it was 0.07 (68.6% lower).",
        "Best by successive halving: learning rate 0.003, rank 16 and 3 decimals, with an MAE of 0.021, found for "
        "8.36·10¹³ FLOPs, 44% of the grid's.",
        "Windows of 400 tokens (50 steps) had the lowest MAE on the validation windows, 0.02.",
        "loracast study --rerun laptop -o laptop-again",
        "learning_rates:\n  - 0.001",
        " 2  4  6  ,  9  9  9  ;",
        "every exponential, root and the like as 10",
    ],
)
def test_the_page_says_in_words_what_the_tables_hold(page: Page, said: str):
    assert said in page.text


def test_a_rebuilt_report_has_the_same_bytes(study: Path, copy: Path):
    write_report(copy)
    files = ["report.html", *(f"figures/{path.name}" for path in (study / "figures").iterdir())]
    assert len(files) == 1 + len(EVERY_FIGURE)
    assert [name for name in files if (study / name).read_bytes() != (copy / name).read_bytes()] == []


# -- figures --------------------------------------------------------------------------------------------------------


def test_every_figure_is_on_the_page_and_beside_it(page: Page, study: Path):
    assert set(page.figures) == EVERY_FIGURE
    assert len(page.figures) == len(EVERY_FIGURE)
    assert set(page.json["figures"]) == EVERY_FIGURE
    assert {path.stem for path in (study / "figures").iterdir()} == EVERY_FIGURE
    for name in EVERY_FIGURE:
        picture = imread(study / "figures" / f"{name}.png")
        assert picture.shape[0] > 300
        assert picture.shape[1] > 600
        assert picture.std() > 0.05  # not a blank sheet


def test_plotly_accepts_every_panel_and_each_has_data(page: Page):
    for panels in page.json["figures"].values():
        for panel in panels:
            drawn = go.Figure(panel)
            assert len(drawn.data) > 0
            assert drawn.layout.yaxis.gridcolor


def test_there_is_a_place_on_the_page_for_every_panel(page: Page):
    places = [attributes["data-index"] for tag, attributes in page.tags if attributes.get("class") == "panel"]
    assert len(places) == sum(len(panels) for panels in page.json["figures"].values())


@pytest.mark.parametrize(
    ("figure", "label", "axis", "table", "column", "factor", "chosen"),
    [
        ("steps", "best-period", "y", "test_steps", "mae", 1, {"forecaster": "best-period", "variable": "prey"}),
        ("calibration", "tuned", "y", "calibration", "coverage", 100, {"forecaster": "tuned", "variable": "prey"}),
        ("pit", "zero-shot", "y", "pit", "density", 1, {"forecaster": "zero-shot", "variable": "prey"}),
        ("flops", "counted", "x", "stages", "executed", 1, {}),
        ("search-stopped", "planned", "x", "search", "planned_steps", 1, {"method": "halving"}),
        ("series", "predator", "y", "example_values", "value", 1, {"series": "000", "variable": "predator"}),
    ],
)
def test_figures_draw_what_the_tables_hold(
    page: Page, study: Path, figure: str, label: str, axis: str, table: str, column: str, factor: int, chosen: dict
):
    rows = pd.read_csv(study / "tables" / f"{table}.csv", dtype={"series": str})
    for name, value in chosen.items():
        rows = rows[rows[name] == value]
    expected = [None if np.isnan(value) else float(f"{factor * value:.6g}") for value in rows[column]]
    assert len(expected) > 5
    assert traces(page, figure, label)[0][axis] == expected


def test_both_drawings_have_the_same_colours(page: Page):
    (line,) = traces(page, "default", "training")[-1:]
    assert line["line"]["color"] == "rgba(213,94,0,1)"
    assert page.json["twins"]["213,94,0"] == "245,135,74"
    figure = Figure("one", "", "", "", (Panel("", Axis(), Axis(), (Line((0, 1), (0, 1), "zero-shot"),)),))
    assert to_matplotlib(figure).axes[0].lines[0].get_color() == "#d55e00"


@pytest.mark.parametrize("role", sorted(COLOURS.keys() - {"grid", "paper"}))
def test_colours_can_be_told_from_light_and_from_dark_paper(role: str):
    def luminance(colour: str) -> float:
        parts = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(np.dot((0.2126, 0.7152, 0.0722), linear))

    for colour, paper in zip(COLOURS[role], COLOURS["paper"]):
        darker, lighter = sorted((luminance(colour), luminance(paper)))
        assert (lighter + 0.05) / (darker + 0.05) > 3.5


def test_the_legend_names_what_others_are_compared_with_first():
    def panel(*marks: Line) -> Panel:
        return Panel("", Axis(), Axis(), marks)

    lines = [Line((0, 1), (0, 1), role, label) for role, label in (("tuned", "b"), ("ink", "c"), ("tuned", ""))]
    figure = Figure("one", "", "", "", (panel(lines[0]), panel(*lines), panel(replace(lines[0], width=3))))
    assert figure.keys() == {"c": (lines[1],), "b": (replace(lines[0], width=3),)}
    assert list(figure.keys()) == ["c", "b"]


def test_a_fan_begins_where_its_context_ends_and_its_title_has_its_error(page: Page):
    panel = page.json["figures"]["fans-1"][1]
    context, median, truth = (
        next(trace for trace in panel["data"] if trace["name"].startswith(name) and trace["line"]["width"] > 0)
        for name in ("context", "tuned", "what happened")
    )
    assert len(context["x"]) == CONTEXT
    assert median["x"][0] == truth["x"][0] == context["x"][-1] == CONTEXT
    assert median["y"][0] == truth["y"][0] == context["y"][-1]
    error = np.mean(np.abs(np.array(median["y"][1:]) - np.array(truth["y"][1:])))
    assert panel["layout"]["title"]["text"] == f"018 · tuned · MAE {error:.3g}"


def test_before_and_after_share_the_scale_of_a_window(page: Page):
    ranges = [panel["layout"]["yaxis"]["range"] for panel in page.json["figures"]["fans-2"]]
    assert len(ranges) == 12
    assert ranges[::2] == ranges[1::2]


def test_a_loss_that_was_not_finite_is_a_gap(page: Page):
    batches, mean = traces(page, "default", "training")
    assert batches["x"][3] == 4
    assert batches["y"][3] is None
    assert None not in batches["y"][:3]
    assert None not in mean["y"]


def test_heat_maps_say_where_runs_were_stopped(page: Page):
    panels = page.json["figures"]["search-error"]
    assert [panel["layout"]["title"]["text"] for panel in panels] == [
        "full grid, 2 decimals",
        "full grid, 3 decimals",
        "successive halving, 2 decimals",
        "successive halving, 3 decimals",
    ]
    notes = [[note["text"] for note in panel["layout"]["annotations"]] for panel in panels]
    assert [sum(text.startswith("× ") for text in texts) for texts in notes] == [0, 0, 5, 4]


def test_both_methods_have_the_same_colours_at_the_same_decimals(page: Page):
    ranges = [(panel["data"][0]["zmin"], panel["data"][0]["zmax"]) for panel in page.json["figures"]["search-loss"]]
    assert ranges[:2] == ranges[2:]
    assert ranges[0] != ranges[1]


def test_colours_of_a_wide_range_are_logarithmic_unless_it_holds_negative_values(copy: Path, no_pictures: None):
    def zmax(**columns: Any) -> float:
        edit_table(copy, "search", **columns)
        write_report(copy)
        return read_page(copy).json["figures"]["search-loss"][0]["data"][0]["zmax"]

    rows = pd.read_csv(copy / "tables" / "search.csv")
    highest = rows.loc[rows["decimals"] == 2, "nats"].max()
    assert zmax() == pytest.approx(highest)
    assert zmax(nats=rows["nats"] ** 4) == pytest.approx(4 * np.log10(highest))
    assert zmax(nats=rows["nats"] ** 4 - 5) == pytest.approx(highest**4 - 5)


def test_a_search_of_one_run_has_colours(copy: Path, no_pictures: None):
    rows = pd.read_csv(copy / "tables" / "search.csv")
    rows.head(1).to_csv(copy / "tables" / "search.csv", index=False)
    write_report(copy)
    (panel,) = read_page(copy).json["figures"]["search-loss"]
    assert panel["data"][0]["zmin"] < panel["data"][0]["z"][0][0] < panel["data"][0]["zmax"]


def test_variables_of_different_size_are_drawn_relative_to_their_own(copy: Path, no_pictures: None):
    rows = pd.read_csv(copy / "tables" / "example_values.csv")
    edit_table(copy, "example_values", value=rows["value"].where(rows["variable"] == "prey", 1000 * rows["value"]))
    write_report(copy)
    page = read_page(copy)
    highest = [max(filter(None, traces(page, "series", name)[0]["y"])) for name in ("prey", "predator")]
    assert highest == pytest.approx([1, 1], abs=0.1)
    assert "Each variable is divided by the 99th percentile" in page.text


def test_errors_of_zero_are_drawn_at_the_edge_of_a_logarithmic_axis(copy: Path, no_pictures: None):
    errors = pd.read_csv(copy / "tables" / "test_series.csv")["mae"]
    edit_table(copy, "test_series", mae=[0.0, *errors[1:]])
    write_report(copy)
    page = read_page(copy)
    lowest = min(traces(page, "errors-distribution", "zero-shot")[0]["x"])
    assert lowest == pytest.approx(1e-5 * errors.max(), rel=0.9)
    assert "Errors below 1/100,000 of the largest are drawn at that." in page.text


@pytest.mark.parametrize(
    ("low", "high"), [(0.003, 2.0), (6e13, 1.2e14), (1.0, 1e12), (0.31, 0.33), (1e-9, 5e-9), (1, 1.02)]
)
def test_a_logarithmic_axis_has_a_few_round_ticks_within_it(low: float, high: float):
    places, texts = log_ticks(low, high)
    assert 2 <= len(places) <= 7
    assert all(low <= place <= high for place in places)
    assert len(set(texts)) == len(texts)


# -- other studies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variables", [("only",), ("x", "y", "z")])
def test_studies_of_one_and_of_three_variables_have_all_their_figures(
    tmp_path: Path, no_pictures: None, variables: tuple[str, ...]
):
    directory = write_study(tmp_path / "study", variables)
    write_report(directory)
    page = read_page(directory)
    fans = {f"fans-{index + 1}" for index in range(len(variables))}
    assert set(page.figures) == {name for name in EVERY_FIGURE if not name.startswith("fans")} | fans
    assert len(page.json["figures"]["errors-boxes"]) == len(variables)
    assert len(page.json["figures"]["dynamics"]) == (2 if len(variables) == 1 else 3)


def test_an_only_series_cut_in_three_has_a_report(tmp_path: Path, no_pictures: None):
    directory = write_study(tmp_path / "study", series=4)
    for name in ("dynamics", "test_series"):
        path = directory / "tables" / f"{name}.csv"
        rows = pd.read_csv(path, dtype={"series": str})
        rows[rows["series"] == "003"].to_csv(path, index=False)
    write_report(directory)
    assert traces(read_page(directory), "errors-distribution", "tuned")[0]["y"] == [0, 100]


def test_a_study_that_is_not_finished_leaves_out_what_is_to_come(copy: Path, no_pictures: None):
    for name in ("final", "context", "test", "test_series", "test_steps", "calibration", "pit", "fans", "fan_values"):
        (copy / "tables" / f"{name}.csv").unlink()
    write_report(copy)
    page = read_page(copy)
    assert "The test of this study is still to come." in page.text
    assert (
        "This study is not finished. Still to come: 5. The length of the context; 6. The final model; 7. The test."
        in page.text
    )
    assert [heading for heading in page.headings if heading[0] in "5678"] == ["8. What it cost"]
    assert set(page.figures) == {"series", "dynamics", "baseline", "default", "search-error", "search-loss",
                                 "search-stopped", "flops"}  # fmt: skip


def test_a_stage_that_the_protocol_leaves_out_is_not_to_come(copy: Path, no_pictures: None, edit_json: Any):
    (copy / "tables" / "context.csv").write_text("\n")  # as pandas writes a table without rows and columns
    edit_json(copy / "study.json", plan=[{"stage": "context", "runs": 0, "published": 0, "executed": 0}])
    write_report(copy)
    page = read_page(copy)
    assert "not finished" not in page.text
    assert "context" not in page.figures


@pytest.mark.parametrize("table", sorted(COLUMNS))
def test_any_table_may_be_missing(copy: Path, no_pictures: None, table: str):
    (copy / "tables" / f"{table}.csv").unlink()
    write_report(copy)
    assert len(read_page(copy).figures) >= 10


def test_a_folder_with_nothing_but_its_settings_has_a_report(copy: Path):
    shutil.rmtree(copy / "tables")
    shutil.rmtree(copy / "runs")
    write_report(copy)
    page = read_page(copy)
    assert page.figures == []
    assert "9. How it was made" in page.headings


def test_figures_that_no_table_has_are_dashes_and_gaps(copy: Path):
    """Nothing could be scored: every error is empty."""
    for name, needed in COLUMNS.items():
        empty = {column: "" for column in ("mae", "crps", "nats", "period", "lag_share", "coverage", "best_mae", "q50")
                 if column in needed.split()}  # fmt: skip
        edit_table(copy, name, **empty)
    write_report(copy)
    page = read_page(copy)
    assert "the tuned model has a mean absolute error of –" in page.text
    assert "nan" not in page.text.lower().replace("nans", "")
    assert all(note is None for note in traces(page, "steps", "tuned")[0]["y"])


def test_whatever_series_and_variables_are_called_is_only_text(tmp_path: Path, edit_json: Any):
    variables = ("<b>prey</b>", "$\\frac{&\"'")
    directory = write_study(tmp_path / "a b", variables)
    hostile = "</script><script>alert(1)</script>"
    edit_json(directory / "study.json", name=hostile)
    for table in ("example_values", "examples", "fans", "fan_values", "test_series", "dynamics"):
        rows = pd.read_csv(directory / "tables" / f"{table}.csv", dtype=str)["series"]
        edit_table(directory, table, series=rows.replace({"000": hostile, "018": "NA", "019": "nan"}))
    write_report(directory)
    page = read_page(directory)
    assert sum(tag == "script" for tag, _ in page.tags) == 4
    assert not any(tag == "b" and attributes for tag, attributes in page.tags)
    assert page.headings[0] == f"Study {hostile}"
    assert f"Series {hostile} (train)" in page.text
    assert "Variable <b>prey</b>" in page.headings
    assert [line["name"] for line in page.json["figures"]["series"][0]["data"]] == [
        "&lt;b&gt;prey&lt;/b&gt;",
        "&#36;\\frac{&amp;&quot;&#x27;",
    ]
    names = traces(page, "errors-sorted", "tuned")[0]["text"]
    assert {"NA", "nan"} <= set(names)
    assert "loracast study --rerun 'a b' -o 'a b-again'" in page.text
    assert (directory / "figures" / "fans-2.png").is_file()


# -- errors ---------------------------------------------------------------------------------------------------------


def test_a_folder_that_holds_no_study_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"study\.json: not found; give the folder of a study"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is not JSON"), ("{}", "has no name, protocol"), ("[]", "has no name, protocol")]
)
def test_settings_that_cannot_be_read_are_refused(copy: Path, text: str, message: str):
    (copy / "study.json").write_text(text)
    with pytest.raises(DataError, match=rf"study\.json: {message}.*run the study again"):
        write_report(copy)


def test_a_table_without_a_column_it_needs_is_refused(copy: Path):
    write_table(copy, "pit", [{"forecaster": "tuned", "variable": "prey", "bin": 0.5}])
    with pytest.raises(DataError, match=r"pit\.csv: has no column density; delete it"):
        write_report(copy)


def test_a_cell_that_is_no_number_is_named(copy: Path):
    edit_table(copy, "context", mae=["0.1", "much"])
    with pytest.raises(DataError, match=r"context\.csv, line 3: mae is not a number: 'much'"):
        write_report(copy)


def test_a_log_that_is_being_written_is_read_as_far_as_it_goes(copy: Path, no_pictures: None):
    log = copy / "runs" / "default" / "metrics.jsonl"
    log.write_text(log.read_text() + '{"event": "tra')
    write_report(copy)
    log.write_text("{\n" + log.read_text())
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 1: is not JSON"):
        write_report(copy)


def test_steps_that_a_resumed_run_logged_again_count_once(copy: Path, no_pictures: None):
    log = copy / "runs" / "default" / "metrics.jsonl"
    again = json.dumps({"event": "validation", "step": 60, "loss": 0.123})
    log.write_text(log.read_text() + again + "\n")
    write_report(copy)
    line = next(trace for trace in traces(read_page(copy), "default", "validation") if len(trace["x"]) > 1)
    assert line["x"][-2:] == [55, 60]
    assert line["y"][-1] == 0.123


def test_without_plotly_it_says_what_to_install(copy: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ConfigError, match=r"pip install 'loracast\[study\]'"):
        write_report(copy)


# -- wording --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (number(0.042713), "0.04271"),
        (number(1234567), "1,234,567"),
        (number(-0.5), "−0.5"),
        (number(0.0), "0"),
        (number(2.34e-7), "2.34·10⁻⁷"),
        (number(float("nan")), "–"),
        (flops(1.2345e14), "1.23·10¹⁴"),
        (flops(1e17), "10¹⁷"),
        (flops(9.999e14), "10¹⁵"),
        (flops(0), "0"),
        (percent(0.7189), "71.9%"),
        (duration(12.34), "12.3 s"),
        (duration(200), "3 min 20 s"),
        (duration(7503), "2 h 5 min"),
        (duration(float("nan")), "–"),
        (decimals_text(1.0), "1 decimal"),
        (decimals_text(3.0), "3 decimals"),
        (listed(["a"]), "a"),
        (listed(["a", "b", "c"]), "a, b and c"),
    ],
)
def test_numbers_are_written_for_readers(text: str, expected: str):
    assert text == expected
