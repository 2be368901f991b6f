"""Fine-tuning: what is trained and what is not, exact resumption, budgets, and which windows are seen."""

import hashlib
import json
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from loracast.codec import Codec, Scale
from loracast.compute import choose
from loracast.engine import session, train
from loracast.engine.batch import encode_batch
from loracast.engine.loop import Interruption, JsonLines, cosine_schedule, read_record, trapezoid_schedule
from loracast.engine.step import TrainingStep
from loracast.engine.train import (
    TuneResult,
    TuningCosts,
    affordable_steps,
    draw_batch,
    tune,
    tuning_costs,
)
from loracast.errors import BudgetError, ConfigError, DataError, Interrupted, LoracastError, ModelError
from loracast.files import CHECKPOINT
from loracast.fitting import _standard_error
from loracast.flops import Convention, Flops, PassCost
from loracast.forecaster import Forecaster
from loracast.grammar import MISSING
from loracast.language_model import LanguageModel
from loracast.ledger import Ledger
from loracast.model.lora import adapter_layers, attach, load_adapter_state
from loracast.model.tensors import read_metadata, read_tensors, write_tensors
from loracast.model.transformer import Transformer
from loracast.series import Series, windows
from loracast.series.windows import WindowSource, evenly_spaced, fingerprint, hold_out
from loracast.settings import SampleConfig, TuneConfig

FIXED, DECIMAL = Codec(digits=2), Codec(layout="decimal", digits=1)
CONFIG = TuneConfig(
    observation_noise=0.0,
    steps=9,
    batch=4,
    context=8,
    horizon=4,
    learning_rate=0.02,
    validate_every=4,
    validation_windows=4,
    validation_series=0,
)
STEP_TOKENS = 12 * 3  # two digits and a separator a step
Report = Callable[[dict[str, Any]], None]


def waves(n: int = 6, steps: int = 40, seed: int = 0) -> list[Series]:
    """Sines of one period and any phase: easy to learn, and no two alike."""
    phases = np.random.default_rng(seed).uniform(0, 2 * math.pi, n)
    time = np.arange(steps)
    return [
        Series(5 + 4 * np.sin(time * 2 * math.pi / 6 + phase), ("x",), f"wave {i}") for i, phase in enumerate(phases)
    ]


def noise(n: int = 6, steps: int = 40, seed: int = 0) -> list[Series]:
    random = np.random.default_rng(seed)
    return [Series(random.uniform(1, 9, steps), ("x",), f"noise {i}") for i in range(n)]


def run(
    model: LanguageModel,
    config: TuneConfig = CONFIG,
    *,
    codec: Codec = FIXED,
    training: list[Series] | None = None,
    held_out: list[Series] | None = None,
    ledger: Ledger | None = None,
    **options: Any,
) -> TuneResult:
    held_out = waves(2, 12, seed=1) if held_out is None else held_out
    validation = windows(held_out, config.context, config.horizon)
    return tune(model, training or waves(), validation, codec, config, ledger or Ledger(), **options)


def stop_at(*steps: int) -> Report:
    """Presses Ctrl-C in these steps."""

    def report(event: dict[str, Any]) -> None:
        if event["event"] == "train" and event["step"] in steps:
            signal.raise_signal(signal.SIGINT)

    return report


def log_of(directory: Path) -> list[dict[str, Any]]:
    """The log without what depends on the clock."""
    events = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in event.items() if key != "tokens_per_second"} for event in events]


def record_of(result: TuneResult) -> dict[str, Any]:
    return {key: value for key, value in result.record.items() if key != "seconds"}


def assert_same_tensors(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def digest(network: torch.nn.Module) -> str:
    sha = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        sha.update(name.encode() + tensor.numpy().tobytes())
    return sha.hexdigest()


# -- what is learned and what stays ------------------------------------------------------------------------------


def test_the_loss_falls_on_a_periodic_series_and_the_base_stays_bit_identical(numeric_model: LanguageModel):
    before = digest(numeric_model.network)
    events: list[dict[str, Any]] = []
    result = run(numeric_model, replace(CONFIG, steps=60, batch=8), report=events.append)
    losses = [event["loss"] for event in events if event["event"] == "train"]
    assert len(losses) == 60
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:5])
    validation = result.record["validation_loss"]
    assert validation["tuned"] < 0.8 * validation["untouched"]
    assert digest(numeric_model.network) == before
    assert not any(parameter.requires_grad for parameter in numeric_model.network.parameters())


def test_a_tuned_forecaster_shares_the_tensors_of_its_base(numeric_model: LanguageModel):
    base = Forecaster(numeric_model, FIXED)
    tuned = base.fit(waves(), tune=CONFIG)
    layers = [layer for _, layer in adapter_layers(tuned.model.network)]
    own = {id(parameter) for layer in layers for parameter in (layer.lora_A, layer.lora_B)}
    shared = [parameter for parameter in tuned.model.network.parameters() if id(parameter) not in own]
    assert {tensor.data_ptr() for tensor in shared} == {p.data_ptr() for p in numeric_model.network.parameters()}
    assert any(layer.lora_B.any() for layer in layers)


def test_an_adapter_depends_on_the_settings_alone(numeric_model: LanguageModel):
    config = replace(CONFIG, dropout=0.3)
    torch.manual_seed(1)
    first = run(numeric_model, config)
    torch.manual_seed(2)
    assert_same_tensors(first.state, run(numeric_model, config).state)
    for changed in (replace(config, seed=1), replace(config, dropout=0.0)):
        other = run(numeric_model, changed).state
        assert all(not torch.equal(first.state[name], other[name]) for name in other)


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulation_gives_the_same_gradients(numeric_model: LanguageModel, parts: int):
    values = np.stack([one.values[:12] for one in noise(4)])
    values[1, 5:] = np.nan  # so that the parts have different numbers of targets
    batch = encode_batch(FIXED, values, 8)
    found = []
    for count in (1, parts):
        network = attach(numeric_model.network, CONFIG.lora)
        for _, layer in adapter_layers(network):
            torch.nn.init.normal_(layer.lora_B, std=0.1, generator=torch.Generator().manual_seed(0))
        loss = TrainingStep(choose(network), numeric_model.rows, replace(CONFIG, batch=4, accumulate=count)).gradients(
            batch
        )
        gradients = {name: parameter.grad for name, parameter in network.named_parameters() if parameter.requires_grad}
        found.append((loss, gradients))
    (loss, gradients), (loss_in_parts, gradients_in_parts) = found
    torch.testing.assert_close(loss_in_parts, loss)
    assert max(gradient.abs().max() for gradient in gradients.values()) > 1e-3
    torch.testing.assert_close(gradients_in_parts, gradients, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("fits", [2, 0])
def test_a_batch_that_does_not_fit_is_computed_in_parts(numeric_model: LanguageModel, fits: int):
    batch = encode_batch(FIXED, np.stack([one.values[:12] for one in noise(5)]), 8)
    steps = [
        TrainingStep(choose(attach(numeric_model.network, CONFIG.lora)), numeric_model.rows, CONFIG) for _ in range(2)
    ]
    add_gradients = steps[1].passes.add_gradients

    def short_of_memory(ids: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        loss = add_gradients(ids, *rest)  # so that what a failed attempt leaves behind would show
        if len(ids) > fits:
            raise torch.OutOfMemoryError
        return loss

    passes: Any = steps[1].passes
    passes.add_gradients = short_of_memory
    steps[0].gradients(batch)
    if not fits:
        with pytest.raises(ConfigError, match="does not hold one window"):
            steps[1].gradients(batch)
        return
    steps[1].gradients(batch)
    assert steps[1].parts == 4
    for whole, parts in zip(steps[0].adapters, steps[1].adapters):
        torch.testing.assert_close(parts.grad, whole.grad, atol=1e-6, rtol=1e-4)


def test_the_best_adapter_is_kept_when_validation_gets_worse(numeric_model: LanguageModel):
    events: list[dict[str, Any]] = []
    config = replace(CONFIG, steps=40, validate_every=3, jitter=0.0, noise=0.0)
    alternating, held_out = [Series(np.tile([2.0, 8.0], 20), ("x",))], noise(2, 12)
    result = run(numeric_model, config, training=alternating, held_out=held_out, report=events.append)
    losses = {event["step"]: event["loss"] for event in events if event["event"] == "validation"}
    assert list(losses) == [0, *range(3, 40, 3), 40]
    best = min(losses, key=lambda step: losses[step])
    assert 0 < best < 40
    assert losses[40] > losses[best] + 0.05  # it did get worse
    assert result.record["best_step"] == best
    assert result.record["validation_loss"] == {"untouched": losses[0], "tuned": losses[best]}
    network = attach(numeric_model.network, config.lora)
    load_adapter_state(network, result.state, "the result")
    values = np.stack([one.values for one in held_out])
    future = encode_batch(FIXED, values, 8).after(8)
    kept = TrainingStep(choose(network), numeric_model.rows, config).mean_loss(future)
    assert kept == pytest.approx(losses[best], rel=1e-6)


def test_an_adapter_is_judged_by_numbers_with_the_noise_that_it_is_to_read(numeric_model: LanguageModel):
    result = run(numeric_model, replace(CONFIG, noise=2.0))
    network = attach(numeric_model.network, CONFIG.lora)
    load_adapter_state(network, result.state, "the result")
    values = np.stack([one.values for one in waves(2, 12, seed=1)])
    exact = encode_batch(FIXED, values, 8).after(8)
    noisy = exact.noisy(2.0, np.random.default_rng(CONFIG.seed))
    step = TrainingStep(choose(network), numeric_model.rows, CONFIG)
    assert result.record["validation_loss"]["tuned"] == pytest.approx(step.mean_loss(noisy), rel=1e-6)
    assert step.mean_loss(noisy) != step.mean_loss(exact)


def test_missing_values_train_and_are_left_out_of_the_loss(numeric_model: LanguageModel):
    gappy = []
    for index, one in enumerate(waves()):
        values = one.values.copy()
        values[np.random.default_rng(index).random(values.shape) < 0.3] = np.nan
        gappy.append(Series(values, one.names, one.id))
    result = run(numeric_model, replace(CONFIG, steps=40, batch=8), training=gappy)
    losses = result.record["validation_loss"]
    assert losses["tuned"] < 0.9 * losses["untouched"]


def test_the_decimal_layout_trains_and_resumes_within_its_budget(numeric_model: LanguageModel, tmp_path: Path):
    grown = [Series(one.values * 10 ** (index / 2), ("x",), one.id) for index, one in enumerate(waves())]
    signed = [Series(one.values - 5, ("x",), one.id) for one in grown]
    options: dict[str, Any] = {"codec": DECIMAL, "training": signed}
    config = replace(CONFIG, steps=30, validate_every=7)
    free = Ledger()
    result = run(numeric_model, config, ledger=free, **options)
    assert result.record["validation_loss"]["tuned"] < 0.9 * result.record["validation_loss"]["untouched"]
    for share in (0.3, 0.5, 0.9):  # windows differ in length, so a plan is an estimate; the budget is not
        directory = tmp_path / str(share)
        ledger, whole = Ledger(share * free.total.executed), Ledger(share * free.total.executed)
        undisturbed = run(numeric_model, config, ledger=whole, **options)
        with pytest.raises(Interrupted):
            run(numeric_model, config, ledger=ledger, directory=directory, report=stop_at(5), **options)
        result = run(numeric_model, config, ledger=ledger, directory=directory, resume=True, **options)
        assert_same_tensors(undisturbed.state, result.state)
        assert ledger.spent == whole.spent
        assert 0.8 * ledger.budget < ledger.total.executed <= ledger.budget  # type: ignore[operator]
        assert log_of(directory)[-1] == {**log_of(directory)[-1], "event": "validation", "step": result.record["steps"]}


def test_a_scale_for_the_data_set_is_fitted_to_the_training_series_and_stored(
    numeric_model: LanguageModel, tmp_path: Path
):
    series = [Series(one.values * (index + 1), ("x",), one.id) for index, one in enumerate(waves())]
    base = Forecaster(numeric_model, Codec(digits=2, scale="dataset"))
    tuned = base.fit(series, tune=replace(CONFIG, validation_series=1, learning_rate=1e-3), directory=tmp_path / "a")
    training, _ = hold_out(series, CONFIG.context, CONFIG.horizon)
    assert tuned.codec == base.codec.with_dataset_scale([one.values for one in training])
    assert base.codec.dataset_scale is None
    loaded = Forecaster.from_pretrained(numeric_model.source, tmp_path / "a", device="cpu", precision="float32")
    assert loaded.codec == tuned.codec
    one, other = (forecaster.predict(series[0], 3, sample=SampleConfig(2)).samples for forecaster in (tuned, loaded))
    np.testing.assert_array_equal(one, other)


def test_an_absurd_learning_rate_is_reported_loudly_and_does_no_harm(numeric_model: LanguageModel, tmp_path: Path):
    base = Forecaster(numeric_model, FIXED)
    config = replace(CONFIG, steps=1, learning_rate=1e4, validation_series=2, validation_samples=3)
    with pytest.warns(UserWarning, match=r"TUNING DID NOT HELP .*the tuned model.s CRPS is .*the untouched model.s"):
        tuned = base.fit(waves(6, 12), tune=config, directory=tmp_path)
    verdict = tuned.record["validation_forecasts"]
    assert verdict["improved"] is False
    assert tuned.record["result"]["best_step"] == 0
    assert verdict["tuned_mae"] == verdict["untouched_mae"]  # the best adapter is the one that changes nothing


def test_a_tuning_that_does_not_help_changes_nothing_unless_forced(
    numeric_model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A verdict that finds no gain, though the loss fell: the adapter that is kept forecasts as the untouched model."""
    base, series = Forecaster(numeric_model, FIXED), waves(6, 12)
    config = replace(CONFIG, steps=8, learning_rate=3e-2, validation_series=4, validation_samples=3)
    monkeypatch.setattr("loracast.fitting._standard_error", lambda gains, judged: 1e3)
    with pytest.warns(UserWarning, match=r"The untouched model is kept, .* --force \(force=True\) keeps the other"):
        kept = base.fit(series, tune=config, directory=tmp_path / "a")
    with pytest.warns(UserWarning, match="The tuned adapter is kept, as asked"):
        forced = base.fit(series, tune=config, force=True)
    assert kept.record["result"]["best_step"] > 0
    assert [one.record["validation_forecasts"]["kept"] for one in (kept, forced)] == ["untouched", "tuned"]
    loaded = Forecaster.from_pretrained(numeric_model.source, tmp_path / "a", device="cpu", precision="float32")
    paths = [one.predict(series[0], 4, sample=SampleConfig(5)).samples for one in (base, kept, loaded, forced)]
    np.testing.assert_array_equal(paths[0], paths[1])
    np.testing.assert_array_equal(paths[0], paths[2])
    assert (paths[0] != paths[3]).any()


def test_the_end_of_an_only_series_is_forecast_from_several_origins():
    """As many as there is room for, and nothing that is forecast was trained on."""
    for steps, origins in ((120, 5), (60, 6), (45, 6), (40, 1), (41, 2)):
        training, held_out = hold_out([Series(np.arange(float(steps))[:, None], ("x",))], 20, 10)
        assert len(held_out) == origins, steps
        first = min(window.start + window.series.values[0, 0] for window in held_out) + 20
        assert first == training[0].steps
        assert held_out[-1].values[-1, 0] <= steps - 1


def test_a_gain_counts_beyond_the_noise_of_windows_that_do_not_overlap():
    series = Series(np.arange(60.0)[:, None], ("x",))
    apart, overlapping = windows([series], 20, 10), windows([series], 20, 10, stride=5)
    gains = np.array([1.0, 2.0, 3.0, 4.0])
    assert _standard_error(gains, apart) == pytest.approx(gains.std(ddof=1) / 2)
    assert _standard_error(gains, overlapping[:4]) == pytest.approx(gains.std(ddof=1) / np.sqrt(2.5))
    assert _standard_error(gains[:1], apart[:1]) == 0


# -- interruption and resumption ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dropout": 0.3},
        {"accumulate": 2},
        {"dropout": 0.3, "accumulate": 4},
        {"optimizer": "muon", "decay": 0.5},
    ],
)
def test_an_interrupted_and_resumed_run_is_bit_identical(
    numeric_model: LanguageModel, tmp_path: Path, changes: dict[str, Any]
):
    config = replace(CONFIG, **changes)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    ledger = Ledger()
    expected = run(numeric_model, config, ledger=ledger, directory=whole)
    with pytest.raises(Interrupted, match=r"after step 2 of 9; continue with --resume"):
        run(numeric_model, config, directory=parts, report=stop_at(2))
    with pytest.raises(Interrupted, match="after step 8 of 9"):  # right after a validation
        run(numeric_model, config, directory=parts, report=stop_at(8), resume=True)
    spent = Ledger()
    result = run(numeric_model, config, directory=parts, ledger=spent, resume=True)
    assert_same_tensors(expected.state, result.state)
    assert log_of(parts) == log_of(whole)
    assert spent.spent == ledger.spent
    assert record_of(result) == record_of(expected)


def test_ctrl_c_in_the_last_step_lets_the_run_end(numeric_model: LanguageModel):
    result = run(numeric_model, report=stop_at(CONFIG.steps))
    assert_same_tensors(result.state, run(numeric_model).state)


def test_ctrl_c_after_training_loses_none_of_it(numeric_model: LanguageModel, tmp_path: Path):
    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "verdict":
            raise KeyboardInterrupt

    base, config = Forecaster(numeric_model, FIXED), replace(CONFIG, validation_series=1, learning_rate=0.005)
    expected = base.fit(waves(), tune=config, directory=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        base.fit(waves(), tune=config, directory=tmp_path / "parts", report=stop)
    events: list[dict[str, Any]] = []
    resumed = base.fit(waves(), tune=config, directory=tmp_path / "parts", resume=True, report=events.append)
    assert [event["event"] for event in events] == ["verdict"]  # nothing was trained again
    assert_same_tensors(expected.model.network.state_dict(), resumed.model.network.state_dict())
    assert resumed.record["flops"] == expected.record["flops"]
    assert log_of(tmp_path / "parts") == log_of(tmp_path / "whole")
    assert not (tmp_path / "parts" / CHECKPOINT).exists()


def test_what_a_killed_run_wrote_after_its_checkpoint_is_forgotten(numeric_model: LanguageModel, tmp_path: Path):
    with pytest.raises(Interrupted):
        run(numeric_model, directory=tmp_path / "killed", report=stop_at(3))
    with pytest.raises(ZeroDivisionError):
        run(numeric_model, directory=tmp_path / "killed", resume=True, report=lambda event: 1 // (event["step"] - 6))
    assert log_of(tmp_path / "killed")[-1]["step"] == 6
    with (tmp_path / "killed" / "metrics.jsonl").open("a") as stream:
        stream.write('{"event": "tra')  # half a line
    result = run(numeric_model, directory=tmp_path / "killed", resume=True)
    assert_same_tensors(run(numeric_model, directory=tmp_path / "whole").state, result.state)
    assert log_of(tmp_path / "killed") == log_of(tmp_path / "whole")


def test_a_run_that_was_killed_without_saving_cannot_be_resumed(numeric_model: LanguageModel, tmp_path: Path):
    with pytest.raises(ZeroDivisionError):
        run(numeric_model, directory=tmp_path, report=lambda event: 1 // (event["step"] - 2))
    with pytest.raises(ConfigError, match=rf"{tmp_path} holds no interrupted run to resume \({CHECKPOINT} is not"):
        run(numeric_model, directory=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": replace(CONFIG, steps=10)}, r"steps was 9, now 10\)"),
        (
            {"config": replace(CONFIG, seed=3, learning_rate=0.5)},
            r"learning_rate was 0.02, now 0.5; seed was 0, now 3\)",
        ),
        ({"config": replace(CONFIG, targets="attention")}, "targets was 'all-linear', now 'attention'"),
        ({"codec": replace(FIXED, headroom=3.0)}, r"codec was .*'headroom': 2.0.*, now .*'headroom': 3.0"),
        ({"training": waves(seed=5)}, r"\(data was"),
        ({"held_out": waves(2, 12, seed=5)}, r"\(validation_data was"),
    ],
)
def test_resuming_with_another_setting_is_refused_by_its_name(
    numeric_model: LanguageModel, tmp_path: Path, change: dict[str, Any], message: str
):
    with pytest.raises(Interrupted):
        run(numeric_model, directory=tmp_path, report=stop_at(1))
    log = (tmp_path / "metrics.jsonl").read_text()
    config = change.pop("config", CONFIG)
    with pytest.raises(ModelError, match=message):
        run(numeric_model, config, directory=tmp_path, resume=True, **change)
    assert (tmp_path / "metrics.jsonl").read_text() == log
    run(numeric_model, directory=tmp_path, resume=True)  # the right settings still resume it


def test_resuming_on_another_base_is_refused(numeric_model: LanguageModel, tmp_path: Path):
    with pytest.raises(Interrupted):
        run(numeric_model, directory=tmp_path, report=stop_at(1))
    with pytest.raises(ModelError, match="base was"):
        run(replace(numeric_model, fingerprint="another"), directory=tmp_path, resume=True)


def test_a_run_may_be_outside_the_main_thread(numeric_model: LanguageModel):
    results: list[TuneResult] = []
    thread = threading.Thread(target=lambda: results.append(run(numeric_model, replace(CONFIG, steps=1))))
    thread.start()
    thread.join()
    assert results[0].record["steps"] == 1


def test_a_second_ctrl_c_stops_at_once_and_the_handler_is_put_back():
    before = signal.getsignal(signal.SIGINT)
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert interruption.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_full_disk_is_an_error_that_names_the_log(tmp_path: Path):
    with JsonLines(tmp_path / "metrics.jsonl") as log:
        log.stream.close()
        log.stream = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115
        with pytest.raises(DataError, match=r"metrics\.jsonl: cannot be written: No space left"):
            log.write({"step": 1})


# -- budgets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("convention", ["executed", "published"])
@pytest.mark.parametrize(("steps", "validations"), [(1, 2), (3, 2), (4, 2), (5, 3), (8, 3)])
def test_a_budget_is_spent_to_the_flop(
    numeric_model: LanguageModel, steps: int, validations: int, convention: Convention
):
    cost = PassCost(numeric_model.network.config, 15, CONFIG.lora)
    step, validation = cost.training(CONFIG.batch, STEP_TOKENS - 1).total, cost.forward(2, STEP_TOKENS - 1).total
    spent, reserve = Flops(1_000, 1_500), Flops(777, 888)
    budget = (spent + reserve + steps * step + validations * validation).of(convention)
    for left_over, planned in ((0, steps), (step.of(convention) - 1, steps), (-1, steps - 1)):
        ledger = Ledger(budget + left_over, convention, {"before": spent})
        if planned == 0:
            with pytest.raises(BudgetError, match="raise --flops"):
                run(numeric_model, ledger=ledger, reserve=reserve)
            continue
        events: list[dict[str, Any]] = []
        result = run(numeric_model, ledger=ledger, reserve=reserve, report=events.append)
        trained = [event for event in events if event["event"] == "train"]
        assert result.record["steps"] == len(trained) == planned
        assert result.record["stopped"] == "budget"
        assert {event["steps"] for event in trained} == {planned}  # the learning rate is planned for them
        assert ledger.spent["training"] == planned * step
        total = (ledger.total + reserve).of(convention)
        assert total <= budget + left_over
        if left_over == 0:
            assert total == budget
        assert (events[-1]["flops"], events[-1]["flops_published"]) == (ledger.total.executed, ledger.total.published)
        assert events[-1]["event"] == "validation"
        assert events[-1]["step"] == planned


def test_a_resumed_run_needs_no_second_budget(numeric_model: LanguageModel, tmp_path: Path):
    free = Ledger()
    expected = run(numeric_model, ledger=free)
    ledger = Ledger(free.total.executed)
    with pytest.raises(Interrupted):
        run(numeric_model, ledger=ledger, directory=tmp_path, report=stop_at(CONFIG.steps - 1))
    result = run(numeric_model, ledger=ledger, directory=tmp_path, resume=True)  # hardly anything is left of it
    assert_same_tensors(result.state, expected.state)
    assert ledger.left == 0


@given(
    asked=st.integers(1, 60),
    every=st.integers(1, 25),
    step=st.integers(1, 10**15),
    validation=st.integers(0, 10**15),
    reserve=st.integers(0, 10**15),
    spent=st.integers(0, 10**15),
    fitting=st.integers(0, 70),
    delta=st.integers(-1, 1),
    convention=st.sampled_from(["executed", "published"]),
)
def test_the_planned_steps_are_the_most_that_fit(
    asked, every, step, validation, reserve, spent, fitting, delta, convention
):
    def flops(counted: int) -> Flops:
        return Flops(counted, 10**20) if convention == "executed" else Flops(10**20, counted)

    def total(steps: int) -> int:
        """Of a run of so many steps, from its start to its end."""
        sum_, validated = validation, 0
        for number in range(1, steps + 1):
            sum_ += step
            if number % every == 0:
                sum_, validated = sum_ + validation, number
        return sum_ + (validation if validated < steps else 0) + reserve

    config = replace(CONFIG, steps=asked, validate_every=every)
    budget = spent + total(fitting) + delta
    ledger = Ledger(budget, convention, {"before": flops(spent)})
    affordable = [steps for steps in range(1, asked + 1) if spent + total(steps) <= budget]
    costs = TuningCosts(flops(step), flops(validation))
    if affordable:
        assert affordable_steps(config, costs, flops(reserve), ledger) == affordable[-1]
    else:
        with pytest.raises(BudgetError, match=rf"FLOPs \({convention}\) do not allow one step"):
            affordable_steps(config, costs, flops(reserve), ledger)
    assert affordable_steps(config, costs, flops(reserve), Ledger(None, convention)) == asked


def test_what_tuning_will_cost_is_known_before(numeric_model: LanguageModel):
    held_out = windows(waves(2, 12, seed=1), CONFIG.context, CONFIG.horizon)
    for codec, tolerance in ((FIXED, 0.0), (DECIMAL, 0.1)):  # of decimal numbers, a mean is all that is known
        ledger = Ledger()
        run(numeric_model, codec=codec, ledger=ledger)
        costs = tuning_costs(numeric_model, waves(), held_out, codec, CONFIG)
        assert costs.of(CONFIG, 0) + costs.validation == 2 * costs.validation
        for convention in ("executed", "published"):
            told = costs.of(CONFIG, CONFIG.steps).of(convention)
            assert told == pytest.approx(ledger.total.of(convention), rel=tolerance, abs=0)


def test_a_budget_that_is_too_small_is_refused_before_anything_is_computed(
    numeric_model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Transformer, "hidden", lambda *_: pytest.fail("the model was run"))
    ledger = Ledger(1e6)
    with pytest.raises(
        BudgetError, match=r"1\.000e\+06 FLOPs \(executed\) do not allow one step .* raise --flops or lower"
    ):
        run(numeric_model, ledger=ledger, directory=tmp_path / "a")
    assert ledger.spent == {}
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("convention", ["executed", "published"])
def test_fit_keeps_to_its_budget_with_its_forecasts(numeric_model: LanguageModel, convention: Convention):
    base, config = Forecaster(numeric_model, FIXED), replace(CONFIG, validation_series=2, learning_rate=0.005)
    flops = base.fit(waves(), tune=config).record["flops"]
    for spent in flops.values():
        assert spent["total"] == spent["training"] + spent["validation"] + spent["forecasts"]
    total = flops[convention]["total"]
    tight = base.fit(waves(), tune=config, ledger=Ledger(total, convention))
    assert tight.record["result"]["steps"] == config.steps
    assert tight.record["flops"] == flops
    less = base.fit(waves(), tune=config, ledger=Ledger(total - 1.0, convention))
    assert less.record["result"]["steps"] == config.steps - 1
    assert less.record["flops"][convention]["total"] < total
    if convention == "executed":  # in which the settings name a budget
        assert base.fit(waves(), tune=replace(config, flops=float(total))).record["flops"] == flops
        less = base.fit(waves(), tune=replace(config, flops=total - 1.0))
        assert less.record["result"]["steps"] == config.steps - 1


# -- when to stop ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patience", "losses", "steps", "best"),
    [
        (2, [5, 4, 4.5, 3, 3, 3.5, 1, 1, 1, 1], 5, 3),  # no worse is not better
        (2, [3, 4, 5, 1, 1, 1, 1, 1, 1, 1], 2, 0),
        (1, [3, 2, 1, 2, 0, 0, 0, 0, 0, 0], 3, 2),
        (3, [9, 8, 8, 8, 7, 8, 8, 6, 8, 8], 9, 7),
        (None, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 9, 0),
        (9, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 9, 0),  # it would end where the steps do
    ],
)
def test_patience_ends_a_run_that_gets_no_better(
    numeric_model: LanguageModel, monkeypatch: pytest.MonkeyPatch, patience, losses, steps, best
):
    told = iter(losses)
    monkeypatch.setattr(TrainingStep, "mean_loss", lambda *_: float(next(told)))
    events: list[dict[str, Any]] = []
    ledger = Ledger()
    result = run(
        numeric_model, replace(CONFIG, validate_every=1, patience=patience), ledger=ledger, report=events.append
    )
    assert result.record["steps"] == steps
    assert result.record["stopped"] == ("patience" if steps < CONFIG.steps else None)
    assert result.record["best_step"] == best
    assert result.record["planned_steps"] == CONFIG.steps
    assert result.record["validation_loss"] == {"untouched": losses[0], "tuned": losses[best]}
    validations = [event for event in events if event["event"] == "validation"]
    assert [event["loss"] for event in validations] == losses[: steps + 1]  # none is made twice
    assert result.record["validation_nats_per_value"] == validations[best]["nats"]
    assert events[-1]["flops"] == ledger.total.executed
    step = PassCost.of(numeric_model.network, CONFIG.lora).training(CONFIG.batch, STEP_TOKENS - 1).total
    assert ledger.spent["training"] == steps * step


def test_a_caller_may_stop_a_run_after_any_validation_but_the_last(numeric_model: LanguageModel):
    events: list[dict[str, Any]] = []
    asked: list[tuple[int, float]] = []

    def stop(step: int, nats: float) -> str | None:
        asked.append((step, nats))
        return "pruned" if step == 6 else None

    config = replace(CONFIG, validate_every=3)
    result = run(numeric_model, config, stop=stop, report=events.append)
    told = [(event["step"], event["nats"]) for event in events if event["event"] == "validation"]
    assert asked == told[1:] == told[-2:]
    assert (result.record["steps"], result.record["stopped"]) == (6, "pruned")
    asked.clear()
    result = run(numeric_model, replace(config, steps=6), stop=stop)
    assert [step for step, _ in asked] == [3]
    assert (result.record["steps"], result.record["stopped"]) == (6, None)


def test_what_is_learned_before_a_run_is_stopped_does_not_depend_on_that(numeric_model: LanguageModel):
    whole: list[dict[str, Any]] = []
    run(numeric_model, report=whole.append)
    events: list[dict[str, Any]] = []
    run(numeric_model, stop=lambda step, nats: "enough", report=events.append)
    assert len(events) == 1 + 4 + 1
    assert [event["loss"] for event in events] == [event["loss"] for event in whole[: len(events)]]


class Died(Exception):
    """Stands for the end of a process."""


@pytest.mark.parametrize("reason", ["patience", "pruned"])
@pytest.mark.parametrize("moment", ["before its checkpoint", "after its checkpoint", "when it had ended"])
def test_a_run_that_died_when_it_was_to_stop_stops_all_the_same(
    numeric_model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str, moment: str
):
    asked: list[tuple[int, float]] = []

    def stop(step: int, nats: float) -> str | None:
        asked.append((step, nats))
        return "pruned" if reason == "pruned" and step >= 9 else None

    patience = 2 if reason == "patience" else None
    config = replace(CONFIG, steps=40, validate_every=3, patience=patience, learning_rate=0.05, jitter=0.0, noise=0.0)
    options: dict[str, Any] = {"training": [Series(np.tile([2.0, 8.0], 20), ("x",))], "held_out": noise(2, 12)}
    ledger = Ledger()
    expected = run(numeric_model, config, directory=tmp_path / "whole", ledger=ledger, stop=stop, **options)
    ended = expected.record["steps"]
    assert expected.record["stopped"] == reason
    assert 3 < ended < 40
    asked_of_whole = sorted(set(asked))

    saved, save = [], session.save_training

    def save_and_die(path: Path, groups: Any, optimizer: Any, record: dict[str, Any]) -> None:
        save(path, groups, optimizer, record)
        saved.append(record["progress"]["step"])
        if saved.count(ended) == {"after its checkpoint": 1, "when it had ended": 2}[moment]:
            raise Died

    def die(event: dict[str, Any]) -> None:
        if event["event"] == "validation" and event["step"] == ended:
            raise Died

    early = moment == "before its checkpoint"
    dying = {"report": die} if early else {}
    with monkeypatch.context() as patch:
        patch.setattr(session, "save_training", save if early else save_and_die)
        with pytest.raises(Died):
            run(numeric_model, config, directory=tmp_path / "parts", stop=stop, **dying, **options)
    events: list[dict[str, Any]] = []
    resumed, again = Ledger(), {"directory": tmp_path / "parts", "resume": True, "stop": stop, **options}
    result = run(numeric_model, config, ledger=resumed, report=events.append, **again)
    assert [event["event"] for event in events].count("train") == (3 if early else 0)
    assert_same_tensors(result.state, expected.state)
    assert record_of(result) == record_of(expected)
    assert log_of(tmp_path / "parts") == log_of(tmp_path / "whole")
    assert resumed == ledger
    assert sorted(set(asked)) == asked_of_whole  # to the bit


def fit_and_die(model: Path, directory: Path, moment: str) -> None:
    """Tunes in a process of its own until that is killed: after the checkpoint of step 4 and before that of step 8."""
    replace_file, replaced = Path.replace, []

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def report(event: dict[str, Any]) -> None:
        if moment == "between two validations" and event["event"] == "train" and event["step"] == 6:
            kill()

    def spy(path: Path, target: Path) -> Path:
        replaced.append(target.name)
        if moment == "while it wrote a checkpoint" and replaced.count(CHECKPOINT) == 2:
            kill()
        return replace_file(path, target)

    Path.replace = spy  # type: ignore[method-assign]
    base = Forecaster.from_pretrained(model, codec=FIXED, device="cpu", precision="float32")
    base.fit(waves(), tune=FITTED, directory=directory, report=report)


FITTED = replace(CONFIG, dropout=0.2, validation_series=1, learning_rate=0.005)


@pytest.mark.parametrize("moment", ["between two validations", "while it wrote a checkpoint"])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    numeric_directory: Path, numeric_model: LanguageModel, tmp_path: Path, moment: str
):
    process = get_context("spawn").Process(target=fit_and_die, args=(numeric_directory, tmp_path / "killed", moment))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert read_record(tmp_path / "killed" / CHECKPOINT)["progress"]["step"] == 4
    last = log_of(tmp_path / "killed")[-1]
    assert last["step"] == (6 if moment == "between two validations" else 8)

    base, whole, parts = Forecaster(numeric_model, FIXED), Ledger(), Ledger()
    expected = base.fit(waves(), tune=FITTED, directory=tmp_path / "whole", ledger=whole)
    events: list[dict[str, Any]] = []
    resumed = base.fit(
        waves(), tune=FITTED, directory=tmp_path / "killed", resume=True, ledger=parts, report=events.append
    )
    assert events[0]["step"] == 5
    adapter = "adapter_model.safetensors"
    assert (tmp_path / "killed" / adapter).read_bytes() == (tmp_path / "whole" / adapter).read_bytes()
    assert log_of(tmp_path / "killed") == log_of(tmp_path / "whole")
    assert parts == whole
    assert resumed.record["flops"] == expected.record["flops"] == whole.to_dict()
    assert resumed.record["validation_forecasts"] == expected.record["validation_forecasts"]
    assert not (tmp_path / "killed" / CHECKPOINT).exists()


# -- nats a value ------------------------------------------------------------------------------------------------


def gappy_pairs() -> list[Series]:
    """Two variables of very different sizes, one of them signed, with missing values."""
    made = []
    for index in range(3):
        random = np.random.default_rng(index)
        values = random.uniform([1, -40], [9, 60], (12, 2)) * (index + 1)
        values[1:][random.random((11, 2)) < 0.2] = np.nan
        made.append(Series(values, ("a", "b"), str(index)))
    return made


@pytest.mark.parametrize("codec", [FIXED, Codec(digits=3, scale="joint"), DECIMAL], ids=["fixed", "joint", "decimal"])
def test_nats_a_value_are_the_density_of_the_text_in_the_series_own_units(numeric_model: LanguageModel, codec: Codec):
    held_out, events = gappy_pairs(), []
    pairs = [Series(np.nan_to_num(one.values, nan=1.0), one.names, one.id) for one in held_out]
    run(numeric_model, codec=codec, training=pairs, held_out=held_out, report=events.append)
    log_densities, values = [], 0
    for one in held_out:
        scale = codec.fit_scale(one.values[: CONFIG.context])
        ids = torch.from_numpy(codec.encode(one.values, scale).ids)
        with torch.no_grad():
            log_p = torch.log_softmax(numeric_model.network(ids[None])[0], -1)
        first = len(codec.encode(one.values[: CONFIG.context], scale).ids)
        told = [float(log_p[at - 1, ids[at]]) for at in range(first, len(ids)) if ids[at] != MISSING]
        observed = ~np.isnan(one.values[CONFIG.context :])
        units = np.broadcast_to(scale.unit, observed.shape)[observed]
        log_densities.append(sum(told) - np.log(units).sum())
        values += observed.sum()
    assert events[0]["nats"] == pytest.approx(-sum(log_densities) / values, rel=1e-5)
    losses, nats = (np.array([event[key] for event in events if "nats" in event]) for key in ("loss", "nats"))
    slope, intercept = np.polyfit(losses, nats, 1)  # an affine map, so that both are best at the same step
    assert slope > 0
    np.testing.assert_allclose(nats, slope * losses + intercept, rtol=1e-6)


def test_nats_a_value_follow_the_units_of_a_series_and_the_loss_does_not(numeric_model: LanguageModel):
    found = []
    for factor in (1.0, 1000.0):
        events: list[dict[str, Any]] = []
        held_out = [Series(factor * one.values, one.names, one.id) for one in waves(2, 12, seed=1)]
        result = run(numeric_model, held_out=held_out, report=events.append)
        assert result.record["validation_nats_per_value"] == min(event["nats"] for event in events if "nats" in event)
        found.append(events[0])
    assert found[1]["loss"] == pytest.approx(found[0]["loss"], rel=1e-6)
    assert found[1]["nats"] == pytest.approx(found[0]["nats"] + math.log(1000), rel=1e-6)


def test_nats_a_value_can_be_compared_between_digits():
    """Whoever knows nothing but the range of a value needs ln 10 nats a digit, and the same density for any digits."""
    held_out = windows(waves(3, 12), CONFIG.context, CONFIG.horizon)
    found = []
    for digits in (1, 2, 3, 5):
        codec = Codec(digits=digits)
        batch = encode_batch(codec, np.stack([window.values for window in held_out]), CONFIG.context).after(8)
        of_digits = batch.in_loss & (batch.symbols < 10)
        loss = of_digits.sum() * math.log(10) / batch.in_loss.sum()  # separators are certain
        found.append(train._nats_a_value(codec, held_out, batch)(loss))
    ranges = [2 * np.percentile(window.context_values, 99) for window in held_out]
    expected = np.mean(np.log(ranges))
    np.testing.assert_allclose(found, expected, rtol=0.03)
    np.testing.assert_allclose(found[2:], expected, rtol=1e-3)  # 999 is not quite 1000


# -- windows -----------------------------------------------------------------------------------------------------


def numbered(lengths: list[int]) -> list[Series]:
    """Series whose values say which series and step they are: 1000 · series + step."""
    return [
        Series(1000.0 * index + np.arange(float(length)), ("x",), str(index)) for index, length in enumerate(lengths)
    ]


@given(n=st.integers(2, 40), seed=st.integers(0, 5), fraction=st.floats(0.05, 0.5))
def test_held_out_series_are_whole_and_never_trained_on(n: int, seed: int, fraction: float):
    series = numbered([20] * n)
    training, validation = hold_out(series, 8, 4, seed, fraction)
    held_out = {window.series.id for window in validation}
    assert training
    assert held_out
    assert {one.id for one in training} | held_out == {one.id for one in series}
    assert not {one.id for one in training} & held_out
    assert len(validation) == len(held_out) * len(windows(series[:1], 8, 4))


@given(context=st.integers(1, 12), horizon=st.integers(1, 12), spare=st.integers(0, 60))
def test_the_end_of_a_single_series_is_held_out(context: int, horizon: int, spare: int):
    series = numbered([context + 2 * horizon + spare])
    try:
        training, validation = hold_out(series, context, horizon)
    except DataError:
        assert round(0.15 * series[0].steps) > horizon  # more than the horizon is kept back
        assert series[0].steps - round(0.15 * series[0].steps) < context + horizon
        return
    trained_on = set(training[0].values.ravel().tolist())
    futures = {value for window in validation for value in window.future_values.ravel().tolist()}
    assert futures
    assert not trained_on & futures
    assert training[0].steps >= context + horizon
    np.testing.assert_array_equal(validation[0].context_values[:, 0], training[0].values[-context:, 0])


def test_a_single_series_that_is_too_short_says_what_it_takes():
    with pytest.raises(DataError, match=r"'0' has 15 steps; to train on it alone .* takes 16 .*shorten --context"):
        hold_out(numbered([15]), 8, 4)


def test_windows_are_drawn_uniformly_from_all_positions():
    lengths = [12, 30, 17]
    drawn = WindowSource(numbered(lengths), 12, seed=0).draw(0, 25 * 40)  # [1000, 12, 1]
    np.testing.assert_array_equal(np.diff(drawn[:, :, 0], axis=1), 1)  # each lies within one series
    starts, counts = np.unique(drawn[:, 0, 0], return_counts=True)
    every = [1000.0 * index + start for index, length in enumerate(lengths) for start in range(length - 11)]
    assert starts.tolist() == every
    assert chisquare(counts).pvalue > 0.01


def test_a_steps_windows_depend_on_seed_and_step_alone():
    series = numbered([60, 50])
    source = WindowSource(series, 12, seed=4)
    steps: Iterator[np.ndarray] = (source.draw(step, 8) for step in (0, 1, 2, 1))
    zeroth, first, _, again = steps
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, WindowSource(series, 12, seed=4).draw(1, 8))
    assert not np.array_equal(first, zeroth)
    assert not np.array_equal(first, WindowSource(series, 12, seed=5).draw(1, 8))


def jittered(codec: Codec, jitter: float, step: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The integers [B, W, D] that a step's windows are written with, and the plain ones."""
    walks = [Series(np.add(one.values, [3.0, 30.0]), ("x", "y"), one.id) for one in noise(3, 12)]
    source = WindowSource(walks, 12, seed=0)
    config = replace(CONFIG, batch=16, jitter=jitter, noise=0.0, gaps=0.0)
    batch = draw_batch(source, codec, config, step)
    plain = draw_batch(source, codec, replace(config, jitter=0.0), step)
    whole = codec.decode(np.stack([batch.symbols, plain.symbols]), Scale(np.zeros(2), np.ones(2)), 12)
    return whole.values[0], whole.values[1]


def test_jitter_writes_a_window_in_other_sizes_and_changes_nothing_else():
    codec = Codec(digits=4)
    written, plain = jittered(codec, 0.3)
    factor = (written / plain).mean(1)  # [B, D], of the units
    np.testing.assert_allclose(written, plain * factor[:, None], rtol=2e-3)  # but for rounding
    assert 1 / 0.75 > factor.max() > 1.2 > 0.85 > factor.min() > 0.73
    assert abs(np.corrcoef(factor.T)[0, 1]) < 0.9  # by variable
    assert len(np.unique(factor.round(3))) > 24  # and by window
    again, _ = jittered(codec, 0.3)
    np.testing.assert_array_equal(again, written)
    assert not np.array_equal(jittered(codec, 0.3, step=1)[0] / jittered(codec, 0.3, step=1)[1], written / plain)


def test_jitter_keeps_the_ratio_of_variables_that_share_a_unit_and_a_data_sets_unit():
    written, plain = jittered(Codec(digits=4, scale="joint"), 0.3)
    factor = (written / plain).mean(1)
    np.testing.assert_allclose(factor[:, 0], factor[:, 1], rtol=0.02)
    assert np.ptp(factor) > 0.2
    whole = Codec(digits=4).with_dataset_scale([np.add(one.values, [3.0, 30.0]) for one in noise(3, 12)])
    np.testing.assert_array_equal(*jittered(whole, 0.3))


def test_some_contexts_have_gaps_and_no_future_has():
    codec = Codec(digits=4)
    walks = [Series(np.add(one.values, [30.0, 30.0]), ("x", "y"), one.id) for one in noise(3, 60)]
    source = WindowSource(walks, 60, seed=0)
    config = replace(CONFIG, batch=400, context=40, horizon=20, jitter=0.0, noise=0.0, gaps=0.25)
    batch = draw_batch(source, codec, config, 0)
    values = codec.decode(batch.symbols, Scale(np.zeros(2), np.ones(2)), 60).values  # [B, W, D]
    missing = np.isnan(values)
    assert not missing[:, 0].any()
    assert not missing[:, 40:].any()
    share = missing[:, 1:40].mean((1, 2))
    gappy = share > 0
    assert 0.18 < gappy.mean() < 0.32
    assert 0.01 < share[gappy].min() < 0.15
    assert 0.5 < share.max() < 0.75
    assert 0.28 < share[gappy].mean() < 0.37
    assert not np.array_equal(missing[gappy][:, :, 0], missing[gappy][:, :, 1])  # a number at a time
    whole = draw_batch(source, codec, replace(config, gaps=0.0), 0)
    assert not np.isnan(codec.decode(whole.symbols, Scale(np.zeros(2), np.ones(2)), 60).values).any()


def test_most_windows_are_tuned_on_with_observation_noise_unless_it_is_zero():
    waves = [Series(3 + np.sin(np.arange(80.0) / (3 + number))[:, None], ("x",), str(number)) for number in range(30)]
    source = WindowSource(waves, 30, seed=0)
    noisy = TuneConfig(batch=200, context=20, horizon=10, gaps=0.0, jitter=0.0)
    assert noisy.observation_noise == 0.3
    clean = replace(noisy, observation_noise=0.0)
    read, plain = (draw_batch(source, Codec(digits=3), config, 0).symbols for config in (noisy, clean))
    plain_share = (read == plain).all(1).mean()
    assert 0.15 < plain_share < 0.4  # a quarter has none, and the least cannot be seen in three digits
    assert (read[:, -20:] != plain[:, -20:]).any(1).mean() > 0.5  # what is to be written is as noisy


def test_series_that_are_too_short_to_train_on_are_named():
    with pytest.raises(DataError, match=r"'1' has 11 steps, but a training window needs 12 .*; 2 of 3 are too short"):
        WindowSource(numbered([12, 11, 3]), 12, seed=0)


def test_windows_are_thinned_evenly():
    every = windows(numbered([20]), 8, 4, stride=1)
    assert [window.start for window in evenly_spaced(every, 3)] == [0, 4, 8]
    assert evenly_spaced(every, 1) == every[:1]
    for more in (len(every), 100):
        assert evenly_spaced(every, more) == every


def test_a_fingerprint_knows_values_names_and_order():
    series = waves(2)
    renamed = [Series(one.values, ("y",), one.id) for one in series]
    nudged = [Series(one.values + 1e-12, ("x",), one.id) for one in series]
    found = [fingerprint(one) for one in (series, waves(2), series[::-1], renamed, nudged, series[:1])]
    assert found[0] == found[1]
    assert len(set(found)) == 5


def test_the_learning_rate_rises_and_falls():
    rates = [cosine_schedule(step, 100, 2.0, 0.1, 0.25) for step in range(101)]
    np.testing.assert_allclose(rates[:10], 0.2 * np.arange(1, 11))
    assert rates[10] == 2.0
    assert rates[55] == pytest.approx((2.0 + 0.5) / 2)
    assert rates[100] == pytest.approx(0.5)
    assert all(np.diff(rates[10:]) < 0)
    assert cosine_schedule(0, 1, 2.0, 0.0, 0.0) == 2.0


def test_the_trapezoid_rises_stays_and_falls():
    rates = [trapezoid_schedule(step, 100, 2.0, 0.1, 0.4) for step in range(101)]
    np.testing.assert_allclose(rates[:10], 0.2 * np.arange(1, 11))
    assert rates[10:61] == [2.0] * 51
    np.testing.assert_allclose(rates[60:], np.linspace(2, 0, 41))
    longer = [trapezoid_schedule(step, 200, 2.0, 0.05, 0.2) for step in range(61)]
    assert longer == rates[:61]
    assert trapezoid_schedule(0, 1, 2.0, 0.0, 0.0) == 2.0


def test_muon_changes_all_directions_of_a_matrix_alike_and_adamw_does_not(numeric_model: LanguageModel):
    """After one step B is the change itself: the singular values of Muon lie between 0.7 and 1.2."""
    spread = {}
    for optimizer in ("adamw", "muon"):
        config = replace(CONFIG, optimizer=optimizer, steps=1, warmup=0.0, decay=0.0, rank=4, learning_rate=1e-2)
        state = run(numeric_model, config).state
        (name,) = [name for name in state if "layers.0.mlp.up_proj.lora_B" in name]
        values = torch.linalg.svdvals(state[name])
        spread[optimizer] = float(values[0] / values[-1])
    assert spread["muon"] < 1.8 < 2.5 < spread["adamw"]


def test_the_rate_falls_to_zero_over_the_decay_and_else_to_a_tenth(numeric_model: LanguageModel):
    def rates(**changes: Any) -> list[float]:
        seen: list[dict[str, Any]] = []
        run(numeric_model, replace(CONFIG, steps=8, learning_rate=1e-3, warmup=0.0, **changes), report=seen.append)
        return [event["learning_rate"] for event in seen if event["event"] == "train"]

    np.testing.assert_allclose(rates(decay=0.5), 1e-3 * np.array([1, 1, 1, 1, 1, 0.75, 0.5, 0.25]))
    cosine = rates()
    assert cosine[0] == 1e-3
    assert 1e-4 < cosine[-1] < 2e-4


def test_muons_rate_is_the_same_for_any_width_and_adamws_is_not():
    adamw, muon = TuneConfig(), TuneConfig(optimizer="muon")
    assert adamw.peak_learning_rate(192) > 5 * adamw.peak_learning_rate(896)
    assert muon.peak_learning_rate(192) == muon.peak_learning_rate(896) == 2e-3
    assert replace(muon, learning_rate=0.1).peak_learning_rate(896) == 0.1


def test_what_an_optimiser_or_a_decay_cannot_be_is_told():
    with pytest.raises(LoracastError) as raised:
        TuneConfig(optimizer="sgd", decay=1.5)  # pyright: ignore[reportArgumentType]
    assert "optimizer must be one of adamw, muon, not 'sgd'" in str(raised.value)
    assert "decay must lie in 0 to 1" in str(raised.value)


def test_a_checkpoint_from_before_a_setting_existed_is_resumed(numeric_model: LanguageModel, tmp_path: Path):
    expected = run(numeric_model, directory=tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(numeric_model, directory=tmp_path / "parts", report=stop_at(4))
    path = tmp_path / "parts" / CHECKPOINT
    tensors, metadata = read_tensors(path), read_metadata(path)
    record = json.loads(metadata["record"])
    for name in ("optimizer", "decay"):
        del record["identity"][name]
    write_tensors(path, tensors, {**metadata, "record": json.dumps(record)})
    assert_same_tensors(expected.state, run(numeric_model, directory=tmp_path / "parts", resume=True).state)


def test_every_problem_of_the_settings_is_told_at_once():
    with pytest.raises(LoracastError) as raised:
        TuneConfig(
            steps=0, batch=5, accumulate=2, dropout=1.0, weight_decay=math.nan, targets="q,x", flops=-1.0, patience=0
        )
    for name in ("steps", "batch", "dropout", "weight_decay", "'x'", "flops", "patience must be positive"):
        assert name in str(raised.value)
