"""Attention scores are kept below a limit, by the queries and keys of the heads that have larger ones alone."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from loracast.engine.pretrain import initialise, model_config
from loracast.engine.score_clip import clip_cost, clip_scores
from loracast.model.rotary import rotary
from loracast.model.transformer import Transformer
from loracast.settings import PretrainConfig

CONFIG = model_config(PretrainConfig(hidden=48, layers=3, heads=6, kv_heads=2, mlp=64))
IDS = torch.randint(0, 14, (3, 20), generator=torch.Generator().manual_seed(0))
LIMIT = 0.5


@pytest.fixture
def network() -> Transformer:
    """Scores of all sizes: heads differ in the size of their queries."""
    network = initialise(CONFIG, 1)
    generator = torch.Generator().manual_seed(2)
    blocks: Any = network.model.layers
    for block in blocks:
        query, key = block.self_attn.q_proj, block.self_attn.k_proj
        for projection in (query, key):
            torch.nn.init.normal_(projection.weight, 0.0, 0.1, generator=generator)
            torch.nn.init.normal_(projection.bias, 0.0, 0.5, generator=generator)
        strength = torch.tensor([0.01, 0.1, 1, 3, 5, 0.02]).repeat_interleave(8)
        query.weight.data *= strength[:, None]
        query.bias.data *= strength
    return network


def scores_of(network: Transformer) -> list[torch.Tensor]:
    """By layer, the scores [B, H, T, T] of tokens and those before them; zero where none is seen."""
    found = []

    def keep(attention, inputs):
        query, key, _ = attention.heads(*inputs[:3])
        key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
        found.append((query @ key.mT / query.shape[-1] ** 0.5).tril())

    blocks: Any = network.model.layers
    hooks = [block.self_attn.register_forward_pre_hook(keep) for block in blocks]
    with torch.no_grad():
        network.hidden(IDS)
    for hook in hooks:
        hook.remove()
    return found


def test_scores_end_below_the_limit_and_small_ones_stay(network: Transformer):
    (first, *_), before = scores_of(network), {name: one.clone() for name, one in network.named_parameters()}
    largest = clip_scores(network, IDS, LIMIT)
    assert largest >= first.abs().max() - 1e-5  # of all layers
    clipped = scores_of(network)
    for scores in clipped:
        assert scores.abs().max() == pytest.approx(LIMIT, rel=1e-4)
    # each head of the first layer has its scores times one factor
    most, now = (scores.abs().amax((0, 2, 3)) for scores in (first, clipped[0]))
    torch.testing.assert_close(now, most.clamp(max=LIMIT))
    torch.testing.assert_close(clipped[0], first * (now / most)[:, None, None])
    assert (most < LIMIT).any()
    changed = {name for name, one in network.named_parameters() if not one.equal(before[name])}
    assert all(".q_proj." in name or ".k_proj." in name for name in changed)


def test_what_was_shrunk_is_read_anew_under_autocast(network: Transformer):
    """Later layers read what the earlier ones have become, not casts of what they were."""
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        clip_scores(network, IDS, LIMIT)
        assert clip_scores(network, IDS, LIMIT) < 1.03 * LIMIT


def test_nothing_changes_where_no_score_is_large(network: Transformer):
    clip_scores(network, IDS, LIMIT)
    before = {name: one.clone() for name, one in network.named_parameters()}
    assert clip_scores(network, IDS, 1.001 * LIMIT) == pytest.approx(LIMIT, rel=1e-4)
    assert all(one.equal(before[name]) for name, one in network.named_parameters())


def test_shared_keys_go_half_the_way_of_their_largest_head(network: Transformer):
    first: Any = network.model.layers[0]
    keys = first.self_attn.k_proj
    before, most = keys.weight.clone(), scores_of(network)[0].abs().amax((0, 2, 3)).view(2, 3)
    clip_scores(network, IDS, LIMIT)
    factors = (LIMIT / most).clamp(max=1).amin(1).sqrt()  # [K]
    torch.testing.assert_close(keys.weight, before * factors.repeat_interleave(8)[:, None])


def test_the_largest_score_is_one_that_is_seen(network: Transformer):
    """Not one between a token and a later one."""
    body: Any = network.model
    body.layers = body.layers[:1]
    ids = torch.randint(0, 14, (50, 20), generator=torch.Generator().manual_seed(3))
    cos, sin = rotary(torch.arange(20)[None], CONFIG, torch.float32)
    with torch.no_grad():
        normed = body.layers[0].input_layernorm(body.embed_tokens(ids))
        query, key, _ = body.layers[0].self_attn.heads(normed, cos, sin)
        scores = (query @ key.repeat_interleave(3, 1).mT / 8**0.5).abs()
    seen, every = scores.tril().amax((1, 2, 3)), scores.amax((1, 2, 3))
    later = int((every - seen).argmax())
    assert seen[later] < 0.9 * every[later]
    assert clip_scores(network, ids[later : later + 1], 1e9) == pytest.approx(seen[later].item(), rel=1e-5)


def test_its_cost_is_what_is_computed(network: Transformer):
    with FlopCounterMode(display=False) as counter:
        clip_scores(network, IDS, LIMIT)
    # the counter does not see the attention of a CPU
    unseen = 2 * 2 * 3 * 20**2 * CONFIG.num_attention_heads * CONFIG.head_dim * CONFIG.num_hidden_layers
    assert clip_cost(CONFIG, 3, 20).executed == counter.get_total_flops() + unseen
