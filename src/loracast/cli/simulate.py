"""`loracast simulate`."""

from __future__ import annotations

from loracast.cli.options import Output


def simulate(
    system: str,
    /,
    *,
    output: Output,
    n: int = 100,
    seed: int = 0,
    steps: int | None = None,
    duration: float | None = None,
    noise: float = 0.0,
    process_noise: float = 0.0,
    individuals: float | None = None,
) -> None:
    """Simulate series of a system into a file.

    Parameters
    ----------
    system
        predator-prey (Rosenzweig–MacArthur), lotka-volterra, or another registered system.
    output
        File to write: .h5, .csv or .parquet.
    n
        Number of series, each with its own parameters and start.
    seed
        Seed; the first series are the same for any number of them.
    steps
        Observations a series; the system's own unless given.
    duration
        Time from the first to the last observation; the system's own unless given.
    noise
        Deviation of multiplicative log-normal observation noise.
    process_noise
        Deviation, over a step, of the random factors that disturb the system itself, so that its future is another one.
    individuals
        So many individuals are one unit of the system; single ones are born and die at random, and counts are written.
    """
    from loracast.cli.console import say
    from loracast.series import check_series_path, write_series
    from loracast.systems import simulate as run

    check_series_path(output)
    series = run(
        system,
        n,
        seed=seed,
        steps=steps,
        duration=duration,
        noise=noise,
        process_noise=process_noise,
        individuals=individuals,
        progress=True,
    )
    write_series(series, output)
    first = series[0]
    say(f"{len(series)} series of {first.steps} steps of {', '.join(first.names)} → {output}")
