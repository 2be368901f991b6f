"""The symbols that numbers are written with, and the automaton of well-formed text.

Ids here are positions in `SYMBOLS`; a model's own token ids are looked up elsewhere, symbol by symbol.

Shapes: L tokens, S states, A symbols.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

SYMBOLS = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9", ".", ",", ";", "-", "NaN")
POINT, COMMA, SEMICOLON, MINUS, MISSING = range(10, 15)
OTHER = len(SYMBOLS)  # anything a full vocabulary may produce that is not a symbol; never accepted
DRAWN = -1  # stands, in texts that are given beforehand, where a symbol is to be drawn
MOST_FED = 32  # tokens that one pass adds to a path at most


@dataclass(frozen=True, eq=False)
class Grammar:
    """The automaton of well-formed text for one number of variables. State 0 stands before a step.

    The same table constrains sampling, splits text when it is parsed, and gives the likelihood its normalisation.

    Attributes:
        next_state: [S, A + 1] the state after a symbol; the last state rejects and is never left.
        sampled: [S, A] the symbols a forecast may draw: all accepted ones but `NaN`, since a forecast is not missing.
        forced: [S] True where only one symbol may be drawn, so that nothing needs to be.
        step_tokens: the most tokens a sampled step can take.
        lockstep: whether every path is in the same state after the same number of sampled tokens.
    """

    variables: int
    next_state: NDArray[np.int64]
    sampled: NDArray[np.bool_]
    forced: NDArray[np.bool_]
    step_tokens: int
    lockstep: bool

    @property
    def reject(self) -> int:
        return len(self.next_state) - 1

    def follow(self, state: int) -> int:
        """The state after any symbol that may be drawn in `state`; of use where the automaton runs in lockstep."""
        return int(self.next_state[state, self.sampled[state].argmax()])

    def passes(self, horizon: int, given: NDArray[np.int64] | None = None) -> list[int]:
        """The tokens that each pass adds to paths in lockstep: first one that may be drawn, then those that are not.

        Args:
            given: [horizon · variables, W] the text of each value that is given in all paths, `DRAWN` elsewhere.
        """
        free, state, cell, place = [], 0, 0, 0
        while cell < horizon * self.variables:
            symbol = DRAWN if given is None else given[cell, place]
            free.append(symbol == DRAWN and not self.forced[state])
            symbol = self.sampled[state].argmax() if symbol == DRAWN else symbol
            state = self.next_state[state, symbol]
            cell, place = (cell + 1, 0) if symbol in (COMMA, SEMICOLON) else (cell, place + 1)
        lengths: list[int] = []
        for drawn in free:
            if drawn or not lengths or lengths[-1] == MOST_FED:
                lengths.append(0)
            lengths[-1] += 1
        return lengths

    def walk(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The state before each token, [..., L] for ids [..., L] that begin at the start of a step."""
        state = np.zeros(ids.shape[:-1], np.int64)  # [...]
        states = np.empty(ids.shape, np.int64)  # [..., L]
        for position in range(ids.shape[-1]):
            states[..., position] = state
            state = self.next_state[state, ids[..., position]]
        return states

    def in_loss(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which tokens [..., L] are targets of training: every accepted one but `NaN`, which no forecast may draw."""
        return (ids != MISSING) & (self.next_state[self.walk(ids), ids] != self.reject)


def to_text(ids: ArrayLike) -> str:
    """The text that ids [L] stand for; `OTHER` shows as "�"."""
    return "".join((*SYMBOLS, "�")[index] for index in np.asarray(ids, int))


def from_text(text: str) -> NDArray[np.int64]:
    """Ids [L] of a text, symbol by symbol; a character that belongs to no symbol becomes `OTHER`."""
    ids, position = [], 0
    while position < len(text):
        symbol = "NaN" if text.startswith("NaN", position) else text[position]
        ids.append(SYMBOLS.index(symbol) if symbol in SYMBOLS else OTHER)
        position += len(symbol)
    return np.array(ids, np.int64)


@cache
def fixed_grammar(variables: int, digits: int) -> Grammar:
    """The text of layout `fixed`: every value `digits` digits long."""
    value_states = digits + 1  # one before each digit and one before the separator
    states = variables * value_states + 1
    next_state = np.full((states, OTHER + 1), states - 1)
    for variable in range(variables):
        first = variable * value_states
        for state in range(first, first + digits):
            next_state[state, :10] = state + 1
        last = variable == variables - 1
        next_state[first, MISSING] = first + digits
        next_state[first + digits, SEMICOLON if last else COMMA] = 0 if last else first + value_states
    return _grammar(variables, next_state, step_tokens=variables * value_states, lockstep=True)


@cache
def decimal_grammar(variables: int, digits: int, leading: int) -> Grammar:
    """The text of layout `decimal`: maybe a minus sign, at most `leading` digits, a point and `digits` more."""
    # the states of a value: before it; after "-"; after "0"; after "-0", "-0." and each further 0 but the last, since
    # there is no minus zero; after 1 to `leading` digits; after "." and 0 to digits - 1 decimals; before the separator
    negligible = digits + 1 if digits else 0
    value_states = 3 + negligible + leading + digits + 1
    states = variables * value_states + 1
    next_state = np.full((states, OTHER + 1), states - 1)
    for variable in range(variables):
        before = variable * value_states
        signed, zero, minus_zero = before + 1, before + 2, before + 3
        first = minus_zero + negligible
        decimals, end = first + leading, before + value_states - 1
        last = variable == variables - 1
        separator, after = (SEMICOLON, 0) if last else (COMMA, before + value_states)
        next_state[before, MINUS] = signed
        next_state[before, MISSING] = end
        next_state[before, 0] = zero
        next_state[[before, signed], 1:10] = first
        for state in range(first, first + leading - 1):
            next_state[state, :10] = state + 1
        whole = (zero, *range(first, first + leading))
        if digits:
            next_state[whole, POINT] = decimals
            next_state[signed, 0], next_state[minus_zero, POINT] = minus_zero, minus_zero + 1
        else:
            next_state[whole, separator] = after
        for place in range(digits):
            next_state[[decimals + place, minus_zero + 1 + place], :10] = decimals + place + 1
            next_state[minus_zero + 1 + place, 0] = minus_zero + 2 + place if place + 1 < digits else states - 1
        next_state[end, separator] = after
    step_tokens = variables * (1 + leading + (digits > 0) + digits + 1)
    return _grammar(variables, next_state, step_tokens=step_tokens, lockstep=False)


def _grammar(variables: int, next_state: NDArray[np.int64], *, step_tokens: int, lockstep: bool) -> Grammar:
    sampled = (next_state != len(next_state) - 1)[:, :OTHER]
    sampled[:, MISSING] = False
    return Grammar(variables, next_state, sampled, sampled.sum(1) == 1, step_tokens, lockstep)
