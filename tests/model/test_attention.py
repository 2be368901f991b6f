"""Attention over a shared prompt against the same sequences computed whole."""

import pytest
import torch
from torch import Tensor

from loracast.language_model import load_model
from loracast.model import attention
from loracast.model.attention import SharedPrefixCache, causal_attention

HEADS = [(4, 4), (4, 2), (4, 1), (7, 1), (14, 2)]
PASSES = (1, 3, 2, 6, 1)  # tokens of each forward pass after the prompts


@pytest.fixture(params=[4, attention.CACHE_BLOCK], ids=["small blocks", "one block"], autouse=True)
def block(request, monkeypatch) -> None:
    """Own tokens are kept in blocks: runs each test within one, and with passes that cross several."""
    monkeypatch.setattr(attention, "CACHE_BLOCK", request.param)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("heads", "groups"), HEADS)
@pytest.mark.parametrize("lengths", [[6, 2, 4], [6, 6, 6]], ids=["ragged", "even"])
def test_shared_prefix_is_attention_over_each_whole_sequence(heads, groups, lengths):
    series, samples, prompt, own, size = 3, 2, 6, sum(PASSES), 8
    prefix_query = normal(series, heads, prompt, size, seed=0)
    query = normal(series * samples, heads, own, size, seed=1)
    prefix_key, prefix_value = (normal(series, groups, prompt, size, seed=seed) for seed in (2, 3))
    suffix_key, suffix_value = (normal(series * samples, groups, own, size, seed=seed) for seed in (4, 5))

    cache = SharedPrefixCache(torch.tensor(lengths), samples)
    cache.attend(0, prefix_query, prefix_key, prefix_value)
    cache.advance(prompt)
    parts = []
    for part in zip(*(tensor.split(PASSES, 2) for tensor in (query, suffix_key, suffix_value))):
        parts.append(cache.attend(0, *part))
        cache.advance(parts[-1].shape[2])
    mixed = torch.cat(parts, 2)  # [B, H, U, E]

    for path in range(series * samples):
        one, length = path // samples, lengths[path // samples]
        key = torch.cat([prefix_key[one, :, :length], suffix_key[path]], 1)  # [K, length + U, E]
        value = torch.cat([prefix_value[one, :, :length], suffix_value[path]], 1)
        whole = torch.cat([prefix_query[one, :, :length], query[path]], 1)  # [H, length + U, E]
        expected = causal_attention(whole[None], key[None], value[None])[0, :, length:]
        assert (mixed[path] - expected).abs().max() < 1e-5


@pytest.mark.parametrize(("heads", "groups"), HEADS)
@pytest.mark.parametrize("lengths", [[5, 9, 7], [9, 9, 9]], ids=["ragged", "even"])
def test_cached_hidden_states_are_those_of_the_whole_sequences(make_numeric, heads, groups, lengths):
    directory = make_numeric(num_attention_heads=heads, num_key_value_heads=groups)
    network = load_model(directory, device="cpu", precision="float32").network
    samples, generator = 2, torch.Generator().manual_seed(0)
    prompts = torch.randint(15, (3, 9), generator=generator)
    continuations = torch.randint(15, (3 * samples, sum(PASSES)), generator=generator)

    with torch.no_grad():
        cache = SharedPrefixCache(torch.tensor(lengths), samples)
        prompted = network.hidden(prompts, cache)
        continued = torch.cat([network.hidden(part, cache) for part in continuations.split(PASSES, 1)], 1)
        assert cache.fed == sum(PASSES)
        for path, continuation in enumerate(continuations):
            series, length = path // samples, lengths[path // samples]
            whole = network.hidden(torch.cat([prompts[series, :length], continuation])[None])[0]
            assert (prompted[series, :length] - whole[:length]).abs().max() < 1e-4
            assert (continued[path] - whole[length:]).abs().max() < 1e-4


def test_what_pads_a_prompt_is_never_seen(numeric_model):
    def continued(padding: int) -> Tensor:
        prompts = torch.tensor([[1, 2, 12, padding, padding], [3, 4, 12, 5, 12]])
        cache = SharedPrefixCache(torch.tensor([3, 5]), 1)
        numeric_model.network.hidden(prompts, cache)
        return numeric_model.network.hidden(torch.tensor([[7, 8], [9, 0]]), cache)

    with torch.no_grad():
        assert continued(0).equal(continued(11))
