"""Forecasts of several forecasters at once: adapters of one base, each of which gets what it would draw alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from loracast.drawing import Request, draw
from loracast.forecast import Forecast
from loracast.forecaster import Forecaster
from loracast.model.mixed import mix


def join(one: Forecaster, other: Forecaster) -> bool:
    """Whether both can be drawn at once: of one base, in the reference way of computing, which alone mixes adapters."""
    bases = one.model.fingerprint == other.model.fingerprint and one.codec == other.codec
    return one is other or (bases and {one.model.compute.name, other.model.compute.name} == {"plain"})


def answer_together(
    asked: Sequence[tuple[Forecaster, Request]], *, raw: bool = False, progress: Callable[[float], None] | None = None
) -> list[Forecast]:
    """The forecasts that forecasters which `join` are asked for by requests of one kind, each what it would be alone.

    Examples:
        >>> import loracast
        >>> from loracast.together import answer_together
        >>> forecaster, few = loracast.Forecaster.from_pretrained("bundled"), loracast.SampleConfig(3)
        >>> request = forecaster.request(loracast.lynx_hare(), 2, sample=few)
        >>> [forecast.samples.shape for forecast in answer_together([(forecaster, request)] * 2)]
        [(1, 3, 2, 2), (1, 3, 2, 2)]
    """
    forecasters = list(dict.fromkeys(forecaster for forecaster, _ in asked))
    requests = [request for _, request in asked]
    first = forecasters[0]
    if len(forecasters) == 1:
        return first.answer(requests, raw=raw, progress=progress)
    network, members = mix([one.model.network for one in forecasters])
    places = [forecasters.index(forecaster) for forecaster, _ in asked]
    costs = [one.forecast_cost(one.lora, requests[0].constrained) for one in forecasters]
    widths = [forecaster.widths(raw) for forecaster, _ in asked]
    model = first.model.with_network(network)
    return draw(model, first.codec, costs, widths, requests, progress, chosen=(places, members))
