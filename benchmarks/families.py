"""Each family of models on this machine: the way that computes it, and that way beside the plain one.

    python benchmarks/families.py [--layers 8] [--repeats 5] [-o FILE]

Every family has one shape (hidden size 576, 9 query and 3 key-value heads of 64, MLP 1536, that of SmolLM2-135M) and
random weights in bfloat16, with an adapter of rank 8 on all linear layers. Work: gradients of 16 windows of 512 tokens,
and 64 tokens for 20 paths of each of 8 prompts of 200. Errors are those of hidden states against float32 on the same
weights, as shares of their norm, so that a fast way is right where its error is that of the plain way.

The last line of the output is the result as JSON.
"""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line sets it, before torch is imported

import torch
from harness import bare_parser, describe, finish, keep, median, note, rounded, timed
from torch import Tensor

from loracast.compute import PlainCompute, choose, unsupported
from loracast.compute.device import choose_device
from loracast.engine.pretrain import initialise
from loracast.model.config import ModelConfig
from loracast.model.families import FAMILIES
from loracast.model.lora import adapter_layers, attach
from loracast.model.transformer import Transformer
from loracast.settings import LoraConfig

WINDOWS, LENGTH, SERIES, SAMPLES, PROMPT, NEW = 16, 512, 8, 20, 200, 64


def network_of(name: str, layers: int) -> Transformer:
    family = FAMILIES[name]
    shape = ModelConfig(
        *(1000, 576, 1536, layers, 9, 3, 64), family=name, qkv_bias=family.qkv_bias, qk_norm=family.qk_norm
    )
    network = attach(initialise(shape, 0), LoraConfig(rank=8), 0)
    for _, layer in adapter_layers(network):
        torch.nn.init.normal_(layer.lora_B, 0.0, 0.02, generator=torch.Generator().manual_seed(1))
    return network


def training(compute: PlainCompute, ids: Tensor) -> Callable[[], object]:
    """What computes the adapters' gradients for a batch; passes are prepared once, as in a tuning."""
    adapters = [one for one in compute.network.parameters() if one.requires_grad]
    passes = compute.passes(adapters)
    share, in_loss = torch.tensor(1 / ids.numel(), device=ids.device), torch.ones_like(ids, dtype=torch.bool)
    targets = ids.roll(-1, 1)

    def gradients() -> None:
        passes.add_gradients(ids, targets, in_loss, share)
        for one in adapters:
            one.grad = None

    return gradients


@torch.no_grad()
def decode(compute: PlainCompute, ids: Tensor) -> Tensor:
    """Hidden states of paths that are fed the same tokens, whatever computes them."""
    lengths = torch.full((SERIES,), PROMPT, device=ids.device)
    decoder = compute.decoder(ids[:SERIES, :PROMPT], lengths, SAMPLES, NEW)
    states = [decoder.prefill().float()]
    for step in range(NEW):
        feed = decoder.buffer(1)
        feed[:, 0] = ids[0, step]
        states.append(decoder.advance(feed).float().clone())
    return torch.stack(states)


def measure(name: str, layers: int, repeats: int, device: torch.device) -> dict[str, Any]:
    exact = network_of(name, layers).to(device)
    network = copy.deepcopy(exact)
    for parameter in network.parameters():
        parameter.data = parameter.data.to(torch.float32 if parameter.requires_grad else torch.bfloat16)
    exact.load_state_dict({key: value.to(torch.float32) for key, value in network.state_dict().items()})
    ids = torch.randint(1000, (WINDOWS, LENGTH), generator=torch.Generator().manual_seed(2)).to(device)
    ways = {"chosen": choose(network), "plain": choose(network, "plain")}
    truth = decode(choose(exact, "plain"), ids)
    row: dict[str, Any] = {"way": ways["chosen"].name, "refused": "; ".join(unsupported(network.config))}
    for label, compute in ways.items():
        row[f"{label}_error"] = rounded(((decode(compute, ids) - truth).norm() / truth.norm()).item())
        works = {"train": training(compute, ids), "decode": functools.partial(decode, compute, ids)}
        for what, work in works.items():
            timed(device, work, 2)  # warms up
            row[f"{label}_{what}_seconds"] = rounded(median([timed(device, work) for _ in range(repeats)]))
    return row


def main() -> None:
    parser = bare_parser(__doc__ or "", repeats=5)
    parser.add_argument("--layers", type=int, default=8)
    options = parser.parse_args()
    result = describe(options, "families")
    result["families"] = {}
    device = choose_device("auto")
    for name in FAMILIES:
        row = result["families"][name] = measure(name, options.layers, options.repeats, device)
        told = [
            f"{what} {row[f'chosen_{what}_seconds']:.3g} s (plain {row[f'plain_{what}_seconds']:.3g})"
            for what in ("train", "decode")
        ]
        errors = f"error {row['chosen_error']:.2g} (plain {row['plain_error']:.2g})"
        note(f"{name}: {row['way']}, {', '.join(told)}, {errors}; refused by {row['refused'] or 'none'}")
        keep(result, options.output)
    finish(result, options.output)


if __name__ == "__main__":
    main()
