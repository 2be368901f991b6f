"""Sample paths: that they parse, that they depend on what they should, and that shortcuts change nothing."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from scipy.stats import chisquare

from loracast.codec import Codec
from loracast.compute import plain
from loracast.engine import sample
from loracast.engine.sample import sample_paths
from loracast.errors import ConfigError
from loracast.grammar import MISSING, OTHER, SEMICOLON, Grammar
from loracast.language_model import LanguageModel, load_model
from loracast.settings import SampleConfig

FIXED = Codec(layout="fixed", digits=3)
DECIMAL = Codec(layout="decimal", digits=2, leading=2)
NAMES = ("hare", "lynx", "vole", "owl")
CONFIG = SampleConfig(samples=3, seed=5)


def prompts(codec: Codec, variables: int = 2, steps: Sequence[int] = (7, 2, 11, 5)) -> list[NDArray[np.int64]]:
    """Contexts of several lengths as symbols; the third has gaps."""
    texts = []
    for index, length in enumerate(steps):
        values = np.random.default_rng(index).uniform(0, 10, (length, variables))
        if index == 2:
            values[1::3, 0] = np.nan
        texts.append(codec.encode(values, codec.fit_scale(values)).ids)
    return texts


def decode(codec: Codec, paths: NDArray[np.int64], horizon: int, variables: int = 2):
    unit = np.ones(variables)
    return codec.decode(paths, replace(codec.fit_scale(np.ones((1, variables))), unit=unit), horizon)


def draw(*args: Any, **options: Any) -> NDArray[np.int64]:
    """The symbols [N, S, L] of sample paths."""
    return sample_paths(*args, **options).symbols


# -- the plain twin: no cache, no batch, no shortcut ---------------------------------------------------------------


def plain_draw(logits: torch.Tensor, uniform: float, config: SampleConfig) -> int:
    """One index by inverting the cumulative distribution of the nucleus."""
    probability = torch.softmax(logits.double() / config.temperature, 0).numpy()
    kept, mass = set(), 0.0
    for index in np.argsort(-probability, kind="stable"):
        if mass >= config.top_p:
            break
        kept.add(int(index))
        mass += probability[index]
    cumulative = 0.0
    for index in sorted(kept):
        cumulative += probability[index]
        if uniform * mass <= cumulative:
            return index
    raise AssertionError("the number lies beyond the distribution")


@torch.no_grad()
def plain_path(
    model: LanguageModel,
    prompt: NDArray[np.int64],
    name: str,
    number: int,
    grammar: Grammar,
    horizon: int,
    config: SampleConfig,
) -> list[int]:
    """A path's symbols; the whole text is read again for every one of them, and forced ones are drawn as all others."""
    uniforms = sample._uniforms(config.seed, name, number, horizon * grammar.step_tokens)
    path: list[int] = []
    state = 0
    while path.count(SEMICOLON) < horizon:
        logits = model.network(model.rows[torch.tensor([[*prompt, *path]])])[0, -1]
        logits = logits if model.vocabulary == "numeric" else logits[model.rows]
        logits = logits.masked_fill(torch.from_numpy(~grammar.sampled[state]), float("-inf"))
        path.append(plain_draw(logits, uniforms[len(path)], config))
        state = grammar.next_state[state, path[-1]]
    return path


@torch.no_grad()
def plain_unconstrained(
    model: LanguageModel, prompt: NDArray[np.int64], name: str, number: int, length: int, config: SampleConfig
) -> list[int]:
    """The symbols of `length` tokens of the full vocabulary."""
    uniforms = sample._uniforms(config.seed, name, number, length)
    ids, drawn = model.rows[torch.from_numpy(prompt)].tolist(), []
    for uniform in uniforms:
        drawn.append(plain_draw(model.network(torch.tensor([ids + drawn]))[0, -1], uniform, config))
    return model.tokens.to_symbols(np.array(drawn)).tolist()


@pytest.fixture(scope="module")
def full_model(make_qwen2) -> LanguageModel:
    """A model of 272 rows that mostly writes symbols, the merged ";-" and now and then an "x"."""
    directory = make_qwen2(tie_word_embeddings=False)
    tokens = load_model(directory, device="cpu", precision="float32").tokens
    likely = [*tokens.ids.tolist(), *(tokens.tokenizer.token_to_id(text) for text in (";-", "x"))]
    path = directory / "model.safetensors"
    state = load_file(path)
    head = torch.zeros_like(state["lm_head.weight"])
    head[likely] = 3 * state["lm_head.weight"][likely]
    save_file({**state, "lm_head.weight": head}, path, {"format": "pt"})
    return load_model(directory, vocabulary="full", device="cpu", precision="float32")


@pytest.mark.parametrize("codec", [FIXED, DECIMAL], ids=["fixed", "decimal"])
@pytest.mark.parametrize(
    "config",
    [CONFIG, SampleConfig(2, temperature=0.5), SampleConfig(2, 1.3, top_p=0.6)],
    ids=["plain", "cool", "top_p"],
)
def test_paths_are_those_of_the_plain_twin(numeric_model, codec, config):
    grammar, texts, horizon = codec.grammar(2), prompts(codec), 3
    paths = draw(numeric_model, texts, NAMES, grammar, horizon, config)
    for series, (prompt, name) in enumerate(zip(texts, NAMES)):
        for number in range(config.samples):
            expected = plain_path(numeric_model, prompt, name, number, grammar, horizon, config)
            actual = paths[series, number]
            assert actual[: len(expected)].tolist() == expected
            assert (actual[len(expected) :] == OTHER).all()


@pytest.mark.parametrize("codec", [FIXED, DECIMAL], ids=["fixed", "decimal"])
def test_constrained_paths_of_the_full_vocabulary_are_those_of_the_plain_twin(full_model, codec):
    grammar, texts = codec.grammar(2), prompts(codec)
    paths = draw(full_model, texts, NAMES, grammar, 2, CONFIG)
    expected = plain_path(full_model, texts[2], NAMES[2], 1, grammar, 2, CONFIG)
    assert paths[2, 1, : len(expected)].tolist() == expected


# -- the text ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variables", [1, 2, 3])
@pytest.mark.parametrize(
    "codec",
    [FIXED, Codec(digits=1), DECIMAL, Codec(layout="decimal", digits=0, leading=1), Codec(layout="decimal", digits=1)],
    ids=["fixed", "one digit", "decimal", "no point", "four leading"],
)
def test_every_path_parses_and_has_the_horizon_in_steps(numeric_model, codec, variables):
    horizon, grammar = 9, codec.grammar(variables)
    texts = prompts(codec, variables)
    paths = draw(numeric_model, texts, NAMES, grammar, horizon, CONFIG)
    assert paths.shape == (4, 3, horizon * grammar.step_tokens)
    decoded = decode(codec, paths, horizon, variables)
    assert decoded.valid.all()
    assert np.isfinite(decoded.values).all()
    assert ((paths == SEMICOLON).sum(-1) == horizon).all()
    assert not (paths == MISSING).any()  # though the contexts have it
    ended = np.cumsum(paths == SEMICOLON, -1) - (paths == SEMICOLON) >= horizon  # after the last step
    assert (paths[ended] == OTHER).all()
    assert (paths[~ended] != OTHER).all()


# -- what a path depends on ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[FIXED, DECIMAL], ids=["fixed", "decimal"])
def together(request, numeric_model):
    """A codec, its prompts, and the paths of all series in one batch."""
    codec = request.param
    texts = prompts(codec)
    return codec, texts, draw(numeric_model, texts, NAMES, codec.grammar(2), 6, CONFIG)


def test_a_series_alone_has_the_paths_it_has_in_a_batch(numeric_model, together):
    codec, texts, paths = together
    for text, name, expected in zip(texts, NAMES, paths):
        assert np.array_equal(draw(numeric_model, [text], [name], codec.grammar(2), 6, CONFIG)[0], expected)


def test_the_order_of_series_does_not_matter(numeric_model, together):
    codec, texts, paths = together
    for order in ([2, 0, 3, 1], [3, 2, 1, 0], [1, 2]):
        some, names = [texts[index] for index in order], [NAMES[index] for index in order]
        assert np.array_equal(draw(numeric_model, some, names, codec.grammar(2), 6, CONFIG), paths[order])


def test_the_number_of_samples_does_not_matter(numeric_model, together):
    codec, texts, paths = together
    for samples in (1, 8):
        others = draw(numeric_model, texts, NAMES, codec.grammar(2), 6, replace(CONFIG, samples=samples))
        assert others.shape[1] == samples
        assert np.array_equal(others[:, :3], paths[:, :samples])


@pytest.mark.parametrize("most_paths", [1, 2, 7])
def test_the_memory_for_a_batch_does_not_matter(numeric_model, together, monkeypatch, most_paths):
    codec, texts, paths = together
    config = numeric_model.network.config
    token_bytes = 2 * 4 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    own = -(-paths.shape[2] // plain.CACHE_BLOCK) * plain.CACHE_BLOCK
    monkeypatch.setattr(plain, "CPU_MEMORY_BYTES", most_paths * token_bytes * (own + max(map(len, texts))))
    done: list[float] = []
    others = draw(numeric_model, texts, NAMES, codec.grammar(2), 6, CONFIG, progress=done.append)
    assert np.array_equal(others, paths)
    assert len([share for share in done if (12 * share).is_integer()]) >= {1: 12, 2: 8, 7: 2}[most_paths]
    assert done == sorted(done)
    assert len(done) > 12  # also within a batch
    assert done[-1] == 1.0


@pytest.mark.parametrize("most_paths", [1, 5])
def test_a_batch_that_does_not_fit_is_halved(numeric_model, together, monkeypatch, most_paths):
    codec, texts, paths = together
    constrained = sample.PathBatch.constrained

    def short_of_memory(self: sample.PathBatch, horizon: int, told):
        if self.paths > most_paths:
            raise torch.OutOfMemoryError
        return constrained(self, horizon, told)

    monkeypatch.setattr(sample.PathBatch, "constrained", short_of_memory)
    done: list[float] = []
    others = draw(numeric_model, texts, NAMES, codec.grammar(2), 6, CONFIG, progress=done.append)
    assert np.array_equal(others, paths)
    assert len(done) > 1
    assert done[-1] == 1.0


@pytest.mark.parametrize("samples", [1, 3, 10])
def test_hidden_states_are_the_same_to_the_last_bit_alone_and_among_others(numeric_model, monkeypatch, samples):
    """On a CPU: prompts of several lengths, so few rows that a product would add them up in another order."""
    told: dict[tuple, torch.Tensor] = {}
    constrained = sample.PathBatch.constrained

    def watched(self: sample.PathBatch, horizon: int, on_progress):
        drawing = self._drawing

        def watched_drawing(uniforms: torch.Tensor, horizon: int) -> Any:
            found: Any = drawing(uniforms, horizon)
            draw_symbol = found.draw

            def noted(hidden: torch.Tensor, position: int, tokens: torch.Tensor) -> None:
                told.update({(*one, position): row for one, row in zip(self.streams[: self.paths], hidden.clone())})
                draw_symbol(hidden, position, tokens)

            found.draw = noted
            return found

        self._drawing = watched_drawing
        return constrained(self, horizon, on_progress)

    monkeypatch.setattr(sample.PathBatch, "constrained", watched)
    series = np.random.default_rng(0).lognormal(size=(5, 40, 2))
    texts = [
        prompt.ids
        for prompt in FIXED.encode_contexts([one[:steps] for one, steps in zip(series, (40, 40, 39, 9, 22))])[0]
    ]
    names, config = [str(number) for number in range(len(texts))], SampleConfig(samples, transform="none")
    draw(numeric_model, texts, names, FIXED.grammar(2), 3, config)
    together, checked = dict(told), 0
    for name, text in zip(names, texts):
        told.clear()
        draw(numeric_model, [text], [name], FIXED.grammar(2), 3, config)
        for place, row in told.items():
            assert torch.equal(row, together[place]), place
            checked += 1
    assert checked == len(together) > 5 * 10 * samples


def test_one_path_that_does_not_fit_is_an_error(numeric_model, monkeypatch):
    def out_of_memory(*_: object):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(sample.PathBatch, "constrained", out_of_memory)
    with pytest.raises(ConfigError, match="does not hold one path"):
        draw(numeric_model, prompts(FIXED), NAMES, FIXED.grammar(2), 6, CONFIG)


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "a batch a path"])
def test_the_tokens_that_were_computed_are_told(numeric_model, monkeypatch, together):
    """A path of the decimal layout is computed for as long as any of its batch, which is looked up every 16 tokens."""
    if not together:
        monkeypatch.setattr(plain, "CPU_MEMORY_BYTES", 1)
    for codec in (FIXED, DECIMAL):
        texts, grammar, horizon = prompts(codec), codec.grammar(2), 6
        paths = sample_paths(numeric_model, texts, NAMES, grammar, horizon, CONFIG)
        written = (paths.symbols != OTHER).sum(-1)  # [N, S]
        most = horizon * grammar.step_tokens
        assert (written <= paths.tokens).all()
        if codec is FIXED:
            assert (paths.tokens == most).all()
        else:
            longest = np.full(written.shape, written.max()) if together else written
            assert np.array_equal(paths.tokens, np.minimum(-(-longest // 16) * 16, most))
            assert paths.tokens.min() < most


def test_a_longer_horizon_continues_a_shorter_one(numeric_model, together):
    codec, texts, paths = together
    longer = draw(numeric_model, texts, NAMES, codec.grammar(2), 10, CONFIG)
    short, long = decode(codec, paths, 6), decode(codec, longer, 10)
    assert np.array_equal(long.values[:, :, :6], short.values)
    written = paths != OTHER
    assert np.array_equal(longer[:, :, : paths.shape[2]][written], paths[written])


def test_seed_series_and_number_each_make_another_path(numeric_model, together):
    codec, texts, paths = together
    grammar = codec.grammar(2)
    other_seed = draw(numeric_model, texts, NAMES, grammar, 6, replace(CONFIG, seed=6))
    other_names = draw(numeric_model, texts, [name + "s" for name in NAMES], grammar, 6, CONFIG)
    for others in (other_seed, other_names):
        assert (others != paths).any(-1).all()
    assert len(np.unique(paths.reshape(-1, paths.shape[2]), axis=0)) == 12
    assert np.array_equal(draw(numeric_model, texts, NAMES, grammar, 6, CONFIG), paths)


def test_streams_of_numbers_share_no_run():
    streams = [sample._uniforms(seed, name, number, 64) for seed in (0, 1) for name in NAMES for number in range(5)]
    runs = [tuple(stream[start : start + 3]) for stream in streams for start in range(62)]
    assert len(set(runs)) == len(runs)
    assert all((stream > 0).all() and (stream <= 1).all() for stream in streams)


def test_places_fill_a_cell_and_depend_on_seed_and_id_alone():
    config = SampleConfig(8, seed=3)
    places = sample.cell_places(NAMES, 50, 2, config)
    assert places.shape == (len(NAMES), 8, 50, 2)
    assert places.min() >= 0
    assert places.max() < 1
    assert abs(places.mean() - 0.5) < 0.01
    np.testing.assert_array_equal(sample.cell_places(NAMES[1:], 20, 2, SampleConfig(3, seed=3)), places[1:, :3, :20])
    for other in (sample.cell_places(NAMES, 50, 2, replace(config, seed=4)), places[::-1]):
        assert np.isclose(other, places).mean() < 0.01
    for one, other in ((places[:, :, :-1], places[:, :, 1:]), (places[:, :-1], places[:, 1:])):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.1  # no step tells of the next, and no path


def test_sampling_spends_no_number_of_the_global_generators(numeric_model):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    draw(numeric_model, prompts(FIXED), NAMES, FIXED.grammar(2), 1, CONFIG)
    assert torch.get_rng_state().equal(before)


# -- the distribution ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [SampleConfig(2, top_p=1e-9), SampleConfig(2, 1e-4)], ids=["top_p", "temperature"])
@pytest.mark.parametrize("codec", [FIXED, DECIMAL], ids=["fixed", "decimal"])
def test_the_narrowest_sampling_is_greedy(numeric_model, codec, config):
    texts, grammar, horizon = prompts(codec), codec.grammar(2), 3
    paths = draw(numeric_model, texts, NAMES, grammar, horizon, config)
    for text, drawn in zip(texts, paths):
        likeliest: list[int] = []
        state = 0
        while likeliest.count(SEMICOLON) < horizon:
            with torch.no_grad():
                logits = numeric_model.network(torch.tensor([[*text, *likeliest]]))[0, -1]
            allowed = torch.from_numpy(grammar.sampled[state])
            likeliest.append(int(logits.masked_fill(~allowed, float("-inf")).argmax()))
            state = grammar.next_state[state, likeliest[-1]]
        assert drawn[:, : len(likeliest)].tolist() == [likeliest] * 2


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 1.0), (1.0, 0.7)])
def test_draws_follow_the_probabilities_of_the_model(numeric_model, temperature, top_p):
    codec = Codec(digits=2)
    text, draws = prompts(codec, 1)[0], 20_000

    def probabilities(*drawn: int) -> NDArray[np.float64]:
        with torch.no_grad():
            logits = numeric_model.network(torch.tensor([[*text, *drawn]]))[0, -1, :10].double()
        probability = torch.softmax(logits / temperature, 0).numpy()
        order = np.argsort(-probability)
        outside = np.cumsum(probability[order]) - probability[order] >= top_p
        probability[order[outside]] = 0
        return probability / probability.sum()

    first = probabilities()
    expected = np.concatenate([first[digit] * probabilities(digit) for digit in range(10)])  # of 00 to 99
    assert 0.02 < np.sort(expected)[-1] < 0.9  # neither uniform nor certain
    config = SampleConfig(draws, temperature, top_p, seed=0)
    paths = draw(numeric_model, [text], ["hare"], codec.grammar(1), 1, config)[0]
    assert (paths[:, 2] == SEMICOLON).all()
    counts = np.bincount(paths[:, 0] * 10 + paths[:, 1], minlength=100)
    assert (counts[expected == 0] == 0).all()
    often = expected * draws >= 5  # rarer pairs are tested together
    observed, wanted = (np.append(x[often], x[~often].sum()) for x in (counts, expected * draws))
    some = wanted > 0
    assert some.sum() > 5
    assert chisquare(observed[some], wanted[some]).pvalue > 0.001


# -- unconstrained -------------------------------------------------------------------------------------------------


def up_to_horizon(path: Sequence[int], horizon: int) -> list[int]:
    """The symbols up to the ";" that closes the last step, or all of them."""
    ends = np.flatnonzero(np.array(path) == SEMICOLON)
    return list(path[: ends[horizon - 1] + 1] if len(ends) >= horizon else path)


def test_unconstrained_paths_are_those_of_the_plain_twin(full_model):
    grammar, texts, horizon = DECIMAL.grammar(2), prompts(DECIMAL), 2
    paths = draw(full_model, texts, NAMES, grammar, horizon, CONFIG, constrained=False)
    assert paths.shape == (4, 3, horizon * grammar.step_tokens)
    for series, (prompt, name) in enumerate(zip(texts, NAMES)):
        for number in range(CONFIG.samples):
            plain = plain_unconstrained(full_model, prompt, name, number, paths.shape[2], CONFIG)
            expected = up_to_horizon(plain[: paths.shape[2]], horizon)
            assert paths[series, number, : len(expected)].tolist() == expected
    written = paths[paths != OTHER]
    assert len(written) > 100
    assert (paths[:, :, :5] == OTHER).any()  # an "x", which is no padding so early


def test_what_is_read_from_unconstrained_paths_does_not_depend_on_the_batch(full_model):
    grammar, texts, horizon = FIXED.grammar(1), prompts(FIXED, 1), 5
    together = draw(full_model, texts, NAMES, grammar, horizon, CONFIG, constrained=False)
    for text, name, paths in zip(texts, NAMES, together):
        alone = draw(full_model, [text], [name], grammar, horizon, CONFIG, constrained=False)[0]
        read_together, read_alone = (decode(FIXED, symbols, horizon, 1) for symbols in (paths, alone))
        assert np.array_equal(read_together.values, read_alone.values, equal_nan=True)
        assert np.array_equal(read_together.valid, read_alone.valid)


def test_malformed_steps_of_unconstrained_paths_are_not_valid(full_model):
    paths = draw(full_model, prompts(FIXED), NAMES, FIXED.grammar(2), 8, CONFIG, constrained=False)
    decoded = decode(FIXED, paths, 8)
    assert not decoded.valid.all()
    assert np.isnan(decoded.values[~decoded.valid]).all()


def test_unconstrained_sampling_needs_the_full_vocabulary(numeric_model):
    with pytest.raises(ConfigError, match="full vocabulary"):
        draw(numeric_model, prompts(FIXED), NAMES, FIXED.grammar(2), 1, CONFIG, constrained=False)
