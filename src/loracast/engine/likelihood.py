"""How likely a model finds what really followed: the same grammar as in sampling, the same text as in training."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from loracast.codec import Codec
from loracast.engine.batch import encode_batch, to_device
from loracast.errors import ModelError
from loracast.language_model import LanguageModel


@torch.inference_mode()
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
    that the grammar forces has probability one. Of the variables, only the `targets` [D] count, all unless given; the
    density is conditional on the others' values up to the same step.

    Raises:
        ModelError: the model computes NaN or infinite logits.
    """
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
        text_log_p = token_log_p.sum(1).cpu().numpy()
        if not np.isfinite(text_log_p).all():
            first = start + np.isfinite(text_log_p).argmin()
            raise ModelError(
                f"the model computes NaN or infinite logits, first for windows[{first}]: its weights or the adapter's "
                "are damaged or far too large; judge without the adapter to learn which, then copy the model again or "
                "tune another adapter"
            )
        observed = ~np.isnan(chunk[:, context:]) & (True if targets is None else targets)  # [B, H, D]
        beyond = np.where((np.arange(chunk.shape[1]) >= context)[:, None], np.nan, chunk)
        log_unit = np.log(codec.fit_scale(beyond).unit)[:, None]  # [B, 1, D]
        result.append(text_log_p - (observed * log_unit).sum((1, 2)))
    return np.concatenate(result)
