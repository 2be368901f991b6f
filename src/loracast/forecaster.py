"""The public face: a `Forecaster` reads series and draws sample paths; `fit` gives a tuned one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loracast.calibration import Widths, recorded
from loracast.codec import Codec
from loracast.compute.device import describe_hardware
from loracast.context import Reach, reading_groups, variable_groups
from loracast.drawing import Request, draw
from loracast.engine.likelihood import grouped_log_density
from loracast.engine.train import JUDGEMENT
from loracast.engine.train import tune as tune_adapter
from loracast.engine.views import most_view_flops, resolved
from loracast.errors import DataError, ModelError
from loracast.files import CHECKPOINT
from loracast.fitting import judge, no_help, prepare
from loracast.flops import Flops, PassCost
from loracast.forecast import Forecast
from loracast.frames import FrameMethods
from loracast.hub import SharedMethods
from loracast.language_model import LanguageModel, load_adapted, load_model
from loracast.ledger import Ledger
from loracast.model.checkpoint import read_codec, recorded_base
from loracast.model.locate import holds_adapter, locate, locate_adapter
from loracast.model.lora import attach, load_adapter_state
from loracast.model.transformer import Transformer
from loracast.own_table import Table, as_series
from loracast.progress import OnProgress, displayed, displayed_share
from loracast.record import adapter_record, check_unused
from loracast.scenario import Known
from loracast.series import Series, Window
from loracast.series.checks import not_known, same_variables
from loracast.settings import ComputeKind, Device, LoraConfig, Precision, SampleConfig, TuneConfig, Vocabulary

Report = Callable[[dict[str, Any]], None]


class Forecaster(FrameMethods, SharedMethods):
    """A language model, with or without an adapter, that forecasts series.

    Attributes:
        model: the network and its tokens.
        codec: how series are written for it.
        lora: the adapter's configuration, or None for an untouched model.
        record: what is known of the adapter: base, data, settings, results, FLOPs. Empty for an untouched model.

    Examples:
        >>> forecaster = loracast.Forecaster.from_pretrained("bundled")
        >>> forecast = forecaster.predict(loracast.lynx_hare(), horizon=5, sample=loracast.SampleConfig(3))
        >>> forecast.samples.shape
        (1, 3, 5, 2)
    """

    def __init__(self, model: LanguageModel, codec: Codec, lora: LoraConfig | None = None, record: dict | None = None):
        self.model, self.codec, self.lora, self.record = model, codec, lora, record or {}

    def __repr__(self) -> str:
        parameters = f"{self.model.network.config.parameters():,} parameters"
        on = f" tuned on {', '.join(self.record['variables'])}" if "variables" in self.record else ""
        adapter = f"adapter of rank {self.lora.rank}{on}" if self.lora else "untouched"
        return f"Forecaster({self.model.source!r}, {parameters}, {adapter}, {self.codec!r}, {self.model.precision})"

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path | None = None,
        adapter: str | Path | None = None,
        *,
        codec: Codec | None = None,
        vocabulary: Vocabulary = "numeric",
        device: Device = "auto",
        precision: Precision = "auto",
        compute: ComputeKind = "auto",
    ) -> Forecaster:
        """Loads a model and, if one is named, an adapter.

        Args:
            model: `bundled`, `smollm2`, a Hugging Face directory, a .gguf file, or a repository of the hub. Unless
                given, the base that the adapter was tuned on, or else the bundled model. A folder or a repository that
                holds an adapter is taken for one.
            adapter: a directory in PEFT's format, or a repository of the hub that is one.
            codec: how to write series; that of the adapter or of the model unless given. An adapter only reads what
                it was tuned on, so another one than its own is an error.
            vocabulary: `numeric` loads the few rows that numbers need; `full` loads all.
            device: where to compute; `auto` takes a GPU where there is one.
            precision: `auto` is bfloat16 where the hardware is fast at it, else float32.
            compute: `auto` takes the fastest way to compute the model where it is, `plain` the reference.

        Raises:
            ModelError: what cannot be loaded, or does not fit together.

        Examples:
            >>> loracast.Forecaster.from_pretrained("bundled").codec
            Codec('fixed', digits=3)
        """
        if adapter is None and model is not None and holds_adapter(found := locate(model)):
            model, adapter = None, found
        if adapter is not None:
            adapter = locate_adapter(adapter)
            model = model or recorded_base(adapter)
        loaded = load_model(
            model or "bundled", vocabulary=vocabulary, device=device, precision=precision, compute=compute
        )
        base = cls(loaded, codec or loaded.codec or Codec())
        if adapter is None:
            return base
        adapted = base.with_adapter(adapter)
        if codec and codec != adapted.codec:
            raise ModelError(f"{adapter} was tuned with {adapted.codec}, not with {codec}; leave the codec out")
        return adapted

    def with_adapter(self, adapter: str | Path) -> Forecaster:
        """A new forecaster with an adapter from a directory in PEFT's format, or a hub; the base's weights are shared.

        Series are written as the adapter's record says, or as for this forecaster where it has none.
        """
        adapted, lora, record = load_adapted(self.model, folder := locate_adapter(adapter))
        codec = read_codec(record, folder) if "codec" in record else self.codec
        return Forecaster(adapted, codec, lora, record)

    # -- tuning --------------------------------------------------------------------------------------------------

    def fit(
        self,
        series: Sequence[Series] | Series | Table,
        *,
        tune: TuneConfig | None = None,
        validation: Sequence[Series] | Series | Table | None = None,
        directory: str | Path | None = None,
        resume: bool = False,
        force: bool = False,
        ledger: Ledger | None = None,
        stop: Callable[[int, float], str | None] = lambda step, nats: None,
        report: Report = lambda event: None,
        watch: Callable[[int, Forecaster], None] | None = None,
        progress: bool | OnProgress | None = None,
    ) -> Forecaster:
        """A new forecaster with an adapter tuned on `series`. This one, and its base, stay as they are.

        Args:
            series: training series, all of the same variables; or a pandas table, read as `series_from_frame` does.
            tune: settings of the tuning.
            validation: series that choose the best adapter and judge it; 15% of `series` are held out unless given
                (the end of it, where there is only one).
            directory: a folder for the log, for checkpoints, and for the finished adapter.
            resume: continue from the checkpoint in `directory`.
            force: keep the tuned adapter also where it does not help. Otherwise an adapter that changes nothing is kept
                where the CRPS on the held-out windows did not fall by more than its standard error.
            ledger: charged for everything; one with the budget of `tune` unless given.
            stop: asked before a step that follows a validation, with the steps so far and the validation loss in nats a
                value; a reason to stop ends training there.
            report: called with each event of the training.
            watch: called after each validation with the steps so far and a forecaster with the adapter as it is then.
            progress: True shows how far the work is, as bars in a terminal or a notebook and as lines in a log; a
                function is called with `tuning` or `validation forecasts` and the share of it that is done.

        Warns:
            UserWarning: the tuned forecaster is no better than the untouched one on the held-out windows.

        Examples:
            >>> series = loracast.simulate("predator-prey", n=10, steps=30)
            >>> settings = loracast.TuneConfig(
            ...     steps=2, batch=2, context=15, horizon=5, validation_windows=2, validation_series=0
            ... )
            >>> tuned = loracast.Forecaster.from_pretrained("bundled").fit(series, tune=settings)
            >>> tuned.lora.rank, tuned.record["variables"]
            (8, ['prey', 'predator'])
            >>> tuned.save("adapter")
        """
        config, directory = tune or TuneConfig(), Path(directory) if directory else None
        if directory and not resume:
            check_unused(directory)
        if self.lora:
            raise ModelError("this forecaster has an adapter already; fit the untouched base")
        material = prepare(
            as_series(series), None if validation is None else as_series(validation), config, self.codec, self._reach
        )
        ledger, untouched = ledger or Ledger(config.flops), Forecaster(self.model, material.codec)
        contexts = [window.context_values for window in material.judged]
        reserve = Flops.sum(
            untouched.forecast_flops(contexts, config.horizon, config.validation_samples, lora)
            for lora in (None, config.lora)
        )

        def seen(step: int, network: Transformer) -> None:
            assert watch is not None
            watch(step, Forecaster(self.model.with_network(network), material.codec, config.lora))

        with displayed(progress) as display:
            result = tune_adapter(
                self.model,
                material.drawn_from,
                material.measured,
                material.codec,
                config,
                ledger,
                reserve=reserve,
                stop=stop,
                directory=directory,
                resume=resume,
                report=report,
                watch=seen if watch else None,
                display=display,
            )
            network = attach(self.model.network, config.lora, config.seed)
            load_adapter_state(network, result.state, "the tuned adapter")
            tuned = Forecaster(self.model.with_network(network), material.codec, config.lora)
            verdict, widths = judge(
                (untouched.predict, tuned.predict),
                material.judged,
                SampleConfig(config.validation_samples, seed=config.seed),
                ledger,
                force,
                lambda share: display(JUDGEMENT, share),
            )
        if verdict.get("kept") == "untouched":  # as it began: B is zero
            network = attach(self.model.network, config.lora, config.seed)
            tuned = Forecaster(self.model.with_network(network), material.codec, config.lora)
        if verdict:
            spent = {"flops": ledger.total.executed, "flops_published": ledger.total.published}
            report({"event": "verdict", "step": result.record["steps"], **verdict, **spent})
        tuned.record = adapter_record(
            *(self.model, material.codec, material.training, [window.series for window in material.held_out]),
            *(config, result.record, verdict, widths, ledger),
        )
        if directory:
            tuned.save(directory)
            (directory / CHECKPOINT).unlink(missing_ok=True)
        if verdict and not verdict["improved"]:
            warnings.warn(no_help(verdict, result.record["best_step"]), stacklevel=2)
        return tuned

    # -- forecasting ---------------------------------------------------------------------------------------------

    def predict(
        self,
        series: Sequence[Series] | Series | Table,
        horizon: int,
        *,
        sample: SampleConfig | None = None,
        context: int | None = None,
        known: Known | None = None,
        constrained: bool = True,
        raw: bool = False,
        ledger: Ledger | None = None,
        progress: bool | Callable[[float], None] | None = None,
    ) -> Forecast:
        """Sample paths of the `horizon` steps that follow each series.

        Args:
            series: one or many, or a pandas table, read as `series_from_frame` does; their ends are the contexts.
            horizon: steps to forecast.
            sample: how many paths a series, and how they are drawn; 100 unless given. A series' paths depend on its
                seed, the series' id and the path's number alone.
            context: steps that are read of each series; unless given, as many as the adapter was tuned on, or as many
                as the model was made for. A horizon that the model does not hold beside them is forecast in stretches:
                each path reads back its own last steps and goes on.
            known: what is known of the future: of each series, by its id, a series of some of its variables, or an
                array [N, H, D]; NaN where nothing is known. Variables that are known beforehand need all values; one of
                another is a what-if, on which the forecast is conditional. Given values come back exactly.
            constrained: whether only text that parses may be written; False needs the full vocabulary.
            raw: leave the paths as wide as they are drawn, whatever the adapter's record says of it.
            ledger: asked before the forecast begins whether it holds the most that it may cost, then charged.
            progress: True shows how far the work is, as a bar in a terminal or a notebook and as lines in a log; a
                function is called with the share that is done.

        Targets that never vary stay as they are, unless a value is set. What holds whole numbers alone goes on so.

        Raises:
            ConfigError: where a setting does not fit.
            DataError: where a series does not fit.
            BudgetError: where the ledger does not hold the forecast.

        Warns:
            UnseenWarning: of what lies outside what the model or the adapter has seen, and where a series was cut.

        Examples:
            >>> import numpy as np
            >>> pelts = loracast.lynx_hare()
            >>> what_if = np.full((1, 5, 2), np.nan)  # [N, H, D]
            >>> what_if[0, :2, 1] = 5.0  # five lynx in the first two years
            >>> forecaster, few = loracast.Forecaster.from_pretrained("bundled"), loracast.SampleConfig(3)
            >>> forecaster.predict(pelts, 5, known=what_if, sample=few).median()[0, :2, 1]
            array([5., 5.])
        """
        request = self.request(series, horizon, sample=sample, context=context, known=known, constrained=constrained)
        if ledger:
            most = request.most_flops(self.codec, self.forecast_cost(self.lora, constrained))
            ledger.check("forecasts", most)
        with displayed_share(progress if request.asked else None, "forecast") as on_progress:
            (forecast,) = self.answer([request], raw=raw, progress=on_progress)
        if ledger and request.asked:
            ledger.charge("forecasts", forecast.flops)
        return forecast

    def request(
        self,
        series: Sequence[Series] | Series | Table,
        horizon: int,
        *,
        sample: SampleConfig | None = None,
        context: int | None = None,
        known: Known | None = None,
        constrained: bool = True,
    ) -> Request:
        """What `predict` with these arguments asks, read and checked; `answer` draws several at once."""
        tuned = bool(self.lora or self.record)  # one that is judged has no record yet
        return Request.read(
            as_series(series),
            horizon,
            self.codec,
            lambda one: reading_groups(one, self.record, None if tuned else self.model.variables),
            self._reach,
            sample=sample or SampleConfig(),
            context=context,
            known=known,
            constrained=constrained,
            tuned=tuned,
        )

    def answer(
        self,
        requests: Sequence[Request],
        *,
        raw: bool = False,
        progress: Callable[[float], None] | None = None,
        watch: Callable[[list[Forecast]], None] | None = None,
    ) -> list[Forecast]:
        """The forecasts that requests of one kind ask for, drawn together, each what `predict` alone would give.

        What `progress` raises ends the work. watch: see `drawing.draw`.
        """
        widths, costs = [self.widths(raw)] * len(requests), [self.forecast_cost(self.lora, requests[0].constrained)]
        return draw(self.model, self.codec, costs, widths, requests, progress, watch)

    def widths(self, raw: bool = False) -> Widths | None:
        """How wide the paths of its forecasts ought to be, where that is known and they are not to stay `raw`."""
        return None if raw else recorded(self.record or {"calibration": self.model.calibration})

    def log_density(self, windows: Sequence[Window], *, ledger: Ledger | None = None) -> NDArray[np.float64]:
        """Log density [N] in nats of each window's future given its context (missing values left out).

        All windows need the same context, horizon and number of variables. The ledger is charged before the work.
        """
        if not windows:
            raise DataError("the list of windows is empty; give at least one")
        same_variables([window.series for window in windows])
        first = windows[0].series
        groups = reading_groups(first, self.record, None if self.lora else self.model.variables)
        if len(shapes := {(window.context, window.horizon) for window in windows}) > 1:
            raise DataError(f"windows of one call need the same context and horizon, not {sorted(shapes)}")
        self._reach(max(map(len, groups))).check(windows[0].context + windows[0].horizon)
        stacked, cost = np.stack([window.values for window in windows]), self.forecast_cost(self.lora, True)
        targets, context = not_known(first), windows[0].context
        return grouped_log_density(self.model, self.codec, stacked, context, targets, groups, cost, ledger)

    @property
    def hardware(self) -> str:
        """What this forecaster computes on."""
        return describe_hardware(self.model.device)

    def forecast_flops(
        self,
        contexts: Sequence[NDArray[np.float64]],
        horizon: int,
        samples: int,
        lora: LoraConfig | None = None,
    ) -> Flops:
        """What forecasts from contexts [C, D] cost at most, before they are made; `lora` is an adapter yet to come."""
        if not contexts:
            return Flops()
        tuned = lora or self.lora
        groups = variable_groups(contexts[0].shape[1], None if tuned else self.model.variables)
        reach = self._reach(max(map(len, groups)))
        plans = [reach.plan(len(context), horizon, chosen=True) for context in contexts]
        sample = resolved(SampleConfig(samples), self.codec, tuned=tuned is not None)
        return most_view_flops(self.codec, groups, contexts, plans, sample, self.forecast_cost(tuned, True))

    # -- inside --------------------------------------------------------------------------------------------------

    def forecast_cost(self, lora: LoraConfig | None, constrained: bool) -> PassCost:
        """Costs of forecasting: under the grammar, the head is computed for the symbols alone."""
        cost = PassCost.of(self.model.network, lora)
        return replace(cost, rows=len(self.model.rows)) if constrained else cost

    def _reach(self, variables: int) -> Reach:
        return Reach.of(self.model.network.config, self.codec, variables, self.record)
