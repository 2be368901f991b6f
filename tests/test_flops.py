"""What passes cost, against torch's own counter, and the ledger.

The counter has no formula for the attention kernel that CPUs run; it is given the one that it has for the same
algorithm on GPUs (five products in the backward pass). With the plain matrix products of the math backend it needs no
help, but those keep the scores and need one product less.
"""

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from loracast.codec import Codec
from loracast.engine.sample import sample_paths
from loracast.errors import BudgetError
from loracast.flops import Ledger, PassCost
from loracast.model.attention import SharedPrefixCache
from loracast.model.checkpoint import load_model
from loracast.model.config import Qwen2Config
from loracast.model.lora import attach
from loracast.model.qwen2 import Qwen2
from loracast.settings import LoraConfig, SampleConfig

TINY = Qwen2Config(
    vocab_size=40,
    hidden_size=48,
    intermediate_size=80,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=12,
)
CONFIGS = {
    "grouped": TINY,
    "full heads": replace(TINY, num_key_value_heads=4),
    "one group, wide heads": replace(TINY, num_key_value_heads=1, head_dim=32),
    "untied": replace(TINY, tie_word_embeddings=False),
    "one layer": replace(TINY, num_hidden_layers=1),
}
SEQUENCES, LENGTH = 2, 40

every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def counter() -> FlopCounterMode:
    def forward(query, key, value, *_, **__):  # shapes
        return sdpa_flop_count(query, key, value)

    def backward(gradient, query, key, value, *_, **__):
        return sdpa_backward_flop_count(gradient, query, key, value)

    on_a_cpu = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: forward,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }
    return FlopCounterMode(display=False, custom_mapping=on_a_cpu)


def some_ids(sequences: int = SEQUENCES, length: int = LENGTH) -> Tensor:
    return torch.randint(0, 15, (sequences, length), generator=torch.Generator().manual_seed(0))


def counted_training(network: Qwen2) -> int:
    ids = some_ids()
    with counter() as flops:
        F.cross_entropy(network(ids).flatten(0, 1), ids.flatten()).backward()
    return flops.get_total_flops()


@every_config
@pytest.mark.parametrize("rows", [15, None])
def test_forward(config, rows):
    network = Qwen2(config, rows)
    expected = PassCost(config, rows or config.vocab_size).forward(SEQUENCES, LENGTH)
    with torch.no_grad():
        with counter() as flops:
            network(some_ids())
        assert flops.get_total_flops() == expected
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as flops:
            network(some_ids())
        assert flops.get_total_flops() == expected


def test_forward_with_an_adapter_and_the_head_of_one_token():
    lora = LoraConfig(rank=4)
    network = attach(Qwen2(TINY), lora)
    with torch.no_grad(), counter() as flops:
        network.logits(network.hidden(some_ids())[:, -1])
    assert flops.get_total_flops() == PassCost(TINY, 40, lora).forward(SEQUENCES, LENGTH, head_tokens=1)


@every_config
def test_training_from_scratch(config):
    cost = PassCost(config, 15, frozen=False)
    assert counted_training(Qwen2(config, 15)) == cost.training(SEQUENCES, LENGTH)


@every_config
def test_training_an_adapter(config):
    lora = LoraConfig(rank=4)
    counted = counted_training(attach(Qwen2(config, 15), lora))
    assert counted == PassCost(config, 15, lora).training(SEQUENCES, LENGTH)


@pytest.mark.parametrize("config", [TINY, CONFIGS["one layer"]], ids=["three layers", "one layer"])
@pytest.mark.parametrize("targets", ["qv", "o", ["gate"], ["k", "down"], ["down"]], ids=" ".join)
def test_training_goes_no_lower_than_the_first_adapter(config, targets):
    lora = LoraConfig(rank=4, targets=tuple(targets))
    counted = counted_training(attach(Qwen2(config, 15), lora))
    assert counted == PassCost(config, 15, lora).training(SEQUENCES, LENGTH)


def test_plain_attention_recomputes_no_scores():
    ids = some_ids()
    network = Qwen2(TINY, 15)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as flops:
        loss = network(ids).sum()
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    scores = 2 * SEQUENCES * LENGTH**2 * TINY.num_attention_heads * TINY.head_dim * TINY.num_hidden_layers
    counted = flops.get_total_flops() + backward.get_total_flops()
    assert counted + scores == PassCost(TINY, 15, frozen=False).training(SEQUENCES, LENGTH)


def test_a_frozen_weight_costs_four_flops_a_token_and_a_trained_one_six():
    config = replace(TINY, num_hidden_layers=100)
    weights = 15 * config.hidden_size + 100 * sum(i * o for i, o in config.projections().values())
    lora = LoraConfig(rank=1, targets=("q",))
    assert PassCost(config, 15, lora).training(1, 1) / weights == pytest.approx(4, rel=0.02)
    assert PassCost(config, 15, frozen=False).training(1, 1) / weights == pytest.approx(6, rel=0.02)


@pytest.mark.parametrize("config", [TINY, CONFIGS["one group, wide heads"]], ids=["grouped", "one group"])
@pytest.mark.parametrize("new", [1, 66])  # 65 tokens are fed: a block of keys and one more
def test_decoding(config, new):
    series, samples, prompt = 2, 3, 20
    lora = LoraConfig(rank=4, targets=("q", "up"))
    network = attach(Qwen2(config, 15), lora)
    with torch.no_grad(), counter() as flops:
        cache = SharedPrefixCache(torch.full((series,), prompt), samples)
        hidden = network.hidden(some_ids(series, prompt), cache)[:, -1].repeat_interleave(samples, 0)
        for token in range(new):
            drawn = network.logits(hidden).argmax(-1, keepdim=True)
            if token < new - 1:
                hidden = network.hidden(drawn, cache)[:, -1]
    assert flops.get_total_flops() == PassCost(config, 15, lora).decode(series, samples, prompt, new)


def test_sampling(make_numeric):
    """Forced tokens are counted as if each was drawn and fed, which is a little more than what they cost."""
    model = load_model(make_numeric(hidden_size=128, intermediate_size=320, head_dim=32), device="cpu")
    codec, steps, horizon, samples = Codec(digits=3), 50, 50, 4
    grammar = codec.grammar(1)
    prompts = [codec.encode([[one]] * steps, codec.fit_scale([[one]])).ids for one in (1.0, 2.0)]
    with counter() as flops:
        sample_paths(model, prompts, ["a", "b"], grammar, horizon, SampleConfig(samples=samples))
    cost = PassCost(model.network.config, model.network.model.embed_tokens.num_embeddings)
    expected = cost.decode(2, samples, len(prompts[0]), horizon * grammar.step_tokens)
    assert 0.99 * expected <= flops.get_total_flops() <= expected


# ── the ledger ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ledger_adds_up_by_experiment():
    ledger = Ledger()
    for experiment, flops in (("training", 5), ("validation", 2), ("training", 7)):
        ledger.charge(experiment, flops)
    assert ledger.spent == {"training": 12, "validation": 2}
    assert ledger.total == 14
    assert Ledger(spent=json.loads(json.dumps(ledger.spent))).total == 14
    assert ledger.affords(10**30)


def test_ledger_refuses_to_pass_its_budget_before_anything_is_spent():
    ledger = Ledger(budget=1e3)
    ledger.charge("training", 600)
    assert ledger.affords(400)
    assert not ledger.affords(401)
    with pytest.raises(BudgetError, match=r"validation needs 4\.010e\+02 FLOPs, but 6\.000e\+02 of 1\.000e\+03"):
        ledger.charge("validation", 401)
    assert ledger.spent == {"training": 600}
    ledger.charge("validation", 400)
    assert ledger.total == 1000
    assert not ledger.affords(1)


def test_ledgers_do_not_share_what_they_spent():
    Ledger().charge("training", 1)
    assert Ledger().total == 0
