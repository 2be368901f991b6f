"""One path as it is written: token by token, with how surprising each is, and the same of the text that is read.

Surprise is -log2 of the probability that the model, under the grammar, gave to the symbol: in bits. A symbol that the
grammar forces has none.

Shapes: C steps of context, D variables, A symbols, L tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from loracast.codec import Codec
from loracast.engine.sample import PathBatch
from loracast.grammar import COMMA, SEMICOLON, SYMBOLS, Grammar
from loracast.language_model import LanguageModel
from loracast.settings import SampleConfig


@dataclass(frozen=True)
class Token:
    """A symbol of the text.

    Attributes:
        text: as it is written.
        variable: the position, from 0, of the variable that it belongs to.
        step: the step, from 0; those of what is read come before those of what is written.
        bits: its surprise; None of the first of all, before which nothing stands.
        read: whether it was read, and not written.
    """

    text: str
    variable: int
    step: int
    bits: float | None
    read: bool


@torch.inference_mode()
def written(
    model: LanguageModel,
    codec: Codec,
    context: NDArray[np.float64],
    id: str,
    horizon: int,
    config: SampleConfig,
    number: int = 0,
) -> Iterator[Token]:
    """The text of a context [C, D], then that of one path, each token as soon as it is drawn.

    Args:
        id: the series' name; the path draws the same random numbers as it does in a forecast with these settings.
        number: of the path.
    """
    grammar = codec.grammar(context.shape[1])
    prompt = codec.encode_contexts([context])[0][0].ids
    place = _Place()
    log_p = _read_log_p(model, grammar, prompt)
    for symbol, found in zip(prompt.tolist(), [None, *log_p]):
        yield place.token(symbol, found, read=True)
    batch = PathBatch(model, [prompt], [(id, number, 0)], grammar, config)
    length = horizon * grammar.step_tokens
    decoder, hidden, uniforms = batch._begin(length)
    drawing, state, passes, position = batch._drawing(uniforms, horizon), 0, batch._passes(horizon), 0
    while True:
        new = passes.pop()
        tokens = decoder.buffer(new)
        drawing.draw(hidden, position, tokens)
        symbols = drawing.symbols[0, position : position + new].tolist()
        row = torch.log_softmax(_allowed(model, grammar, hidden[:1], np.array([state])) / config.temperature, -1)[0]
        for index, symbol in enumerate(symbols):
            yield place.token(symbol, float(row[symbol]) if index == 0 else 0.0, read=False)
            state = int(grammar.next_state[state, symbol])
        position += new
        if not passes or bool(drawing.steps_left[0] <= 0):
            return
        hidden = decoder.advance(tokens)


class _Place:
    """Where in a text a token stands."""

    def __init__(self) -> None:
        self.variable = self.step = 0

    def token(self, symbol: int, log_p: float | None, read: bool) -> Token:
        bits = None if log_p is None else max(0.0, -log_p / math.log(2))
        token = Token(SYMBOLS[symbol], self.variable, self.step, bits, read)
        if symbol == COMMA:
            self.variable += 1
        elif symbol == SEMICOLON:
            self.variable, self.step = 0, self.step + 1
        return token


def _read_log_p(model: LanguageModel, grammar: Grammar, prompt: NDArray[np.int64]) -> list[float]:
    """Log probabilities [L - 1] of the symbols of a text, each given those before it."""
    states = grammar.walk(prompt[None])[0]  # [L] before each symbol
    hidden = model.compute.hidden(model.rows[torch.from_numpy(prompt)[None]])[0, :-1]
    log_p = torch.log_softmax(_allowed(model, grammar, hidden, states[1:]), -1)
    return log_p.gather(-1, torch.from_numpy(prompt[1:]).to(log_p.device)[:, None])[:, 0].tolist()


def _allowed(model: LanguageModel, grammar: Grammar, hidden: Tensor, states: NDArray[np.int64]) -> Tensor:
    """Logits [L, A] of hidden states [L, C], minus infinity where the grammar's state [L] does not allow a symbol."""
    logits = F.linear(hidden, model.network.head[model.rows]).float()
    return logits.masked_fill(torch.from_numpy(~grammar.sampled[states]).to(logits.device), float("-inf"))
