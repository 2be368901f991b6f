"""Drawing the next symbol of many paths from what a model says, as the grammar allows it.

The fast twin is `cuda/drawing.py`.

Shapes: B paths, T tokens of a pass, L tokens of a path, C hidden size, A symbols, V rows of the head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from loracast.grammar import COMMA, DRAWN, OTHER, SEMICOLON, Grammar
from loracast.settings import SampleConfig


class PlainDrawing:
    """See `interface.Drawing`. What is `given` [B, cells, W] is taken in place of what is drawn, but for `DRAWN`."""

    def __init__(
        self,
        head: Tensor,
        rows: Tensor,
        uniforms: Tensor,
        grammar: Grammar,
        horizon: int,
        config: SampleConfig,
        given: Tensor | None = None,
    ):
        paths, device = len(uniforms), head.device
        self.head, self.rows, self.uniforms, self.config = head, rows, uniforms, config
        self.barred = torch.from_numpy(~grammar.sampled).to(device)  # [states, A]
        self.next_state = torch.from_numpy(grammar.next_state).to(device)
        self.forced = torch.from_numpy(grammar.sampled.argmax(1)).to(device)
        self.symbols = torch.full(uniforms.shape, OTHER, device=device)
        self.steps_left = torch.full((paths,), horizon, device=device)
        self.state = torch.zeros_like(self.steps_left)
        self.unsound_from = torch.full_like(self.steps_left, uniforms.shape[1])
        self.given, self.path = given, torch.arange(paths, device=device)
        self.cell, self.place = torch.zeros_like(self.state), torch.zeros_like(self.state)  # where in what is given

    def draw(self, hidden: Tensor, position: int, tokens: Tensor) -> None:
        logits = F.linear(hidden, self.head).float() / self.config.temperature  # [B, A]
        barred = self.barred[self.state]
        ended = self.steps_left <= 0  # such a path is fed on, for as long as the others take
        unsound = ~(logits.isfinite() | barred).all(-1) & ~ended
        self.unsound_from = torch.where(unsound, self.unsound_from.clamp(max=position), self.unsound_from)
        symbol = draw(logits.masked_fill(barred, float("-inf")), self.uniforms[:, position], self.config.top_p)  # [B]
        for place in range(tokens.shape[1]):
            symbol = symbol if self.given is None else self._or_given(symbol, self.given)
            self.symbols[:, position + place] = torch.where(ended, OTHER, symbol)
            tokens[:, place] = self.rows[symbol]
            self.steps_left -= (symbol == SEMICOLON).long()
            self.state = self.next_state[self.state, symbol]
            symbol = self.forced[self.state]

    def _or_given(self, symbol: Tensor, given: Tensor) -> Tensor:
        """The symbols [B] that are given at each path's place or, where none are, these; moves on by one place."""
        inside = self.cell < given.shape[1]  # a path that has ended is past it
        here = given[self.path, torch.where(inside, self.cell, 0), self.place].long()
        symbol = torch.where(inside & (here != DRAWN), here, symbol)
        closed = (symbol == COMMA) | (symbol == SEMICOLON)
        self.cell += closed.long()
        self.place = torch.where(closed, 0, self.place + 1)
        return symbol


def draw(logits: Tensor, uniform: Tensor, top_p: float) -> Tensor:
    """One index [B] of logits [B, V] by inverting the cumulative distribution at each path's own number [B].

    Logits are divided by the temperature already. Those that are not finite give an index that means nothing.
    """
    probability = torch.softmax(logits, -1)
    if top_p < 1:
        ordered, order = probability.sort(-1, descending=True)
        outside = ordered.cumsum(-1) - ordered >= top_p
        probability = torch.zeros_like(probability).scatter(-1, order, ordered.masked_fill(outside, 0))
    cumulative = probability.cumsum(-1)  # [B, V]
    return (cumulative < uniform[:, None] * cumulative[:, -1:]).sum(-1)
