"""Head, grammar and sampling of a whole batch in one kernel; the twin is `drawing.PlainDrawing`.

Shapes: B paths, C hidden size, L tokens of a path, S states, A symbols padded to 16.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from loracast.grammar import COMMA, DRAWN, OTHER, SEMICOLON, Grammar
from loracast.settings import SampleConfig

ROWS = 16


@triton.jit
def _or_given(
    symbol, path, inside, given_ptr, cell, slot, cells, WIDTH: tl.constexpr, DRAWN: tl.constexpr, COMMA: tl.constexpr,
    CLOSE: tl.constexpr,
):  # fmt: skip
    """The symbols that are given at each path's cell and slot or, where none are, these; and the next cell and slot."""
    there = inside & (cell < cells)  # a path that has ended is past what is given
    given = tl.load(given_ptr + (path.to(tl.int64) * cells + cell) * WIDTH + slot, there, DRAWN).to(tl.int32)
    symbol = tl.where(given != DRAWN, given, symbol)
    closed = (symbol == COMMA) | (symbol == CLOSE)
    return symbol, cell + closed.to(tl.int32), tl.where(closed, 0, slot + 1)


@triton.jit
def _draw(
    hidden_ptr, head_ptr, uniform_ptr, state_ptr, left_ptr, unsound_ptr, symbol_ptr, token_ptr,
    allowed_ptr, next_ptr, forced_ptr, rows_ptr, given_ptr, cell_ptr, slot_ptr,
    paths, columns, length, position, cells, inverse_temperature, top_p,
    T: tl.constexpr, NUCLEUS: tl.constexpr, GIVEN: tl.constexpr, WIDTH: tl.constexpr, DRAWN: tl.constexpr,
    OTHER: tl.constexpr, COMMA: tl.constexpr, CLOSE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    path = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = path < paths
    symbol = tl.arange(0, 16)
    logits = tl.zeros((ROWS, 16), tl.float32)
    for start in range(0, columns, BLOCK):
        column = start + tl.arange(0, BLOCK)
        known = column < columns
        hidden = tl.load(
            hidden_ptr + path[:, None].to(tl.int64) * columns + column[None], inside[:, None] & known[None], 0.0
        )
        head = tl.load(head_ptr + symbol[None] * columns + column[:, None], known[:, None], 0.0)
        logits = tl.dot(hidden, head, logits, input_precision="ieee")
    state = tl.load(state_ptr + path, inside, 0)
    left = tl.load(left_ptr + path, inside, 0)
    allowed = tl.load(allowed_ptr + state[:, None] * 16 + symbol[None]) != 0
    logits = logits * inverse_temperature
    unsound = tl.sum((allowed & ~(tl.abs(logits) < float("inf"))).to(tl.int32), 1) > 0  # also of a NaN
    unsound_from = tl.load(unsound_ptr + path, inside, 0)
    unsound = unsound & (left > 0) & (unsound_from > position)
    tl.store(unsound_ptr + path, tl.where(unsound, position, unsound_from), inside)
    logits = tl.where(allowed, logits, float("-inf"))
    weight = tl.exp(logits - tl.max(logits, 1)[:, None])
    weight = weight / tl.sum(weight, 1)[:, None]
    if NUCLEUS:
        mine, other = weight[:, :, None], weight[:, None, :]
        before = (other > mine) | ((other == mine) & (symbol[None, None, :] < symbol[None, :, None]))
        mass = tl.sum(tl.where(before, other, 0.0), 2)
        weight = tl.where(mass < top_p, weight, 0.0)
    cumulative = tl.cumsum(weight, 1)
    whole = tl.max(cumulative, 1)
    uniform = tl.load(uniform_ptr + path.to(tl.int64) * length + position, inside, 1.0)
    drawn = tl.sum((cumulative < (uniform * whole)[:, None]).to(tl.int32), 1)
    if GIVEN:
        cell = tl.load(cell_ptr + path, inside, 0)
        slot = tl.load(slot_ptr + path, inside, 0)
        drawn, cell, slot = _or_given(drawn, path, inside, given_ptr, cell, slot, cells, WIDTH, DRAWN, COMMA, CLOSE)
    ended = left <= 0
    place = path.to(tl.int64) * length + position
    tl.store(symbol_ptr + place, tl.where(ended, OTHER, drawn), inside)
    tl.store(token_ptr + path * T, tl.load(rows_ptr + drawn), inside)
    state = tl.load(next_ptr + state * 16 + drawn)
    left -= (drawn == CLOSE).to(tl.int32)
    for follower in tl.static_range(1, T):  # the symbols that must follow
        forced = tl.load(forced_ptr + state)
        if GIVEN:
            forced, cell, slot = _or_given(
                forced, path, inside, given_ptr, cell, slot, cells, WIDTH, DRAWN, COMMA, CLOSE
            )
        tl.store(symbol_ptr + place + follower, forced, inside)
        tl.store(token_ptr + path * T + follower, tl.load(rows_ptr + forced), inside)
        state = tl.load(next_ptr + state * 16 + forced)
        left -= (forced == CLOSE).to(tl.int32)
    tl.store(state_ptr + path, state, inside)
    tl.store(left_ptr + path, left, inside)
    if GIVEN:
        tl.store(cell_ptr + path, cell, inside)
        tl.store(slot_ptr + path, slot, inside)


class FusedDrawing:
    """The paths of a batch as far as they are drawn; see `interface.Drawing`.

    Args:
        head: [A, C] the head's rows of the symbols.
        rows: [A] the embedding's row of each symbol.
        uniforms: [B, L] each path's own numbers in (0, 1].
        horizon: steps that every path is to close.
        given: [B, cells, W] symbols that are taken in place of what is drawn, int8; `DRAWN` stands elsewhere.
    """

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
        device, spare = head.device, 16 - OTHER

        def table(values: NDArray[np.generic]) -> Tensor:
            return torch.from_numpy(values.astype(np.int32)).to(device)

        self.head, self.rows = F.pad(head, (0, 0, 0, spare)).contiguous(), F.pad(rows, (0, spare))
        self.uniforms, self.config = uniforms, config
        self.symbols = torch.full(uniforms.shape, OTHER, dtype=torch.int32, device=device)
        self.steps_left = torch.full((len(uniforms),), horizon, dtype=torch.int32, device=device)
        self.state = torch.zeros_like(self.steps_left)
        self.unsound_from = torch.full_like(self.steps_left, uniforms.shape[1])
        self.allowed = table(np.pad(grammar.sampled, ((0, 0), (0, spare))))
        self.next_state = table(np.pad(grammar.next_state[:, :OTHER], ((0, 0), (0, spare))))
        self.forced = table(grammar.sampled.argmax(1))
        self.given = None if given is None else given.contiguous()
        self.cell, self.slot = torch.zeros_like(self.state), torch.zeros_like(self.state)  # where in what is given

    def draw(self, hidden: Tensor, position: int, tokens: Tensor) -> None:
        paths, columns = hidden.shape
        cells, width = (0, 1) if self.given is None else self.given.shape[1:]
        _draw[(triton.cdiv(paths, ROWS),)](
            hidden, self.head, self.uniforms, self.state, self.steps_left, self.unsound_from, self.symbols, tokens,
            self.allowed, self.next_state, self.forced, self.rows, self.given, self.cell, self.slot,
            paths, columns, self.uniforms.shape[1], position, cells, 1 / self.config.temperature, self.config.top_p,
            T=tokens.shape[1], NUCLEUS=self.config.top_p < 1, GIVEN=self.given is not None, WIDTH=width, DRAWN=DRAWN,
            OTHER=OTHER, COMMA=COMMA, CLOSE=SEMICOLON, ROWS=ROWS, BLOCK=64,
        )  # fmt: skip
