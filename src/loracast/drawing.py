"""A forecast in three steps: what is asked is read and checked, paths are drawn for several requests at once, and each
is answered as if it had been alone.

Shapes: N series, C steps of context, S samples, H steps of the horizon, D variables.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from loracast.calibration import Widths
from loracast.codec import Codec
from loracast.context import Reach
from loracast.engine.rolling import Adapters, Drawn, Plan
from loracast.engine.views import draw_views, most_view_flops, resolved
from loracast.errors import ConfigError, DataError
from loracast.flops import Flops, PassCost
from loracast.forecast import Forecast, future_time
from loracast.language_model import LanguageModel
from loracast.model.mixed import Members
from loracast.scenario import Known, conditions, known_future
from loracast.series import Series
from loracast.series.checks import constant_level, different_ids, same_variables
from loracast.settings import SampleConfig


@dataclass(frozen=True, eq=False)
class Request:
    """Series that are to be forecast, read and checked.

    Attributes:
        groups: the positions of their variables that are read at once.
        given: [N, H, D] what is known of the future, NaN elsewhere.
        contexts: what is read of each.
        plans: the stretches of each; none of one that never varies.
        levels: [N, D] of each that never varies, so that the model is not asked; NaN of all others.
    """

    series: tuple[Series, ...]
    horizon: int
    sample: SampleConfig
    groups: tuple[tuple[int, ...], ...]
    given: NDArray[np.float64]
    contexts: tuple[Series, ...]
    plans: tuple[Plan, ...]
    levels: NDArray[np.float64]
    constrained: bool

    @property
    def kind(self) -> Hashable:
        """Requests of one kind can be drawn together."""
        return self.horizon, self.sample, self.groups, self.given.shape[2], self.constrained

    @property
    def asked(self) -> list[int]:
        """The series that the model is asked of."""
        return [index for index, plan in enumerate(self.plans) if plan.stretches]

    def most_flops(self, codec: Codec, cost: PassCost) -> Flops:
        """What it costs at most."""
        read, plans = [self.contexts[one].values for one in self.asked], [self.plans[one] for one in self.asked]
        return most_view_flops(codec, self.groups, read, plans, self.sample, cost) if plans else Flops()

    @classmethod
    def read(
        cls,
        series: Sequence[Series],
        horizon: int,
        codec: Codec,
        groups: Callable[[Series], list[list[int]]],
        reach: Callable[[int], Reach],
        *,
        sample: SampleConfig,
        context: int | None,
        known: Known | None,
        constrained: bool,
        tuned: bool,
    ) -> Request:
        """What `Forecaster.predict` is asked; it says what the arguments mean, what is refused and what is warned of.

        Args:
            groups: of the variables of a series, as it is read.
            reach: of so many variables.
            tuned: whether an adapter forecasts.
        """
        lengths = {"horizon": horizon, "context": 1 if context is None else context}
        if problems := [f"{name} must be at least 1, not {length}" for name, length in lengths.items() if length < 1]:
            raise ConfigError(problems)
        if not series:
            raise DataError("the list of series to forecast is empty; give at least one")
        same_variables(series)
        different_ids(series)
        chosen = groups(series[0])
        given = known_future(series, horizon, known)  # [N, H, D]
        if not constrained and not np.isnan(given).all():
            raise ConfigError(["values of the future cannot be given to unconstrained sampling; leave them out"])
        contexts, plans = reach(max(map(len, chosen))).read(series, horizon, context)
        levels = np.full((len(series), given.shape[2]), np.nan)
        for index, one in enumerate(contexts):
            level = constant_level(one)
            if level is not None and np.isnan(given[index, :, one.target_columns]).all():
                levels[index], plans[index] = level, Plan((), 0)
        return cls(
            tuple(series),
            horizon,
            resolved(sample, codec, tuned=tuned),
            tuple(map(tuple, chosen)),
            given,
            tuple(contexts),
            tuple(plans),
            levels,
            constrained,
        )


def draw(
    model: LanguageModel,
    codec: Codec,
    costs: Sequence[PassCost],
    widths: Sequence[Widths | None],
    requests: Sequence[Request],
    progress: Callable[[float], None] | None = None,
    watch: Callable[[list[Forecast]], None] | None = None,
    chosen: tuple[Sequence[int], Members] | None = None,
) -> list[Forecast]:
    """The answers to requests of one kind, each what it would be alone.

    Args:
        costs: of a pass through the model; where it has several adapters, with each of them.
        widths: of each request, how wide the paths ought to be, where they are not to stay as they are drawn.
        watch: called with the answers as far as they are drawn, which are of fewer steps, whenever a step is; on a CPU,
            where all series are drawn in one batch.
        chosen: where the model has several adapters, of each request the position of its own, and the members of the
            network.
    """
    first, rows = requests[0], [(request, index) for request in requests for index in request.asked]
    found, looks = None, []

    def on_step(positions: Sequence[int], values: NDArray[np.float64]) -> None:
        if watch and len(positions) == len(rows):
            steps, nothing = values.shape[2], np.zeros(len(rows), np.int64)
            drawn = Drawn(values, np.ones(values.shape[:3], bool), nothing, [Flops()] * len(rows))
            parts = [replace(request, horizon=steps, given=request.given[:, :steps]) for request in requests]
            watch(_answers(parts, drawn, [()] * len(rows), widths))

    adapters = None
    if chosen:
        of_series = tuple(member for member, request in zip(chosen[0], requests) for _ in request.asked)
        adapters = Adapters(of_series, tuple(costs), chosen[1])
    if rows:
        found, looks = draw_views(
            model,
            codec,
            first.groups,
            [request.contexts[index].values for request, index in rows],
            [request.contexts[index].id for request, index in rows],
            [request.plans[index] for request, index in rows],
            first.sample,
            costs[0],
            given=np.stack([request.given[index] for request, index in rows]),
            constrained=first.constrained,
            progress=progress,
            watch=on_step if watch else None,
            adapters=adapters,
        )
    return _answers(requests, found, looks, widths)


def _answers(
    requests: Sequence[Request], drawn: Drawn | None, looks: Sequence[tuple], widths: Sequence[Widths | None]
) -> list[Forecast]:
    """The answers to requests whose series that were asked of the model were drawn, one after the other."""
    answers, begin = [], 0
    for request, wide in zip(requests, widths):
        mine = slice(begin, begin + len(request.asked))
        answers.append(_answer(request, drawn, mine, dict(zip(request.asked, looks[mine]))).widened(wide))
        begin = mine.stop
    return answers


def _answer(request: Request, drawn: Drawn | None, rows: slice, looks: dict[int, tuple]) -> Forecast:
    """The forecast of a request, whose series that were asked of the model are these rows of what was drawn."""
    first, samples = request.series[0], request.sample.samples
    known = np.where(np.isnan(request.given), request.levels[:, None], request.given)  # [N, H, D]
    values = np.repeat(known[:, None], samples, 1)  # [N, S, H, D]
    valid, saturated, flops = np.ones(values.shape[:3], bool), 0, Flops()
    if drawn is not None:
        values[request.asked], valid[request.asked] = drawn.values[rows], drawn.valid[rows]
        saturated, flops = int(drawn.saturated[rows].sum()), Flops.sum(drawn.flops[rows])
    targets = first.target_columns
    return Forecast(
        values[..., targets],
        valid,
        request.contexts,
        tuple(future_time(one, request.horizon) for one in request.contexts),
        saturated,
        flops,
        available=tuple(one.steps for one in request.series),
        stretches=tuple(plan.stretches for plan in request.plans),
        conditional=conditions(request.series, request.given),
        transforms=tuple(looks.get(index, ())[targets] for index in range(len(request.series))),
        given=request.given[..., targets],
    ).rounded()
