"""`loracast forecast`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from loracast.cli.options import Data, DataOptions, Model, ModelOptions, Output
from loracast.settings import SampleConfig


def forecast(
    data: Path,
    /,
    *,
    horizon: int,
    output: Output,
    adapter: Path | None = None,
    context: int | None = None,
    sample: Annotated[SampleConfig, Parameter(name="*")] = SampleConfig(),
    model: Model = ModelOptions(),
    columns: Data = DataOptions(),
    event: tuple[str, ...] = (),
    set_: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    paths: Path | None = None,
    plot: Path | None = None,
) -> None:
    """Draw sample paths of what follows each series of a file.

    Parameters
    ----------
    data
        Series to continue: .h5, .csv or .parquet.
    horizon
        Steps to forecast.
    output
        File for mean, median and quantiles: .parquet or .csv.
    adapter
        A tuned adapter's folder; the untouched model forecasts unless given.
    context
        Steps that are read of each series; what the adapter was tuned on unless given.
    event
        What to give the probability of, such as "predator < 0.1" (at any step). May be given several times.
    set_
        What if: a value of the future, such as "predator = 0.5 from 2027 to 2030", "… at 2027" or "… from step 5". The
        other paths follow. May be given several times.
    paths
        File for the sample paths themselves: .parquet or .csv.
    plot
        Picture of the first series: .png, .pdf or .svg.
    """
    from loracast.cli.console import say, shown_warnings
    from loracast.files import atomic_path, check_file
    from loracast.forecast import FRAMES, PICTURES, read_event, write_frame
    from loracast.forecaster import Forecaster
    from loracast.scenario import set_values, split_known

    for path, suffixes in ((output, FRAMES), (paths, FRAMES), (plot, PICTURES)):
        if path:
            check_file(path, suffixes)
    series = columns.read(data)
    for text in event:
        read_event(text, series[0].names)
    series, known = split_known(series)
    known = set_values(set_, series, horizon, known) if set_ else known
    forecaster = Forecaster.from_pretrained(model.model, adapter, device=model.device, precision=model.precision)
    name = "tuned" if adapter else "zero-shot"
    with shown_warnings():
        result = forecaster.predict(series, horizon, sample=sample, context=context, known=known, progress=True)
    chances = {text: result.probability(text) for text in event}
    write_frame(result.to_frame(), output)
    spent = f"{result.flops.hardware:.3e} FLOPs (hardware), {result.flops.course:.3e} (course)"
    say(f"{len(series)} series, {horizon} steps, {sample.samples} paths each ({name}), {spent} → {output}")
    for sentence in result.conditional:
        say(sentence)
    if paths:
        write_frame(result.paths_frame(), paths)
        say(f"sample paths → {paths}")
    if plot:
        with atomic_path(plot) as temporary:
            result.plot().savefig(temporary, dpi=150)
        say(f"picture → {plot}")
    for text, chance in chances.items():
        for one, share in list(zip(series, chance))[:10]:
            say(f"P({text}) for series {one.id}: {share:.2f}")
        if len(series) > 10:
            say(f"P({text}) over all {len(series)} series: mean {chance.mean():.2f}")
    if result.saturated:
        say(
            f"{result.saturated} values that were read or set lay beyond the codec's range and were written as its edge"
        )
