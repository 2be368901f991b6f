"""Numbers to token ids and back, after LLMTIME (Gruver et al. 2023, arXiv:2310.07820).

A step of a series is its variables joined by "," and closed by ";". Two layouts:

- `fixed`: exactly `digits` digits a value and no point, `246,999;192,768;`. Every position's kind is known beforehand.
- `decimal`: `digits` digits after a point and as many before it as needed, `2.46,10.25;1.92,7.68;`, with a minus sign.

Every number has exactly one text, and a missing value is written `NaN`. Values are first quantised to integers, rounded
half to even, and digits are taken from the integers: digits taken from floats are wrong (0.29 becomes 28). Ids are
positions in `grammar.SYMBOLS`.

Shapes: N paths, T steps, H steps of the horizon, D variables, L tokens, W slots of a value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loracast.errors import ConfigError, DataError
from loracast.grammar import COMMA, DRAWN, MINUS, MISSING, POINT, SEMICOLON, Grammar, decimal_grammar, fixed_grammar
from loracast.statistics import ByVariable, Values, percentile

Layout = Literal["fixed", "decimal"]
ScalePolicy = Literal["variable", "joint", "dataset"]
OffsetPolicy = Literal["auto", "zero", "low"]
Integers: TypeAlias = Annotated[NDArray[np.int64], "*B T D"]
Which: TypeAlias = Annotated[NDArray[np.bool_], "*B T D"]


@dataclass(frozen=True, eq=False)
class Scale:
    """value = offset + integer · unit, by variable."""

    offset: ByVariable
    unit: ByVariable

    def to_dict(self) -> dict[str, list]:
        return {"offset": self.offset.tolist(), "unit": self.unit.tolist()}

    @classmethod
    def from_dict(cls, stored: dict[str, list]) -> Scale:
        return cls(np.asarray(stored["offset"], float), np.asarray(stored["unit"], float))


@dataclass(frozen=True, eq=False)
class Encoded:
    """Token ids of one series and how many of its values lay beyond the range and were written as its edge."""

    ids: Annotated[NDArray[np.int64], "L"]
    saturated: int


@dataclass(frozen=True, eq=False)
class Decoded:
    """Values, NaN where a step is invalid (or written as missing), and which steps are valid."""

    values: Annotated[NDArray[np.float64], "*B H D"]
    valid: Annotated[NDArray[np.bool_], "*B H"]


@dataclass(frozen=True)
class Codec:
    """How a series is written. Immutable; stored with every adapter, since a model only reads what it was tuned on.

    Args:
        layout: `fixed` or `decimal`.
        digits: digits of a value (`fixed`), or digits after the point (`decimal`).
        scale: where the unit comes from: each `variable` of the context, all of them `joint`ly, or one for a `dataset`.
        percentile: the percentile of the context that the unit is taken from.
        headroom: `fixed`: the range over that percentile's; 2 leaves room for a forecast twice as high.
        offset: `zero`, `low` (the range begins below the context's low percentile), or `auto`: `low` where the layout
            has no minus sign and the context goes below zero.
        leading: `decimal`: the most digits before the point; larger values saturate.
        dataset_scale: the stored scale of policy `dataset`, as `Scale.to_dict` gives it.

    Raises:
        ConfigError: for settings that cannot hold, all at once.

    Examples:
        >>> codec = loracast.Codec(digits=3)
        >>> context = [[2.46, 9.99], [1.92, 7.68]]
        >>> scale = codec.fit_scale(context)
        >>> integers = codec.quantise(context, scale)[0]
        >>> integers.tolist()
        [[501, 501], [391, 385]]
    """

    layout: Layout = "fixed"
    digits: int = 3
    scale: ScalePolicy = "variable"
    percentile: float = 99.0
    headroom: float = 2.0
    offset: OffsetPolicy = "auto"
    leading: int = 4
    dataset_scale: dict[str, list] | None = None

    def __post_init__(self):
        problems = []
        if self.layout not in ("fixed", "decimal"):
            problems.append(f"layout must be 'fixed' or 'decimal', not {self.layout!r}")
        if self.scale not in ("variable", "joint", "dataset"):
            problems.append(f"scale must be 'variable', 'joint' or 'dataset', not {self.scale!r}")
        if self.offset not in ("auto", "zero", "low"):
            problems.append(f"offset must be 'auto', 'zero' or 'low', not {self.offset!r}")
        fewest = 1 if self.layout == "fixed" else 0
        if not fewest <= self.digits <= 9:
            problems.append(f"digits must be {fewest} to 9 in layout {self.layout!r}, not {self.digits}")
        if not 1 <= self.leading <= 6:
            problems.append(f"leading must be 1 to 6, not {self.leading}")
        if not 50 < self.percentile <= 100:
            problems.append(f"percentile must lie above 50 and at most at 100, not {self.percentile}")
        if not 1 <= self.headroom < math.inf:
            problems.append(f"headroom must be finite and at least 1, not {self.headroom}")
        if problems:
            raise ConfigError(problems)

    def __repr__(self) -> str:
        """The settings that are not the defaults, after the layout and its digits."""
        settings = [(field, getattr(self, field.name)) for field in fields(self)[2:]]
        changed = [f"{field.name}={value!r}" for field, value in settings if value != field.default]
        return f"Codec({', '.join((repr(self.layout), f'digits={self.digits}', *changed))})"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    # -- scale ---------------------------------------------------------------------------------------------------

    def fit_scale(self, context: ArrayLike) -> Scale:
        """The scale of a context [..., T, D]; NaN is left out. Only ever the context: the future would leak.

        A variable that is zero throughout gets the scale of one that reaches 1, and so does one never observed.
        """
        context = np.asarray(context, float)
        if self.scale == "dataset":
            if self.dataset_scale is None:
                raise ConfigError(["scale 'dataset' needs a stored scale; make one with Codec.with_dataset_scale"])
            stored = Scale.from_dict(self.dataset_scale)
            shape = (*context.shape[:-2], context.shape[-1])
            if stored.unit.shape != shape[-1:]:
                raise DataError(
                    f"the series has {shape[-1]} variables, but the stored scale has {stored.unit.shape[-1]}; "
                    "forecast series like those it was made for, or make another one with Codec.with_dataset_scale"
                )
            return Scale(np.broadcast_to(stored.offset, shape), np.broadcast_to(stored.unit, shape))
        return self._fit(context)

    def with_dataset_scale(self, contexts: Sequence[ArrayLike]) -> Codec:
        """A codec of policy `dataset` whose scale is fitted to all steps of `contexts`, each [T, D].

        By variable, or for all variables together where this codec's policy is `joint`.
        """
        scale = self._fit(np.concatenate([np.asarray(context, float) for context in contexts]))
        return replace(self, scale="dataset", dataset_scale=scale.to_dict())

    def _fit(self, context: Values) -> Scale:
        if self.scale == "joint":
            flat = context.reshape(*context.shape[:-2], -1, 1)  # [..., T*D, 1]
            scale = self._fit_by_variable(flat)
            shape = (*context.shape[:-2], context.shape[-1])
            return Scale(np.broadcast_to(scale.offset, shape).copy(), np.broadcast_to(scale.unit, shape).copy())
        return self._fit_by_variable(context)

    def _fit_by_variable(self, context: Values) -> Scale:
        tiny, huge = np.finfo(float).tiny, np.finfo(float).max
        if self.layout == "decimal" and self.offset != "low":  # the percentile of the magnitudes is written as 10
            size = _size(np.abs(context), self.percentile)  # [..., D]
            return Scale(np.zeros_like(size), np.maximum(size / 10 / 10**self.digits, tiny))
        room = 10.0**self.digits if self.layout == "fixed" else 10.0 ** (self.digits + 1)
        headroom = self.headroom if self.layout == "fixed" else 1.0
        size = _size(context, self.percentile)
        low = np.nan_to_num(percentile(context, 100 - self.percentile))
        high = np.nan_to_num(percentile(context, self.percentile))
        half_span = high / 2 - low / 2  # halves: the span of finite numbers need not be finite
        half_span = np.where(half_span > 0, half_span, np.where(high != 0, np.abs(high) / 2, 0.5))
        with np.errstate(over="ignore"):
            shifted = np.clip(low - (headroom - 1) * half_span, -huge, huge)
        has_negative = np.nan_to_num(context).min(-2) < 0
        shift = has_negative if self.offset == "auto" else np.full(size.shape, self.offset == "low")
        offset = np.where(shift, shifted, 0.0)
        with np.errstate(over="ignore"):
            unit = np.where(shift, half_span / room * 2 * headroom, size / room * headroom)
        return Scale(offset, np.clip(unit, tiny, huge))

    def stretch(self, scale: Scale, factor: NDArray[np.float64]) -> Scale:
        """The scale with units `factor` [..., D] times as large; a range with an offset grows about its middle."""
        room = 10.0 ** (self.digits if self.layout == "fixed" else self.digits + 1)
        unit = scale.unit * factor
        shift = np.where(scale.offset != 0, (scale.unit - unit) * room / 2, 0.0)
        return Scale(scale.offset + shift, unit)

    # -- numbers to ids ------------------------------------------------------------------------------------------

    @property
    def _limits(self) -> tuple[int, int]:
        if self.layout == "fixed":
            return 0, 10**self.digits - 1
        return 1 - 10 ** (self.leading + self.digits), 10 ** (self.leading + self.digits) - 1

    def quantise(self, values: ArrayLike, scale: Scale) -> tuple[Integers, Which]:
        """Integers and whether each was clipped to the range, both [..., T, D]; a missing value becomes 0 unclipped."""
        low, high = self._limits
        rounded = np.nan_to_num(self._in_units(values, scale), posinf=high + 1.0, neginf=low - 1.0)
        clipped = np.clip(rounded, low, high)
        return clipped.astype(np.int64), clipped != rounded

    def beyond(self, values: ArrayLike, scale: Scale) -> Values:
        """How many units each value [..., T, D] lies beyond the range that can be written; 0 where it is missing."""
        low, high = self._limits
        rounded = self._in_units(values, scale)
        return np.nan_to_num(np.maximum(rounded - high, low - rounded).clip(0), posinf=np.finfo(float).max)

    def _in_units(self, values: ArrayLike, scale: Scale) -> Values:
        offset, unit = scale.offset[..., None, :], scale.unit[..., None, :]  # [..., 1, D]
        with np.errstate(over="ignore"):  # halves, since the distance of two finite numbers need not be finite
            return np.rint((np.asarray(values, float) / 2 - offset / 2) / unit * 2)

    def dequantise(self, integers: Integers, scale: Scale, places: Values | None = None) -> Values:
        """Values [..., T, D] of integers [..., T, D]: what a reader of the text gets back.

        An integer stands for all numbers that round to it. `places` [..., T, D] in [0, 1) tell where among them each
        value lies, from the lowest to the highest; unless given, in the middle. Where a range begins at zero, so do the
        numbers of the integer 0; where a minus sign may be written besides, 0 is exact, or populations would fall
        below it.
        """
        offset, unit = scale.offset[..., None, :], scale.unit[..., None, :]
        huge = np.finfo(float).max
        numbers = integers
        if places is not None:
            numbers = integers + (places - 0.5)
            of_zero = np.abs(numbers) if self.layout == "fixed" else 0.0
            numbers = np.where((integers == 0) & (offset == 0), of_zero, numbers)
        with np.errstate(over="ignore"):  # halves, since offset and span may each be near the largest float
            return np.clip(2 * (offset / 2 + numbers * (unit / 2)), -huge, huge)

    def slots(
        self, integers: Integers, missing: Which
    ) -> tuple[Annotated[NDArray[np.int64], "*B T D W"], Annotated[NDArray[np.bool_], "*B T D W"]]:
        """Every symbol that each value might need and which of them it does need, both [..., T, D, W]."""
        magnitude = np.abs(integers)
        width = self.digits if self.layout == "fixed" else self.leading + self.digits
        powers = 10 ** np.arange(width - 1, -1, -1)  # [width]
        digits = magnitude[..., None] // powers % 10  # [..., T, D, width]
        if self.layout == "fixed":
            keep = np.ones(digits.shape, bool)
        else:  # leading zeros go, but for the one before the point
            keep = (magnitude[..., None] >= powers) | (powers <= 10**self.digits)
            point = np.full((*digits.shape[:-1], 1), POINT)
            sign = np.full_like(point, MINUS)
            parts = [sign, digits[..., : self.leading], point, digits[..., self.leading :]]
            keeps = [
                integers[..., None] < 0,
                keep[..., : self.leading],
                np.full(point.shape, self.digits > 0),
                keep[..., self.leading :],
            ]
            digits, keep = np.concatenate(parts, -1), np.concatenate(keeps, -1)
        separator = np.full((*digits.shape[:-1], 1), COMMA)
        separator[..., -1, :] = SEMICOLON
        missing = missing[..., None]
        symbols = np.concatenate([np.where(missing, MISSING, digits), separator], -1)
        keep = np.where(missing, np.arange(digits.shape[-1]) == 0, keep)
        return symbols, np.concatenate([keep, np.ones(separator.shape, bool)], -1)

    def encode(self, values: ArrayLike, scale: Scale) -> Encoded:
        """The text of values [T, D] as ids [L]; NaN is written as missing, values out of range as the range's edge."""
        values = np.asarray(values, float)
        integers, saturated = self.quantise(values, scale)
        symbols, keep = self.slots(integers, np.isnan(values))
        return Encoded(symbols[keep], int(saturated.sum()))

    def encode_contexts(
        self, contexts: Sequence[Annotated[NDArray[np.float64], "_ D"]], scale: Scale | None = None
    ) -> tuple[list[Encoded], Scale]:
        """The texts of contexts, each [T, D], and their scales [N, D]: `fit_scale` and `encode` of all at once.

        Each is written in its own scale unless `scale` [N, D] is given.
        """
        lengths = [len(context) for context in contexts]
        padded = np.full((len(contexts), max(lengths), contexts[0].shape[1]), np.nan)
        for row, context in zip(padded, contexts):
            row[: len(context)] = context
        scale = scale or self.fit_scale(padded)
        integers, saturated = self.quantise(padded, scale)
        symbols, keep = self.slots(integers, np.isnan(padded))  # [N, T, D, W]
        texts = (row[:length][kept[:length]] for row, kept, length in zip(symbols, keep, lengths))
        return [Encoded(text, int(count)) for text, count in zip(texts, saturated.sum((1, 2)))], scale

    def cells(
        self, values: Values, scale: Scale, drawn: Which
    ) -> tuple[Annotated[NDArray[np.int64], "*B TD W"], Which]:
        """The text of each value [..., T, D] with its separator, [..., T·D, W], and whether the value was clipped.

        A text is filled up with `DRAWN`, and is nothing else where a value is `drawn` [..., T, D].
        """
        integers, saturated = self.quantise(values, scale)
        symbols, keep = self.slots(integers, np.isnan(values))  # [..., T, D, W]
        first = np.argsort(~keep, axis=-1, kind="stable")  # what is kept goes before what is not
        texts = np.take_along_axis(np.where(keep & ~drawn[..., None], symbols, DRAWN), first, -1)
        return texts.reshape(*values.shape[:-2], -1, texts.shape[-1]), saturated & ~drawn

    # -- ids to numbers ------------------------------------------------------------------------------------------

    def grammar(self, variables: int) -> Grammar:
        if self.layout == "fixed":
            return fixed_grammar(variables, self.digits)
        return decimal_grammar(variables, self.digits, self.leading)

    def decode(self, ids: ArrayLike, scale: Scale, horizon: int, places: Values | None = None) -> Decoded:
        """The first `horizon` steps of ids [..., L], strictly: a step counts only if the grammar accepts all of it.

        A malformed step, or one that is cut short, is NaN and not valid; the next one begins after the next ";".
        Ids of paths with a shorter text are padded with `OTHER`. The scale is [..., D] or [D]. Where a value lies among
        the numbers of its text is told by `places` [..., H, D], as for `dequantise`.
        """
        ids = np.asarray(ids, np.int64)
        leading_shape, grammar = ids.shape[:-1], self.grammar(scale.unit.shape[-1])
        paths, variables = math.prod(leading_shape), grammar.variables
        ids = ids.reshape(paths, ids.shape[-1])  # [N, L]
        row = np.arange(paths)
        state, step, variable = (np.zeros(paths, np.int64) for _ in range(3))
        magnitude, sign = np.zeros(paths, np.int64), np.ones(paths, np.int64)
        missing = np.zeros(paths, bool)
        integers = np.zeros((paths, horizon + 1, variables), np.int64)  # the last step takes what runs past the horizon
        absent = np.zeros(integers.shape, bool)
        valid = np.zeros((paths, horizon + 1), bool)
        for token in ids.T:  # [N] each
            state = grammar.next_state[state, token]
            alive = state != grammar.reject
            digit = alive & (token < 10)
            magnitude = np.where(digit, magnitude * 10 + token, magnitude)
            sign = np.where(alive & (token == MINUS), -1, sign)
            missing |= alive & (token == MISSING)
            separator = (token == COMMA) | (token == SEMICOLON)
            ends = alive & separator
            integers[row[ends], step[ends], variable[ends]] = (sign * magnitude)[ends]
            absent[row[ends], step[ends], variable[ends]] = missing[ends]
            variable = np.where(ends, variable + 1, variable)
            ended = token == SEMICOLON
            valid[row[ended], step[ended]] = alive[ended]
            step = np.minimum(step + ended, horizon)
            state, variable = np.where(ended, 0, state), np.where(ended, 0, variable)
            magnitude, sign = np.where(separator, 0, magnitude), np.where(separator, 1, sign)
            missing &= ~separator
        valid, absent = valid[:, :horizon], absent[:, :horizon]
        integers = integers[:, :horizon].reshape(*leading_shape, horizon, variables)
        values = self.dequantise(integers, scale, places)
        unread = (absent | ~valid[..., None]).reshape(values.shape)
        return Decoded(np.where(unread, np.nan, values), valid.reshape(*leading_shape, horizon))


def _size(values: Values, percent: float) -> ByVariable:
    """A positive size [..., D] of values [..., T, D]: their percentile, else their maximum, else 1."""
    size = np.nan_to_num(percentile(values, percent))
    size = np.where(size > 0, size, np.nan_to_num(values).max(-2))
    return np.where(size > 0, size, 1.0)
