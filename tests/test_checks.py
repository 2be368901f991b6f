"""Nothing that is not finite gets into a forecast in silence: weights, options, logits, losses."""

import copy
import json
import math
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from loracast.cli import main
from loracast.codec import Codec
from loracast.compute.cpu import decoder as native_decoder
from loracast.compute.cpu.decoder import NativeDecoder
from loracast.compute.cpu.native import library
from loracast.compute.cuda import CudaCompute
from loracast.compute.drawing import PlainDrawing
from loracast.compute.plain import PlainDecoder
from loracast.engine import pretrain as pretraining
from loracast.engine import sample, train
from loracast.engine.likelihood import log_density
from loracast.engine.pretrain import pretrain
from loracast.engine.sample import PathBatch
from loracast.engine.train import tune
from loracast.errors import ConfigError, Diverged, Interrupted, ModelError
from loracast.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, CHECKPOINT
from loracast.forecaster import Forecaster
from loracast.grammar import MINUS, SEMICOLON
from loracast.language_model import LanguageModel, load_model
from loracast.ledger import Ledger
from loracast.merge import merge
from loracast.model.lora import load_adapter_state
from loracast.model.tensors import read_metadata, write_tensors
from loracast.series import Series, windows
from loracast.settings import SMALLEST, LoraConfig, PretrainConfig, SampleConfig, TuneConfig

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # of kernels, which are interpreted on a CPU
NAN, INFINITE = float("nan"), float("inf")
PLACE: dict[str, Any] = {"device": "cpu", "precision": "float32"}
FIXED, DECIMAL = Codec(digits=2), Codec(layout="decimal", digits=1, leading=2)
TUNE = TuneConfig(
    rank=2, steps=6, batch=4, context=8, horizon=4, learning_rate=0.01, validate_every=2, validation_windows=4,
    validation_series=0,
)  # fmt: skip
PRETRAIN = PretrainConfig(
    hidden=16, layers=1, heads=2, kv_heads=1, mlp=24, digits=1, pool=32, steps=30, batch=4,
    save_every=5, variables=3, tokens=48, long_tokens=96,
    validate_every=30,
)  # fmt: skip


def damage(path: Path, changes: dict[str, Callable[[Tensor], Any]]) -> None:
    """Changes tensors of a safetensors file in place."""
    state, metadata = load_file(path), read_metadata(path)
    for name, change in changes.items():
        change(state[name])
    save_file(state, path, metadata)


def put(value: float, *places: int) -> Callable[[Tensor], Any]:
    def change(tensor: Tensor) -> None:
        tensor.view(-1)[list(places)] = value

    return change


def waves(n: int = 6, steps: int = 40) -> list[Series]:
    time = np.arange(steps)
    return [Series(5 + 4 * np.sin(time + index), ("x",), f"wave {index}") for index in range(n)]


@pytest.fixture
def model_directory(numeric_directory: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(numeric_directory, tmp_path / "model"))


@pytest.fixture
def adapter(numeric_model: LanguageModel, tmp_path: Path) -> Path:
    """The folder of a tuned adapter, which may be damaged."""
    Forecaster(numeric_model, FIXED).fit(waves(), tune=TUNE, directory=tmp_path / "adapter")
    return tmp_path / "adapter"


# -- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "told"), [(NAN, "2 NaN among"), (INFINITE, "2 infinite among"), (-INFINITE, "2 infinite among")]
)
def test_a_weight_that_is_not_finite_is_refused(model_directory: Path, value: float, told: str):
    damage(model_directory / "model.safetensors", {"model.norm.weight": put(value, 3, 5)})
    with pytest.raises(ModelError, match=rf"model\.safetensors: model\.norm\.weight holds {told} its 32 values.*again"):
        load_model(model_directory, **PLACE)


def test_all_damaged_tensors_of_a_shard_are_counted(make_qwen2: Any):
    directory = make_qwen2(max_shard_size="60KB")
    shard = max(directory.glob("model-*.safetensors"), key=lambda path: len(load_file(path)))
    names = sorted(load_file(shard))
    assert len(names) > 4
    damage(shard, dict.fromkeys(names[:5], put(NAN, 0)))
    with pytest.raises(ModelError, match=rf"{shard.name}: .*{names[0]} holds 1 NaN.*and so do 2 other tensors"):
        load_model(directory, **PLACE)


def test_rows_of_the_embedding_that_are_not_loaded_are_not_judged(qwen2_directory: Path, tmp_path: Path):
    directory = Path(shutil.copytree(qwen2_directory, tmp_path / "model"))
    damage(directory / "model.safetensors", {"model.embed_tokens.weight": put(NAN, -1)})
    load_model(directory, **PLACE)
    with pytest.raises(ModelError, match=r"model\.embed_tokens\.weight holds 1 NaN"):
        load_model(directory, vocabulary="full", **PLACE)


def test_a_weight_that_overflows_the_precision_is_refused(model_directory: Path):
    damage(model_directory / "model.safetensors", {"model.norm.weight": put(3.4e38, 0)})
    load_model(model_directory, **PLACE)
    with pytest.raises(ModelError, match=r"too large for bfloat16: take --precision float32"):
        load_model(model_directory, device="cpu", precision="bfloat16")


@pytest.mark.parametrize("value", [NAN, INFINITE])
def test_an_adapter_that_is_not_finite_is_refused(numeric_model: LanguageModel, adapter: Path, value: float):
    base = Forecaster(numeric_model, FIXED)
    base.with_adapter(adapter)
    name = next(iter(load_file(adapter / ADAPTER_WEIGHTS)))
    damage(adapter / ADAPTER_WEIGHTS, {name: put(value, 0)})
    with pytest.raises(ModelError, match=rf"adapter_model\.safetensors: {name} holds 1 (NaN|infinite) .*tune another"):
        base.with_adapter(adapter)


def test_an_adapter_that_overflows_as_it_is_scaled_is_refused(numeric_model: LanguageModel, adapter: Path, edit_json):
    edit_json(adapter / ADAPTER_CONFIG, lora_alpha=1e30)
    name = next(name for name in load_file(adapter / ADAPTER_WEIGHTS) if "lora_B" in name)
    damage(adapter / ADAPTER_WEIGHTS, {name: put(1e30, 0)})
    with pytest.raises(ModelError, match=rf"{name} holds 1 infinite .*what is stored is finite, but too large"):
        Forecaster(numeric_model, FIXED).with_adapter(adapter)


@pytest.mark.parametrize("changes", [{"lora_alpha": NAN}, {"lora_alpha": 0.0}, {"lora_alpha": 1e39},
                                     {"lora_alpha": "much"}, {"lora_dropout": NAN}])  # fmt: skip
def test_an_adapter_of_impossible_settings_is_refused(numeric_model, adapter: Path, edit_json, changes):
    edit_json(adapter / ADAPTER_CONFIG, **changes)
    with pytest.raises(ModelError, match=r"adapter_config\.json: .*(alpha|dropout|'much')"):
        Forecaster(numeric_model, FIXED).with_adapter(adapter)


def test_a_merge_that_overflows_what_it_stores_writes_nothing(make_qwen2: Any, tmp_path: Path):
    source = make_qwen2(dtype=torch.float16)
    base = load_model(source, **PLACE)
    Forecaster(base, FIXED).fit(waves(), tune=TUNE, directory=tmp_path / "adapter")
    names = [name for name in load_file(tmp_path / "adapter" / ADAPTER_WEIGHTS) if "q_proj" in name]
    damage(tmp_path / "adapter" / ADAPTER_WEIGHTS, dict.fromkeys(names, lambda tensor: tensor.fill_(300.0)))
    with pytest.raises(ModelError, match=r"q_proj\.weight holds .* infinite .*float16: take --precision float32"):
        merge(source, tmp_path / "adapter", tmp_path / "merged")
    assert not (tmp_path / "merged" / "model.safetensors").exists()
    merge(source, tmp_path / "adapter", tmp_path / "merged", "float32")


def test_what_is_not_finite_is_never_written(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": torch.ones(3), "empty": torch.ones(0), "count": torch.arange(3)})
    with pytest.raises(ModelError, match=r"x\.safetensors: a holds 1 infinite among its 3 values; nothing was written"):
        write_tensors(path, {"a": torch.tensor([1.0, INFINITE, 2.0])})
    assert load_file(path)["a"].tolist() == [1.0, 1.0, 1.0]


# -- logits as they are drawn ----------------------------------------------------------------------------------------


def drawings(codec: Codec, paths: int, horizon: int, config: SampleConfig) -> tuple[PlainDrawing, Any, int]:
    """The plain drawing and the kernel's, interpreted on a CPU, of a head that is sound but for the minus sign."""
    pytest.importorskip("triton")
    from loracast.compute.cuda.drawing import FusedDrawing

    grammar = codec.grammar(2)
    generator = torch.Generator().manual_seed(0)
    head = torch.randn(15, 48, generator=generator)
    if codec.layout == "fixed":
        head[MINUS, 0] = NAN  # which the grammar bars
    length = horizon * grammar.step_tokens
    uniforms = 1 - torch.rand(paths, length, generator=generator)
    head, rows, uniforms = head.to(DEVICE), torch.arange(15, device=DEVICE), uniforms.to(DEVICE)
    plain = PlainDrawing(head, rows, uniforms, grammar, horizon, config)
    fused = FusedDrawing(head, rows, uniforms, grammar, horizon, config)
    return plain, fused, length


@pytest.mark.parametrize("config", [SampleConfig(), SampleConfig(temperature=0.5, top_p=0.8)], ids=["all", "nucleus"])
@pytest.mark.parametrize("codec", [FIXED, DECIMAL], ids=["fixed", "decimal"])
@pytest.mark.filterwarnings("ignore:All-NaN slice")  # of the interpreter, as are numpy's own
@np.errstate(all="ignore")
def test_both_drawings_note_the_same_paths_and_positions(codec: Codec, config: SampleConfig):
    plain, fused, length = drawings(codec, 21, 2, config)
    broken = {0: (3, NAN), 4: (5, INFINITE), 17: (0, -INFINITE), 20: (length - 2, NAN)}  # a path: where, with what
    generator = torch.Generator().manual_seed(1)
    grammar, position, state, ended, noted = codec.grammar(2), 0, 0, {}, {}
    while position < length:
        new = 1
        if grammar.lockstep:
            state = grammar.follow(state)
            while grammar.forced[state]:
                new, state = new + 1, grammar.follow(state)
        hidden = torch.randn(21, 48, generator=generator).to(DEVICE)
        for path, (where, value) in broken.items():
            if where <= position:
                hidden[path] = value
                if not ended.get(path):
                    noted.setdefault(path, position)
        fed = [torch.zeros(21, new, dtype=torch.int64, device=DEVICE) for _ in range(2)]
        plain.draw(hidden, position, fed[0])
        fused.draw(hidden, position, fed[1])
        ended = dict(enumerate((plain.steps_left <= 0).tolist()))
        position += new
    assert len(noted) >= 3
    expected = [noted.get(path, length) for path in range(21)]
    assert plain.unsound_from.tolist() == expected
    assert fused.unsound_from.tolist() == expected


@pytest.mark.filterwarnings("ignore:All-NaN slice")
def test_a_logit_that_overflows_at_its_temperature_is_noted():
    plain, fused, _ = drawings(FIXED, 3, 1, SampleConfig(temperature=1e-6))
    hidden = torch.ones(3, 48, device=DEVICE)
    hidden[:, 0], hidden[1] = 0.0, 3e36
    for drawing in (plain, fused):
        with np.errstate(all="ignore"):
            drawing.draw(hidden, 0, torch.zeros(3, 1, dtype=torch.int64, device=DEVICE))
        assert drawing.unsound_from[1] == 0
    assert torch.equal(plain.unsound_from, fused.unsound_from.long())


class Breaking:
    """A decoder whose hidden states of one path turn to NaN in its pass `at`."""

    def __init__(self, decoder: Any, path: int, at: int):
        self.decoder, self.path, self.at, self.passes, self.buffer = decoder, path, at, 0, decoder.buffer

    def prefill(self) -> Tensor:
        return self._broken(self.decoder.prefill())

    def advance(self, ids: Tensor) -> Tensor:
        return self._broken(self.decoder.advance(ids))

    def _broken(self, hidden: Tensor) -> Tensor:
        self.passes += 1
        if self.passes > self.at:
            hidden = hidden.clone()
            hidden[self.path] = NAN
        return hidden


def batch_of(model: LanguageModel, codec: Codec, samples: int = 3) -> PathBatch:
    texts = []
    for seed in range(2):
        values = np.random.default_rng(seed).uniform(1, 9, (6, 1))
        texts.append(codec.encode(values, codec.fit_scale(values)).ids)
    streams = [(name, number, 0) for name in ("hare", "lynx") for number in range(samples)]
    return PathBatch(model, texts, streams, codec.grammar(1), SampleConfig(samples))


@pytest.mark.parametrize("codec", [FIXED, DECIMAL], ids=["fixed", "decimal"])
@pytest.mark.filterwarnings("ignore:All-NaN slice")
@pytest.mark.parametrize("way", ["plain", "native", "kernel", "unconstrained"])
def test_every_way_to_draw_names_the_first_path_that_breaks(
    way: str, codec: Codec, numeric_model: LanguageModel, qwen2_directory: Path, make_numeric: Any, monkeypatch
):
    model, decoders = numeric_model, []
    if way == "native":
        if library() is None:
            pytest.skip("needs Linux and a C compiler")
        directory = make_numeric(head_dim=32, hidden_size=64, intermediate_size=96)
        model = load_model(directory, device="cpu", precision="bfloat16")
        assert native_decoder.refusal(model.network.config) is None
    if way == "kernel":
        pytest.importorskip("triton")
        model = load_model(numeric_model.source, device=DEVICE, precision="float32")
        monkeypatch.setattr(type(model.compute), "drawing_kind", CudaCompute.drawing_kind)
    if way == "unconstrained":
        model = load_model(qwen2_directory, vocabulary="full", **PLACE)
    kind, at = type(model.compute), 5
    make = kind.decoder

    def breaking(*arguments: Any) -> Breaking:
        decoders.append(make(*arguments))
        return Breaking(decoders[-1], 4, at)

    batch, horizon = batch_of(model, codec), 6
    draw = batch.unconstrained if way == "unconstrained" else batch.constrained
    drawn, _ = draw(horizon)
    monkeypatch.setattr(kind, "decoder", breaking)
    with np.errstate(all="ignore"), pytest.raises(ModelError, match="NaN or infinite logits") as raised:
        draw(horizon)
    assert isinstance(decoders[0], NativeDecoder if way == "native" else PlainDecoder)
    told = str(raised.value)
    assert "on 1 of 6 paths" in told
    assert "series 'lynx', path 1" in told
    assert ("--precision float32" in told) == (way == "native")
    position = at
    if codec.layout == "fixed" and way != "unconstrained":  # whose separators have no pass of their own
        position = at // codec.digits * (codec.digits + 1) + at % codec.digits
    step = 1 + int((drawn[1, 1, :position] == SEMICOLON).sum())
    if way != "unconstrained":
        assert f"at step {step} of the forecast" in told


def test_paths_that_ended_may_be_fed_what_is_not_finite(numeric_model: LanguageModel, monkeypatch):
    """A path's result must not depend on how long the others of its batch take."""
    batch, horizon = batch_of(numeric_model, DECIMAL), 4
    drawn, _ = batch.constrained(horizon)
    lengths = [int((row != sample.OTHER).sum()) for row in drawn.reshape(6, -1)]
    shortest = int(np.argmin(lengths))
    assert lengths[shortest] < max(lengths)
    kind = type(numeric_model.compute)
    make = kind.decoder
    monkeypatch.setattr(kind, "decoder", lambda *given: Breaking(make(*given), shortest, lengths[shortest]))
    again, _ = batch.constrained(horizon)
    assert np.array_equal(drawn, again)


def broken_model(model: LanguageModel) -> LanguageModel:
    """As a weight that overflows on the way would have it, which no check of a file sees."""
    network = copy.deepcopy(model.network)
    network.model.norm.weight.data[:] = 1e38
    first: Any = network.model.layers[0]
    first.self_attn.v_proj.weight.data[:] = 3e38
    return model.with_network(network)


def test_a_forecast_is_refused_where_its_logits_overflow(numeric_model: LanguageModel):
    forecaster = Forecaster(broken_model(numeric_model), FIXED)
    with pytest.raises(
        ModelError, match=r"on 8 of 8 paths, first at step 1 of the forecast of series 'wave 0', path 0"
    ):
        forecaster.predict(waves(4), 3, sample=SampleConfig(2))


def test_a_likelihood_is_refused_where_its_logits_overflow(numeric_model: LanguageModel):
    values = np.random.default_rng(0).uniform(1, 9, (3, 8, 1))
    assert np.isfinite(log_density(numeric_model, FIXED, values, 4)).all()
    with pytest.raises(ModelError, match=r"NaN or infinite logits, first for windows\[0\]"):
        log_density(broken_model(numeric_model), FIXED, values, 4, batch=2)


# -- training --------------------------------------------------------------------------------------------------------


def run(model: LanguageModel, directory: Path | None = None, config: TuneConfig = TUNE, **options: Any):
    validation = windows(waves(2, 12), config.context, config.horizon)
    return tune(model, waves(), validation, FIXED, config, Ledger(), directory=directory, **options)


def test_a_training_that_diverges_ends_and_keeps_its_checkpoint(
    numeric_model: LanguageModel, tmp_path: Path, monkeypatch
):
    schedule = train.cosine_schedule
    monkeypatch.setattr(train, "cosine_schedule", lambda step, *rest: INFINITE if step == 3 else schedule(step, *rest))
    with pytest.raises(Diverged, match=r"after step \d, .* is nan.*kept as it was.*lower --learning-rate") as raised:
        run(numeric_model, tmp_path)
    assert raised.value.record["stopped"] == "diverged"
    assert raised.value.record["steps"] in (4, 5)
    assert all(tensor.isfinite().all() for tensor in load_file(tmp_path / CHECKPOINT).values())
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():  # also of the loss that is not finite
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    monkeypatch.undo()
    result = run(numeric_model, tmp_path, resume=True)  # from before it diverged
    assert result.record["steps"] == TUNE.steps


def test_a_gradient_that_is_not_finite_ends_a_training(numeric_model: LanguageModel, monkeypatch):
    def broken(self: Any, batch: Any) -> Tensor:
        for parameter in self.adapters:
            parameter.grad = torch.full_like(parameter, INFINITE)
        return torch.tensor(1.0)

    monkeypatch.setattr(train.TrainingStep, "gradients", broken)
    with pytest.raises(Diverged, match=r"after step 1, the gradient norm is inf"):
        run(numeric_model)


def test_nothing_is_trained_on_a_model_that_does_not_compute(numeric_model: LanguageModel):
    with pytest.raises(ModelError, match=r"the untouched model's validation loss is nan"):
        run(broken_model(numeric_model))


def test_a_damaged_checkpoint_is_not_resumed(numeric_model: LanguageModel, tmp_path: Path):
    def press(event: dict[str, Any]) -> None:
        if event["event"] == "train" and event["step"] == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        run(numeric_model, tmp_path, report=press)
    name = next(name for name in load_file(tmp_path / CHECKPOINT) if name.endswith("exp_avg"))
    damage(tmp_path / CHECKPOINT, {name: put(NAN, 0)})
    with pytest.raises(ModelError, match=rf"training\.safetensors: {name} holds 1 NaN .*; the checkpoint is damaged"):
        run(numeric_model, tmp_path, resume=True)


def test_a_tuned_adapter_that_is_not_finite_is_refused(numeric_model: LanguageModel, adapter: Path):
    network = Forecaster(numeric_model, FIXED).with_adapter(adapter).model.network
    state = load_file(adapter / ADAPTER_WEIGHTS)
    state[next(iter(state))][0, 0] = NAN
    with pytest.raises(ModelError, match=r"the tuned adapter: .* holds 1 NaN"):
        load_adapter_state(network, state, "the tuned adapter")


def test_a_pretraining_that_diverges_ends_and_keeps_its_checkpoint(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(pretraining, "HELD_OUT", 8)
    schedule = pretraining.trapezoid_schedule
    monkeypatch.setattr(
        pretraining, "trapezoid_schedule", lambda step, *rest: INFINITE if step == 6 else schedule(step, *rest)
    )
    with pytest.raises(Diverged, match=r"after step 10, the loss is nan.*training\.safetensors is kept"):
        pretrain(PRETRAIN, tmp_path, device="cpu")
    assert all(tensor.isfinite().all() for tensor in load_file(tmp_path / "training.safetensors").values())
    assert not (tmp_path / "model.safetensors").exists()


# -- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (lambda: SampleConfig(temperature=1e-40), "temperature must lie between 1e-06 and 1e"),
        (lambda: SampleConfig(temperature=1e39), "temperature must lie between"),
        (lambda: SampleConfig(temperature=INFINITE), "temperature must lie between"),
        (lambda: SampleConfig(temperature=NAN), "temperature must be positive, not nan; 1e-4 always draws"),
        (lambda: SampleConfig(temperature=0.0), "temperature must be positive, not 0.0; 1e-4 always draws"),
        (lambda: SampleConfig(top_p=1e-300), "top_p must be at least 1.18e-38"),
        (lambda: SampleConfig(top_p=1e-40), "top_p must be at least 1.18e-38"),
        (lambda: SampleConfig(top_p=NAN), "top_p must lie above 0"),
        (lambda: SampleConfig(samples=NAN), "samples must be at least 1, not nan"),
        (lambda: TuneConfig(learning_rate=1e-40), "learning_rate must be positive; 1e-40 is too small for float32"),
        (lambda: TuneConfig(learning_rate=1e39), "learning_rate must be at most 3.4e+38, the largest number"),
        (lambda: TuneConfig(learning_rate=INFINITE), "learning_rate must be positive, not inf"),
        (lambda: TuneConfig(alpha=1e-38), "alpha must be positive; 1e-38 is too small"),
        (lambda: TuneConfig(alpha=4e-38), "alpha / rank must be a number that float32 holds"),
        (lambda: TuneConfig(dropout=1 - 1e-12), "dropout must lie in 0 to 1"),
        (lambda: TuneConfig(gaps=1e-50), "gaps must be in 0 to 1 (1 excluded); 1e-50 is too small"),
        (lambda: TuneConfig(jitter=1e3), "jitter must be at most 10, the most that makes sense"),
        (lambda: TuneConfig(noise=1e20), "noise must be at most 100"),
        (lambda: TuneConfig(weight_decay=1e39), "weight_decay must be at most"),
        (lambda: PretrainConfig(score_limit=1e39), "score_limit must be at most"),
        (lambda: PretrainConfig(tokens=NAN), "tokens (nan) must hold"),
        (lambda: PretrainConfig(variables=9), "variables must be at most 8, not 9"),
        (lambda: LoraConfig(alpha=NAN), "alpha / rank must be a number that float32 holds"),
        (lambda: LoraConfig(rank=0), "rank must be at least 1"),
        (lambda: LoraConfig(dropout=NAN), "dropout must lie in 0 to 1"),
    ],
)  # fmt: skip
def test_an_option_that_float32_does_not_hold_is_refused(settings: Callable[[], Any], told: str):
    with pytest.raises(ConfigError) as raised:
        settings()
    assert any(problem.startswith(told) for problem in raised.value.problems), raised.value.problems
    assert len(raised.value.problems) == 1


def numbers_of(settings: type) -> list[str]:
    """Options of a class that are numbers, whole or not."""
    return [name for name, kind in settings.__annotations__.items() if str(kind).startswith(("int", "float"))]


@pytest.mark.parametrize("settings", [SampleConfig, TuneConfig, PretrainConfig, LoraConfig])
def test_no_option_may_be_nan_and_all_are_told_at_once(settings: type):
    names = numbers_of(settings)
    assert names
    for name in names:
        with pytest.raises(ConfigError, match=name):
            settings(**{name: NAN})
    with pytest.raises(ConfigError) as raised:
        settings(**dict.fromkeys(names, NAN))
    assert all(any(problem.startswith(name) for problem in raised.value.problems) for name in names)


def test_sensible_extremes_are_allowed(numeric_model: LanguageModel):
    """The least and the most of each: paths are finite, and the narrowest are all one."""
    forecaster = Forecaster(numeric_model, FIXED)
    for options in ({"temperature": 1e-6}, {"temperature": 1e6}, {"top_p": SMALLEST}):
        forecast = forecaster.predict(waves(1), 4, sample=SampleConfig(5, **options))
        assert np.isfinite(forecast.samples).all()
        unit = FIXED.fit_scale(waves(1)[0].values).unit  # a path's value is one of those that are written alike
        spread = np.ptp(forecast.samples, axis=1).max() / unit[0]
        assert (spread > 2) == (options == {"temperature": 1e6})
    TuneConfig(learning_rate=SMALLEST, weight_decay=0.0, jitter=10.0, noise=100.0, dropout=0.5, flops=1e300)


# -- the command line ------------------------------------------------------------------------------------------------


def status_of(words: Sequence[object], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["loracast", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
    return int(stop.value.code or 0), capsys.readouterr().err


def test_the_command_line_refuses_what_is_not_finite(adapter: Path, numeric_model, tmp_path: Path, capsys):
    table, output = tmp_path / "table.csv", tmp_path / "out.csv"
    table.write_text("time,x\n" + "".join(f"{step},{5 + math.sin(step):.3f}\n" for step in range(20)))
    words = ("forecast", table, "--horizon", 3, "--adapter", adapter, "-o", output, "--device", "cpu")
    for options, told in (
        (("--temperature", "1e-40"), "error: temperature must lie between"),
        (("--temperature", "1e39"), "error: temperature must lie between"),
        (("--temperature", "nan"), "error: temperature must be positive, not nan"),
        (("--top-p", "1e-300"), "error: top_p must be at least"),
    ):
        status, said = status_of((*words, *options), capsys)
        assert status == 2
        assert told in said
    name = next(iter(load_file(adapter / ADAPTER_WEIGHTS)))
    damage(adapter / ADAPTER_WEIGHTS, {name: put(NAN, 0, 1)})
    status, said = status_of(words, capsys)
    assert status == 2
    assert f"{ADAPTER_WEIGHTS}: {name} holds 2 NaN among its" in said.replace("\n", " ")
    assert "tune another one" in said
    assert not output.exists()
