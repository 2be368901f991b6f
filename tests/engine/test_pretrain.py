"""Pretraining from scratch: a tiny recipe from start to end, exact resumption, and what its batches are made of."""

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from loracast.codec import Codec
from loracast.engine import pool as pool_module
from loracast.engine import pretrain as module
from loracast.engine.batch import Batch
from loracast.engine.pool import Pool, shared
from loracast.engine.pretrain import initialise, model_config, pretrain
from loracast.engine.score_clip import clip_cost, clip_scores
from loracast.errors import ConfigError, Interrupted, ModelError
from loracast.flops import PassCost
from loracast.forecaster import Forecaster
from loracast.grammar import MISSING, SEMICOLON
from loracast.language_model import load_model
from loracast.model.transformer import Transformer
from loracast.series import Series
from loracast.settings import PretrainConfig, SampleConfig
from loracast.synthetic import FAMILIES
from loracast.transforms import Transform

TINY = PretrainConfig(
    hidden=16,
    layers=2,
    heads=2,
    kv_heads=1,
    mlp=24,
    digits=1,
    variables=3,
    tokens=48,
    long_tokens=96,
    long_every=5,
    pool=80,
    steps=30,
    batch=12,
    learning_rate=0.05,
    validate_every=10,
    save_every=7,
)
CHECKPOINT = "training.safetensors"


@pytest.fixture(autouse=True)
def small_and_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few held-out series, and no series made twice: making them takes longer than a tiny training."""
    monkeypatch.setattr(module, "HELD_OUT", 16)
    monkeypatch.setattr(pool_module, "synthesise", synthesise_once)


synthesise_once = cache(pool_module.synthesise)


@pytest.fixture
def final_weights(monkeypatch: pytest.MonkeyPatch) -> dict[Path, dict[str, Tensor]]:
    """The float32 weights that each output folder's model had before it was rounded to bfloat16."""
    found: dict[Path, dict[str, Tensor]] = {}
    write = module.write_model

    def spy(directory: Path, network: Transformer, *rest: Any) -> None:
        found[directory] = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        write(directory, network, *rest)

    monkeypatch.setattr(module, "write_model", spy)
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one whole run. To be read only."""
    directory = tmp_path_factory.mktemp("pretrained") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "HELD_OUT", 16)
        patch.setattr(pool_module, "synthesise", synthesise_once)
        pretrain(TINY, directory, device="cpu")
    return directory


def stop_at(step: int) -> Callable[[dict[str, Any]], None]:
    def report(event: dict[str, Any]) -> None:
        if event["event"] == "train" and event["step"] == step:
            signal.raise_signal(signal.SIGINT)

    return report


def log_of(directory: Path) -> list[dict[str, Any]]:
    """The log without what depends on the clock, and without the making of the pool, which a resumed run repeats."""
    events = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in event.items() if key != "tokens_per_second"}
        for event in events
        if event["event"] != "pool"
    ]


# -- the recipe --------------------------------------------------------------------------------------------------


def test_the_loss_falls(finished: Path):
    events = log_of(finished)
    training = {event["step"]: event["loss"] for event in events if event["event"] == "train"}
    validation = {event["step"]: event["loss"] for event in events if event["event"] == "validation"}
    assert list(training) == list(validation) == [10, 20, 30]
    start = np.log(20)  # of a model that knows nothing about its 19 or 20 tokens
    assert start > training[10] > training[20] > training[30]
    assert validation[30] < 0.8 * start
    assert validation[30] < validation[10]


def test_what_is_written_says_how_it_was_made(finished: Path):
    names = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json"}
    assert {path.name for path in finished.iterdir()} == names | {"loracast.json", "metrics.jsonl"}
    record = json.loads((finished / "loracast.json").read_text(), parse_constant=pytest.fail)
    assert record["codec"] == Codec(digits=1).to_dict()
    made = record["pretraining"]
    assert PretrainConfig(**made["config"]) == TINY
    assert made["tokens"] == 30 * 12 * 48
    cost = PassCost(model_config(TINY), 19, frozen=False)
    short, long = cost.training(12, 47).total, cost.training(6, 95).total
    training, validation = 24 * short + 6 * long, 3 * cost.forward(16, 47).total
    clipping = 3 * clip_cost(model_config(TINY), 4, 96)  # steps 10, 20 and 30 are of long windows
    assert made["flops"] == {
        convention: {
            "training": training.of(convention),
            "validation": validation.of(convention),
            "clipping": clipping.of(convention),
            "total": (training + validation + clipping).of(convention),
        }
        for convention in ("executed", "published")
    }
    events = [event for event in log_of(finished) if event["event"] == "train"]
    spent = 16 * short + 4 * long + cost.forward(16, 47).total + 2 * clip_cost(model_config(TINY), 4, 96)
    assert events[1]["flops"] == spent.executed
    assert all(event["largest_score"] > 0 for event in events)
    assert made["validation_loss"] == log_of(finished)[-1]["loss"]


def test_transformers_loads_what_is_written(finished: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(finished)
    ids = tokenizer("1,2;3,NaN;", return_tensors="pt").input_ids
    assert ids.tolist() == [[1, 11, 2, 12, 3, 11, 14, 12]]
    model = AutoModelForCausalLM.from_pretrained(finished, dtype=torch.float32)
    own = load_model(finished, vocabulary="full", device="cpu", precision="float32")
    with torch.no_grad():
        torch.testing.assert_close(own.network(ids), model(ids).logits, atol=1e-4, rtol=0)


def test_a_forecaster_forecasts_with_it(finished: Path):
    forecaster = Forecaster.from_pretrained(finished, device="cpu", precision="float32")
    assert forecaster.codec == Codec(digits=1)
    forecast = forecaster.predict(Series(np.sin(np.arange(12.0)), ("x",)), 3, sample=SampleConfig(4))
    assert forecast.valid.all()
    assert np.ptp(forecast.samples) > 0


# -- interruption ------------------------------------------------------------------------------------------------


def test_an_interrupted_and_resumed_run_is_bit_identical(tmp_path: Path, final_weights: dict[Path, dict[str, Tensor]]):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    record = pretrain(TINY, whole, device="cpu")
    with pytest.raises(Interrupted, match="after step 10 of 30; continue with --resume"):
        pretrain(TINY, parts, device="cpu", report=stop_at(10))
    assert {path.name for path in parts.iterdir()} == {CHECKPOINT, "metrics.jsonl"}
    with pytest.raises(ZeroDivisionError):  # killed in step 20; the last checkpoint is that of step 14
        pretrain(TINY, parts, device="cpu", resume=True, report=lambda event: 1 // (event["step"] - 20))
    resumed = pretrain(TINY, parts, device="cpu", resume=True)
    assert final_weights[whole].keys() == final_weights[parts].keys()
    for name, tensor in final_weights[whole].items():
        assert torch.equal(tensor, final_weights[parts][name]), name
    assert log_of(parts) == log_of(whole)
    assert resumed["pretraining"]["validation_loss"] == record["pretraining"]["validation_loss"]
    assert resumed["pretraining"]["flops"] == record["pretraining"]["flops"]
    assert not (parts / CHECKPOINT).exists()


def test_ctrl_c_in_the_last_step_lets_the_run_end(tmp_path: Path, finished: Path):
    pretrain(TINY, tmp_path / "a", device="cpu", report=stop_at(30))
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()


def test_an_earlier_model_or_run_is_never_overwritten(tmp_path: Path, finished: Path):
    with pytest.raises(ConfigError, match=f"{finished} already holds a model or an interrupted run"):
        pretrain(TINY, finished, device="cpu")
    with pytest.raises(ConfigError, match="has no interrupted pretraining to resume"):
        pretrain(TINY, finished, device="cpu", resume=True)
    with pytest.raises(Interrupted):
        pretrain(TINY, tmp_path, device="cpu", report=stop_at(10))
    with pytest.raises(ConfigError, match="already holds"):
        pretrain(TINY, tmp_path, device="cpu")


def test_resuming_with_another_setting_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(Interrupted):
        pretrain(TINY, tmp_path, device="cpu", report=stop_at(10))
    monkeypatch.setattr(pool_module, "synthesise", lambda *_, **__: pytest.fail("series were made"))
    with pytest.raises(ModelError, match=r"learning_rate was 0\.05, now 0\.01; steps was 30, now 40"):
        pretrain(replace(TINY, steps=40, learning_rate=0.01), tmp_path, device="cpu", resume=True)


# -- batches -----------------------------------------------------------------------------------------------------


def make_pool(seed: int = 0, config: PretrainConfig = TINY) -> Pool:
    return Pool(config, Codec(digits=config.digits), seed, config.pool, config.steps, torch.device("cpu"))


def test_a_batch_depends_on_the_settings_and_its_step_alone():
    pool = make_pool()
    later = pool.batch(5)
    in_order = list(pool.batches(3, 7))
    assert len(in_order) == 4
    for batch in (make_pool().batch(5), in_order[2], next(make_pool().batches(5, 20))):
        np.testing.assert_array_equal(batch.symbols, later.symbols)
        np.testing.assert_array_equal(batch.in_loss, later.in_loss)
    assert not np.array_equal(pool.batch(6).symbols, later.symbols)
    assert not np.array_equal(make_pool(seed=1).batch(5).symbols, later.symbols)
    assert list(pool.batches(7, 7)) == []


def test_a_batch_holds_windows_of_one_to_three_variables():
    config = replace(TINY, tokens=60)
    codec = Codec(digits=1)
    batch = make_pool(config=config).batch(0, 20)
    assert batch.symbols.shape == (20, 60)
    variables = [1] * 8 + [2] * 9 + [3] * 3
    for row, count in enumerate(variables):
        length = 60 // 2 // count * 2 * count
        text = batch.symbols[row, :length]
        assert codec.grammar(count).walk(text)[-1] != codec.grammar(count).reject
        assert (text == SEMICOLON).sum() == 60 // 2 // count
        np.testing.assert_array_equal(batch.in_loss[row, 1:length], text[1:] != MISSING)
        assert not batch.in_loss[row, length:].any()


def test_every_fifth_batch_is_of_fewer_and_longer_windows():
    pool = make_pool()
    assert [pool.batch(step).symbols.shape for step in range(10)] == ([(12, 48)] * 4 + [(6, 96)]) * 2
    assert {key: len(rows) for key, rows in pool.series.items()} == {
        **{(48, variables): rows for variables, rows in shared(80, 3).items()},
        **{(96, variables): rows for variables, rows in shared(10, 3).items()},
    }
    assert make_pool(config=replace(TINY, steps=4)).series.keys() == {(48, 1), (48, 2), (48, 3)}


def written_windows(monkeypatch: pytest.MonkeyPatch) -> list[tuple[np.ndarray, np.ndarray]]:
    """The windows that pools write from now on, with their contexts, one entry a call."""
    written: list[tuple[np.ndarray, np.ndarray]] = []
    encode = pool_module.encode_batch

    def spy(codec: Codec, windows: np.ndarray, context: np.ndarray) -> Batch:
        written.append((windows, context))
        return encode(codec, windows, context)

    monkeypatch.setattr(pool_module, "encode_batch", spy)
    return written


def test_without_longer_windows_no_series_is_used_twice(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pool_module, "VIEWED", {})
    pool = make_pool(config=replace(TINY, long_tokens=TINY.tokens, variables=1))
    assert pool.series.keys() == {(TINY.tokens, 1)}
    drawn = written_windows(monkeypatch)
    for step in range(6):
        pool.batch(step, 8)
    assert len({row.tobytes() for windows, _ in drawn for row in windows[:, 0]}) == 48


@pytest.mark.parametrize("size", [1, 12, 32, 128])
def test_windows_are_shared_out_by_number_of_variables(size: int):
    counts = shared(size, 8)
    assert sum(counts.values()) == size
    assert all(abs(counts[variables] - share * size) <= 1 for variables, share in pool_module.SHARES.items())
    assert shared(size, 1) == {1: size}


def test_some_windows_have_gaps_but_none_begins_with_one():
    pool = make_pool()
    batches = [pool.batch(step, 100) for step in range(12) if step % 5 < 4]
    missing = np.concatenate([batch.symbols == MISSING for batch in batches])
    assert 0.05 < missing.any(1).mean() < 0.11
    assert not missing[:, 0].any()


def test_every_series_of_the_pool_is_used_once_before_any_is_used_again(monkeypatch: pytest.MonkeyPatch):
    written = written_windows(monkeypatch)
    monkeypatch.setattr(pool_module, "VIEWED", {})
    pool = make_pool()
    size = len(pool.series[48, 2])
    for step in (step for step in range(60) if step % 5 < 4):
        pool.batch(step, 8)
    drawn = [(windows, context) for windows, context in written if windows.shape[2] == 2]
    starts = [tuple(row) for windows, _ in drawn for row in windows[:, 0]]  # never missing
    assert len(set(starts[:size])) == size > 30
    assert starts[size : size + 8] == starts[:8]
    contexts = np.concatenate([context for _, context in drawn])
    again = slice(size, size + 8)
    assert (contexts[again] != contexts[:8]).any()  # what is seen again begins its forecast elsewhere
    assert 2 <= contexts.min() < contexts.max() <= 8  # of 12 steps


def test_some_windows_are_written_as_views_of_their_context(monkeypatch: pytest.MonkeyPatch):
    drawn = written_windows(monkeypatch)
    monkeypatch.setattr(pool_module, "GAPPY", 0.0)
    pool = make_pool(config=replace(TINY, tokens=400, long_tokens=400, variables=1))
    pool.batch(0, 100)
    ((windows, contexts),) = drawn
    plain = pool.series[400, 1][np.arange(100) % len(pool.series[400, 1])].astype(float)
    same = (windows == plain).all((1, 2))
    assert 0.7 < same.mean() < 0.95
    for window, before, context in zip(windows[~same], plain[~same], contexts[~same]):
        views = [Transform.fit(kind, before[:context]).forward(before) for kind in pool_module.VIEWED]
        assert any(np.array_equal(window, view) for view in views)
    steps = windows.shape[1]
    assert 0.1 < (contexts < pool_module.CONTEXT[0] * steps).mean() < 0.35
    assert contexts.min() >= pool_module.SHORTEST


def test_weights_start_at_the_deviation_that_is_documented():
    config = model_config(replace(TINY, hidden=256, heads=4, kv_heads=2, mlp=512))
    state = initialise(config, 0).state_dict()
    assert state["model.layers.0.self_attn.q_proj.weight"].std() == pytest.approx(0.02, rel=0.02)
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        assert state[f"model.layers.1.{name}.weight"].std() == pytest.approx(0.01, rel=0.02)
    assert not state["model.layers.0.self_attn.k_proj.bias"].any()
    assert (state["model.norm.weight"] == 1).all()
    other = initialise(config, 1).state_dict()["model.embed_tokens.weight"]
    assert not torch.equal(state["model.embed_tokens.weight"], other)


def test_no_family_is_of_predators_and_prey():
    words = ("predator", "prey", "lotka", "volterra", "rosenzweig", "competition", "epidemic", "consumer")
    texts = [f"{family.name} {family.description} {family.source}".lower() for family in FAMILIES.values()]
    assert len(texts) > 20
    assert [text for text in texts if any(word in text for word in words)] == []


def test_every_problem_of_a_recipe_is_told_at_once():
    with pytest.raises(ConfigError) as raised:
        PretrainConfig(hidden=30, heads=4, kv_heads=3, tokens=92, steps=0, warmup=1.0, weight_decay=-0.1, clip=0.0)
    for name in ("hidden (30)", "kv_heads (3)", "tokens (92)", "steps", "warmup", "weight_decay", "clip"):
        assert any(name in problem for problem in raised.value.problems)
    assert len(raised.value.problems) == 7


# -- families ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["qwen3", "llama", "mistral"])
def test_a_model_of_any_family_is_read_by_transformers_as_here(tmp_path: Path, family: Any):
    import transformers

    pretrain(replace(TINY, family=family, steps=12, score_limit=0.05), tmp_path / "model", device="cpu")
    events = log_of(tmp_path / "model")
    assert events[0]["largest_score"] > 0.05  # so that heads were shrunk
    ours = load_model(tmp_path / "model", vocabulary="full", device="cpu", precision="float32")
    assert ours.network.config.family == family
    theirs: Any = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    ids = torch.tensor([tokenizer("1.5,-2;NaN")["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(ours.network(ids), theirs(ids).logits, rtol=1e-4, atol=1e-4)


def test_scores_of_normalised_heads_are_shrunk_to_the_limit():
    config = model_config(replace(TINY, family="qwen3"))
    network = initialise(config, 0)
    ids = torch.randint(15, (2, 24), generator=torch.Generator().manual_seed(0))
    before = clip_scores(network, ids, 1e9)
    clip_scores(network, ids, before / 4)
    assert clip_scores(network, ids, 1e9) <= before / 4 * 1.001
