"""`loracast forecast`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from loracast.cli.options import Data, DataOptions, Model, ModelOptions, Output
from loracast.settings import SampleConfig

if TYPE_CHECKING:
    from loracast.events import Outcome
    from loracast.forecast import Forecast

SHOWN_SERIES, SHOWN_STEPS, SHOWN_EVENTS = 3, 10, 10


def forecast(
    data: Path,
    /,
    *,
    horizon: int,
    output: Output,
    adapter: str | None = None,
    context: int | None = None,
    sample: Annotated[SampleConfig, Parameter(name="*")] = SampleConfig(),
    model: Model = ModelOptions(),
    columns: Data = DataOptions(),
    event: tuple[str, ...] = (),
    set_: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    paths: Path | None = None,
    plot: Annotated[Path | None, Parameter(negative_bool=())] = None,
    no_plot: bool = False,
    raw: bool = False,
    verbose: bool = False,
) -> None:
    """Forecast what follows each series of a table: a table of the forecast, a picture, and the chances of events.

    Parameters
    ----------
    data
        Series to continue: .csv, .tsv, .xlsx, .parquet or .h5.
    horizon
        Steps to forecast.
    output
        File for the forecast, with mean, median and quantiles: .parquet or .csv.
    adapter
        A tuned adapter's folder, or a repository of the hub; the untouched model forecasts unless given.
    context
        Steps that are read of each series; what the adapter was tuned on unless given.
    event
        What to give the chance of, such as "predator < 0.1 within 20 steps", "when predator < 0.1" for the first time,
        or "highest prey"; docs/events.md has all forms. May be given several times. Kept in OUTPUT.events.csv.
    set_
        What if: a value of the future, such as "predator = 0.5 from 2027 to 2030", "… at 2027" or "… from step 5". The
        other paths follow. May be given several times.
    paths
        File for the sample paths themselves: .parquet or .csv.
    plot
        Picture: .png, .pdf or .svg; beside OUTPUT unless given.
    no_plot
        Draw no picture.
    raw
        Leave the paths as they are drawn, also where the adapter's record says how wide they ought to be.
    verbose
        Tell the FLOPs, too.
    """
    from loracast.cli.console import note, say, shown_warnings
    from loracast.event_figure import draw_events
    from loracast.events import frame, read_event
    from loracast.files import atomic_path, check_distinct, check_file
    from loracast.forecast import FRAMES, PICTURES, write_frame
    from loracast.forecaster import Forecaster
    from loracast.scenario import set_values, split_known
    from loracast.series.types import listed

    picture = None if no_plot else plot or output.with_suffix(".png")
    for path, suffixes in ((output, FRAMES), (paths, FRAMES), (picture, PICTURES)):
        if path:
            check_file(path, suffixes)
    chances = output.with_suffix(".events.csv") if event else None
    check_distinct([data], [output, paths, picture, chances])
    read = columns.read(data)
    series, known = split_known(read)
    ended = [whole for whole, part in zip(read, series) if part.steps < whole.steps]
    if ended and known is None:
        note(f"{listed([one.id for one in ended])}: the last rows hold no value, and are forecast")
    for text in event:
        read_event(text, series[0].targets)
    known = set_values(set_, series, horizon, known) if set_ else known
    forecaster = Forecaster.from_pretrained(model.model, adapter, **model.where())
    with shown_warnings():
        result = forecaster.predict(
            series, horizon, sample=sample, context=context, known=known, raw=raw, progress=True
        )
    found = result.events(event)

    write_frame(result.to_frame(), output)
    _show_forecast(result)
    if result.widths:
        say(f"{result.widths.sentence()}; --raw leaves them as drawn")
    for sentence in result.scales:
        say(f"{sentence}, by which the model forecasts its end best; --transform none leaves series as they are")
    if whole := [name for column, name in enumerate(result.names) if result.whole[:, column].all()]:
        say(f"{listed(whole)}: whole numbers, as in the table")
    for sentence in result.conditional:
        say(sentence)
    _show_events(found)
    if result.saturated:
        note(
            f"{result.saturated} values that were read or set lay beyond the codec's range and were written as its edge"
        )
    which = "tuned" if adapter else "untouched"
    say(f"forecast of {len(series)} series by the {which} model, {sample.samples} paths each → {output}")
    if chances:
        write_frame(frame(found), chances)
        say(f"events → {chances}")
    if paths:
        write_frame(result.paths_frame(), paths)
        say(f"sample paths → {paths}")
    if picture:
        with atomic_path(picture) as temporary:
            figure = draw_events(result, found) if event else result.plot()
            figure.savefig(temporary, dpi=150)
        say(f"picture → {picture}")
    if verbose:
        say(f"{result.flops.executed:.3e} FLOPs (executed), {result.flops.published:.3e} (published)")


def _show_forecast(result: Forecast) -> None:
    """Prints some rows of the forecast: time, and of each variable the median and the range of 80% of the paths."""
    import numpy as np
    from rich.markup import escape
    from rich.table import Table

    from loracast.cli.console import say, significant, wide

    levels = result.quantiles([0.1, 0.5, 0.9])  # [N, 3, H, D]
    horizon = levels.shape[2]
    steps = np.unique(np.linspace(0, horizon - 1, min(SHOWN_STEPS, horizon)).round().astype(int))
    for row, name in enumerate(result.ids[:SHOWN_SERIES]):
        times, calendar = result.time[row], result.contexts[row].calendar
        dated = times is not None and calendar is not None
        texts = calendar.texts(times) if dated else [str(step + 1) for step in range(horizon)]  # type: ignore[union-attr]
        table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 3, 0, 0))
        table.add_column("time" if dated else "step")
        for variable in result.names:
            table.add_column(escape(variable), justify="right")
            table.add_column("80% range", justify="left")
        for step in steps:
            cells = []
            for column in range(len(result.names)):
                low, middle, high = (significant(value) for value in levels[row, :, step, column])
                cells += [middle, f"{low} to {high}"]
            table.add_row(texts[step], *cells)
        if len(result.ids) > 1:
            say(f"series {name}: median and the range of 80% of the paths")
        wide(table)
    rest = [] if len(steps) == horizon else [f"{len(steps)} of {horizon} steps shown"]
    rest += [f"{SHOWN_SERIES} of {len(result.ids)} series shown"] if len(result.ids) > SHOWN_SERIES else []
    if rest:
        say(f"{' and '.join(rest)}; all are in the file")


def _show_events(found: list[Outcome]) -> None:
    """Prints what becomes of each event: all series, or the likeliest where there are many."""
    from loracast.cli.console import say

    for event in dict.fromkeys(one.event for one in found):
        mine = [one for one in found if one.event == event]
        likeliest = sorted(mine, key=lambda one: -one.probability)[:SHOWN_EVENTS] if len(mine) > SHOWN_EVENTS else mine
        for one in likeliest:
            say(one.sentence)
        if len(mine) > len(likeliest):
            say(f"… and {len(mine) - len(likeliest)} more series, less likely; all are in the file of events")
