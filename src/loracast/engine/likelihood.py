"""How likely a model finds what really followed: the same grammar as in sampling, the same text as in training.

Shapes: B windows, W steps, C of them of context, H = W - C after it, D variables, L tokens, A symbols.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from loracast.codec import Codec
from loracast.engine.batch import encode_batch, to_device
from loracast.errors import ModelError
from loracast.flops import PassCost
from loracast.grammar import SEMICOLON
from loracast.language_model import LanguageModel
from loracast.ledger import Ledger


def log_density(
    model: LanguageModel,
    codec: Codec,
    windows: NDArray[np.float64],
    context: int,
    targets: NDArray[np.bool_] | None = None,
    batch: int = 16,
) -> NDArray[np.float64]:
    """Log density in nats of the steps after the first `context` ones of each window [B, W, D], given those: [B].

    The probability of a number's text, under the grammar, is spread evenly over the numbers that are written so:
    log p(text) - log(unit) for each observed value (LLMTIME, section 3). Missing values count for nothing, and a symbol
    that the grammar forces has probability one. A value beyond the range is written as its edge, whose probability is
    spread over all that lies there: e units beyond, the density is the edge's over (1 + e)². Of the variables, only
    the `targets` [D] count, all unless given; the density is conditional on the others' values up to the same step.

    Raises:
        ModelError: the model computes NaN or infinite logits.
    """
    return step_log_density(model, codec, windows, context, targets, batch).sum(1)


def grouped_log_density(
    model: LanguageModel,
    codec: Codec,
    windows: NDArray[np.float64],
    context: int,
    targets: NDArray[np.bool_],
    groups: Sequence[Sequence[int]],
    cost: PassCost,
    ledger: Ledger | None,
) -> NDArray[np.float64]:
    """The sum [B] of the `log_density` of groups of variables that are read by themselves.

    Args:
        cost: of a pass through the model, which the ledger is charged for before each.
    """
    found = np.zeros(len(windows))
    for group in map(list, groups):
        read = windows[..., group]
        if ledger:
            tokens = encode_batch(codec, read, context).symbols.shape[1]
            ledger.charge("likelihood", cost.forward(len(windows), tokens - 1).total)
        found += log_density(model, codec, read, context, targets[group])
    return found


@torch.inference_mode()
def step_log_density(
    model: LanguageModel,
    codec: Codec,
    windows: NDArray[np.float64],
    context: int,
    targets: NDArray[np.bool_] | None = None,
    batch: int = 16,
) -> NDArray[np.float64]:
    """The parts [B, H] of `log_density` that the steps after the context have."""
    grammar = codec.grammar(windows.shape[2])
    head = model.network.head[model.rows]  # [A, C] the rows that the grammar may choose among
    barred = torch.from_numpy(~grammar.sampled).to(model.device)  # [S, A]
    result = []
    for start in range(0, len(windows), batch):
        chunk = windows[start : start + batch]
        encoded = encode_batch(codec, chunk, context, targets=targets).after(context)
        states = torch.from_numpy(grammar.walk(encoded.symbols)).to(model.device)  # [B, L]
        ids, _, in_loss = to_device(encoded, model.rows)
        symbols = torch.from_numpy(encoded.symbols).to(ids.device)
        wanted = in_loss[:, 1:]
        logits = F.linear(model.compute.hidden(ids[:, :-1])[wanted], head).float()  # [tokens, A]
        log_p = torch.log_softmax(logits.masked_fill(barred[states[:, 1:][wanted]], float("-inf")), -1)
        token_log_p = torch.zeros(wanted.shape, dtype=torch.float64, device=ids.device)
        token_log_p[wanted] = log_p.gather(-1, symbols[:, 1:][wanted][:, None])[:, 0].double()
        step_log_p = np.zeros((len(chunk), chunk.shape[1] + 1))  # the last column takes what pads
        ended = np.cumsum(encoded.symbols == SEMICOLON, 1)[:, :-1]  # [B, L - 1] steps before each token
        np.add.at(step_log_p, (np.arange(len(chunk))[:, None], ended), token_log_p.cpu().numpy())
        step_log_p = step_log_p[:, context:-1]  # [B, H]
        if not np.isfinite(step_log_p).all():
            first = start + np.isfinite(step_log_p).all(1).argmin()
            raise ModelError(
                f"the model computes NaN or infinite logits, first for windows[{first}]: its weights or the adapter's "
                "are damaged or far too large; judge without the adapter to learn which, then copy the model again or "
                "tune another adapter"
            )
        observed = ~np.isnan(chunk[:, context:]) & (True if targets is None else targets)  # [B, H, D]
        beyond = np.where((np.arange(chunk.shape[1]) >= context)[:, None], np.nan, chunk)
        scale = codec.fit_scale(beyond)
        log_width = np.log(scale.unit)[:, None] + 2 * np.log1p(codec.beyond(chunk[:, context:], scale))  # [B, H, D]
        result.append(step_log_p - (observed * log_width).sum(2))
    return np.concatenate(result)
