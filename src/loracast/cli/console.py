"""What commands print with: lines, tables and the one place where warnings become visible."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loracast.errors import told_warnings

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
    with told_warnings() as told:
        yield
    for warning in told:
        complain("warning", warning)


def show_scores(result: Backtest) -> None:
    """Prints the scores of a backtest, a row a forecaster and variable; errors are means over series."""
    from loracast.evaluation.metric_list import METRICS, explanation

    shown = [one for one in METRICS if one.console]
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("forecaster", "variable", *(one.title for one in shown)):
        table.add_column(title, justify="left" if title in ("forecaster", "variable") else "right", no_wrap=True)
    before = None
    for row in result.table().to_dict("records"):
        name = row["forecaster"]
        cells = [_share(row[one.name]) if one.unit == "share" else significant(row[one.name]) for one in shown]
        style = "bold" if name == "tuned" else None
        table.add_row(escape(name) if name != before else "", escape(row["variable"]), *cells, style=style)
        before = name
    wide(table)
    say(explanation())


def wide(table: Table) -> None:
    """Prints a table without cutting a cell, however narrow the terminal or pipe is."""
    Console(file=out.file, width=10_000, force_terminal=out.is_terminal, highlight=False).print(table)


def significant(value: float | None, digits: int = 4) -> str:
    """A number with so many significant digits, a dash where there is none."""
    if value is None or value != value:
        return "–"
    if value == 0 or 10**-4 <= abs(value) < 10**7:
        from math import floor, log10

        places = max(0, digits - 1 - floor(log10(abs(value)))) if value else 0
        return f"{value:,.{places}f}"
    return f"{value:.{digits - 1}e}"


def _share(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.1%}"


def plan_table(plan: list[dict[str, Any]], budget: float, convention: str) -> Table:
    """What the stages of a study cost at most, in both conventions, and their shares of the budget in its own."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("stage, at most", "runs", "executed", "published", "of the budget"):
        table.add_column(title, justify="left" if "stage" in title else "right")
    total: dict[str, Any] = {name: sum(stage[name] for stage in plan) for name in ("runs", "executed", "published")}
    total["stage"] = "total"
    for stage in (*plan, total):
        share = stage[convention] / budget
        cells = [f"{stage['runs']}", f"{stage['executed']:.3e}", f"{stage['published']:.3e}", f"{share:.2%}"]
        style = "bold" if stage is total else None
        table.add_row(stage["stage"], *(cells if stage["runs"] else ["–"] * len(cells)), style=style)
    table.caption = f"budget {budget:.3e} FLOPs, {convention} convention; the final run may take what the search saves"
    return table
