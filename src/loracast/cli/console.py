"""What commands print with: lines, tables and the one place where warnings become visible."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from loracast.evaluation.backtest import Backtest

out = Console(highlight=False, emoji=False)
errors = Console(stderr=True, highlight=False, emoji=False)


def say(text: str) -> None:
    """Prints a result as it is: paths and names may hold brackets, and a line may be wider than a pipe's 80 columns."""
    out.print(text, markup=False, soft_wrap=True)


def note(text: str) -> None:
    """Prints something that a user should know, and that is no problem."""
    errors.print(f"[bold]note:[/] {escape(text)}", soft_wrap=True)


def complain(kind: str, message: object) -> None:
    """Prints a problem, after a bold word that says which kind it is."""
    errors.print(f"[bold red]{kind}:[/] {escape(str(message))}", soft_wrap=True)


@contextmanager
def shown_warnings() -> Iterator[None]:
    """Prints warnings of the block in bold, where they cannot be missed, after it has ended."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            complain("warning", warning.message)


def score_table(result: Backtest) -> Table:
    """The scores of a backtest, a row a forecaster; errors are means over series."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("forecaster", "MAE", "seed units", "RMSE", "R²", "CRPS", "80% coverage", "median MAE"):
        table.add_column(title, justify="left" if title == "forecaster" else "right", no_wrap=title == "forecaster")
    keys = ("mae", "mae_seed_units", "rmse", "r2", "crps", "coverage_80", "mae_median")
    for row in result.rows:
        style = "bold" if row["forecaster"] == "tuned" else None
        cells = [
            "–" if row[key] is None else f"{row[key]:.1%}" if "cover" in key else f"{row[key]:.4f}" for key in keys
        ]
        table.add_row(row["forecaster"], *cells, style=style)
    return table


def plan_table(plan: list[dict[str, Any]], budget: float, convention: str) -> Table:
    """What the stages of a study cost at most, in both conventions, and their shares of the budget in its own."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("stage, at most", "runs", "hardware", "course", "of the budget"):
        table.add_column(title, justify="left" if "stage" in title else "right")
    total: dict[str, Any] = {name: sum(stage[name] for stage in plan) for name in ("runs", "hardware", "course")}
    total["stage"] = "total"
    for stage in (*plan, total):
        share = stage[convention] / budget
        cells = [f"{stage['runs']}", f"{stage['hardware']:.3e}", f"{stage['course']:.3e}", f"{share:.2%}"]
        style = "bold" if stage is total else None
        table.add_row(stage["stage"], *(cells if stage["runs"] else ["–"] * len(cells)), style=style)
    table.caption = f"budget {budget:.3e} FLOPs, {convention} convention; the final run may take what the search saves"
    return table
