"""What the runs of a study work with: its series, its model in the forms they need, its ledger and its folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from loracast.codec import Codec
from loracast.context import Reach
from loracast.engine.rolling import most_flops
from loracast.errors import DataError
from loracast.flops import Flops, PassCost
from loracast.forecaster import Forecaster
from loracast.language_model import LanguageModel, load_model
from loracast.ledger import SharedLedger
from loracast.series import Series, Split, Window, windows
from loracast.series.windows import evenly_spaced, scorable_windows
from loracast.settings import ComputeKind, Device, LoraConfig, Precision, SampleConfig, Vocabulary
from loracast.study.folder import StudyFolder
from loracast.study.protocol import AnyLayout, Protocol, TuningSettings

Report = Callable[[str, dict[str, Any]], None]  # a run's name and an event of it

MEASURED_SERIES = 50  # that the length of a step's text is measured on


class StudyContext:
    """The series, models and ledger of one process's part in a study."""

    def __init__(
        self,
        folder: StudyFolder,
        protocol: Protocol,
        series: Sequence[Series],
        split: Split,
        model: str,
        *,
        device: Device = "auto",
        precision: Precision = "auto",
        compute: ComputeKind = "auto",
        report: Report = lambda run, event: None,
    ):
        self.folder, self.protocol, self.report = folder, protocol, report
        self.series, self.split = list(series), split
        self.train, self.validation, self.test = (
            [series[index] for index in part] for part in (split.train, split.validation, split.test)
        )
        self.ledger = SharedLedger(folder.ledger, protocol.budget, protocol.convention)
        self._source = model
        self.where: dict[str, Any] = {"device": device, "precision": precision, "compute": compute}
        self._step_tokens: dict[Codec, float] = {}
        self._prompts: dict[tuple[str, Codec], list[int]] = {}  # lengths of prompts, of a subset and a codec

    # -- models ----------------------------------------------------------------------------------------------------

    @cached_property
    def model(self) -> LanguageModel:
        """The model with the rows that numbers need."""
        return self._load("numeric")

    @cached_property
    def whole_model(self) -> LanguageModel:
        """The model with its whole vocabulary, which may write anything."""
        return self._load("full")

    def _load(self, vocabulary: Vocabulary) -> LanguageModel:
        return load_model(self._source, vocabulary=vocabulary, **self.where)

    def codec(self, decimals: int, layout: AnyLayout = "auto") -> Codec:
        """How numbers are written at so many decimals, in a layout or in the study's own."""
        taught = self.model.codec
        layout = self.protocol.layout if layout == "auto" else layout
        if layout == "auto":
            layout = taught.layout if taught else "decimal"
        return replace(taught or Codec(), layout=layout, digits=decimals)

    def codec_of(self, settings: TuningSettings) -> Codec:
        """How a tuning run writes numbers."""
        return self.codec(settings.decimals, settings.layout)

    def forecaster(self, codec: Codec, *, constrained: bool = True) -> Forecaster:
        """The untouched model; one that may write anything where it is not constrained."""
        return Forecaster(self.model if constrained else self.whole_model, codec)

    # -- windows ---------------------------------------------------------------------------------------------------

    def judged(self, subset: str) -> list[Series]:
        """The series that forecasts of `validation` or `test` are judged on."""
        if subset == "test":
            return self.test
        return evenly_spaced(self.validation, self.protocol.forecasts.validation_series)

    def judged_windows(self, subset: str) -> list[Window]:
        task = self.protocol.forecasts
        return windows(self.judged(subset), task.context, task.horizon)

    @cached_property
    def shortest(self) -> int:
        """Steps of the shortest series that is trained on or validates."""
        return min(one.steps for one in (*self.train, *self.validation))

    def steps_of(self, tokens: int, codec: Codec) -> int:
        """Steps that are written with so many tokens, by the mean length of a step's text. At least 2."""
        if codec not in self._step_tokens:
            some = self.train[:MEASURED_SERIES]
            written = [len(codec.encode(one.values, codec.fit_scale(one.values)).ids) / one.steps for one in some]
            self._step_tokens[codec] = float(np.mean(written))
        return max(2, int(tokens / self._step_tokens[codec]))

    def window_steps(self, tokens: int, codec: Codec) -> int:
        """Steps of a training window: as many as so many tokens hold, and no more than the shortest series has."""
        return min(self.steps_of(tokens, codec), self.shortest)

    def forecast_cost(self, subset: str, codec: Codec, lora: LoraConfig | None, *, constrained: bool = True) -> Flops:
        """What forecasts of a subset's windows cost at most."""
        task = self.protocol.forecasts
        if (subset, codec) not in self._prompts:
            contexts = [window.context_values for window in self.judged_windows(subset)]
            self._prompts[subset, codec] = [len(text.ids) for text in codec.encode_contexts(contexts)[0]]
        prompts, samples, variables = (
            self._prompts[subset, codec],
            self.sampling(subset).samples,
            self.series[0].variables,
        )
        network = (self.model if constrained else self.whole_model).network
        plan = Reach.of(network.config, codec, variables).plan(task.context, task.horizon, chosen=True)
        plans, step_tokens = [plan] * len(prompts), codec.grammar(variables).step_tokens
        return most_flops(prompts, plans, samples, step_tokens, PassCost.of(network, lora))

    def sampling(self, subset: str) -> SampleConfig:
        """How the sample paths of `validation` or `test` are drawn."""
        return self.protocol.forecasts.sampling(subset, self.protocol.seed)

    def held_out(self, context: int, horizon: int, count: int) -> list[Window]:
        """The windows that measure a run's validation loss, as `Forecaster.fit` chooses them."""
        return evenly_spaced(scorable_windows(windows(self.validation, context, horizon)), count)


def cut(series: Sequence[Series], shares: Sequence[float]) -> list[Series]:
    """An only series in consecutive parts of these shares; DataError where there are several."""
    only = series[0]
    if len(series) > 1:
        raise DataError(f"only one series can be cut in parts, not {len(series)}")
    ends = np.round(np.cumsum(shares) * only.steps).astype(int)
    starts = [0, *ends[:-1]]
    return [
        replace(only.slice(start, end), id=f"{only.id}[{start}:{end}]")
        for start, end in zip(starts, ends)
        if end > start
    ]
