"""Numbers to text and back: against exact arithmetic, Python's own formatting and an independent regular expression.

Shapes: N series, T steps, D variables, L tokens.
"""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from loracast.codec import Codec, Scale
from loracast.errors import ConfigError, DataError
from loracast.grammar import COMMA, MISSING, OTHER, SEMICOLON, SYMBOLS, Grammar, from_text, to_text
from loracast.statistics import percentile as percentile_of

HUGE = np.finfo(float).max
EXTREMES = (0.0, -0.0, 1e308, -1e308, HUGE, -HUGE, 5e-324, -5e-324, 2.3e-308, 1.0, -1.0, 999.5, float("nan"))


def unit_scale(variables: int, unit: float = 1.0) -> Scale:
    return Scale(np.zeros(variables), np.full(variables, unit))


def limits(codec: Codec) -> tuple[int, int]:
    """The smallest and the largest integer that a layout can write."""
    if codec.layout == "fixed":
        return 0, 10**codec.digits - 1
    return -(10 ** (codec.leading + codec.digits) - 1), 10 ** (codec.leading + codec.digits) - 1


# ── what the tests draw ───────────────────────────────────────────────────────────────────────────────────────────────


layouts = st.one_of(
    st.fixed_dictionaries({"layout": st.just("fixed"), "digits": st.integers(1, 9)}),
    st.fixed_dictionaries(
        {"layout": st.just("decimal"), "digits": st.integers(0, 9), "leading": st.integers(1, 6)},
    ),
)
policies = st.fixed_dictionaries(
    {
        "scale": st.sampled_from(["variable", "joint", "dataset"]),
        "offset": st.sampled_from(["auto", "zero", "low"]),
        "percentile": st.floats(50, 100, exclude_min=True),
        "headroom": st.floats(1, 10) | st.floats(1, 1e300),
    }
)
codecs = st.builds(lambda layout, policy: Codec(**layout, **policy), layouts, policies)
small_codecs = st.one_of(
    st.builds(Codec, layout=st.just("fixed"), digits=st.integers(1, 3)),
    st.builds(Codec, layout=st.just("decimal"), digits=st.integers(0, 2), leading=st.integers(1, 3)),
)
finite_or_missing = st.sampled_from(EXTREMES) | st.floats(-1e3, 1e3) | st.floats(allow_infinity=False)


@st.composite
def tables(draw: st.DrawFn) -> NDArray[np.float64]:
    """Values [T, D] of any finite size, some missing; half of them lie a few floats beside one large number."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 4)))
    if draw(st.booleans()):
        return draw(hnp.arrays(np.float64, shape, elements=finite_or_missing))
    centre = draw(st.floats(-1e308, 1e308))
    ulps = draw(hnp.arrays(np.int64, shape, elements=st.integers(-9, 9)))
    return centre + ulps * np.spacing(centre)


@st.composite
def integer_tables(draw: st.DrawFn, codec: Codec) -> NDArray[np.float64]:
    """Whole numbers [T, D] that `codec` can write with unit 1, some missing."""
    low, high = limits(codec)
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 4)))
    number = st.integers(low, high) | st.integers(max(low, -11), min(high, 11))
    return draw(hnp.arrays(np.float64, shape, elements=number.map(float) | st.just(float("nan"))))


def fitted(codec: Codec, context: NDArray[np.float64]) -> tuple[Codec, Scale]:
    """The codec, with the data set's scale where its policy wants one, and its scale of a context."""
    if codec.scale == "dataset":
        codec = codec.with_dataset_scale([context])
    return codec, codec.fit_scale(context)


# ── numbers to text ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_known_texts():
    values = [[2.46, 9.99], [1.92, 7.68]]
    assert to_text(Codec("fixed", 3).encode(values, unit_scale(2, 0.01)).ids) == "246,999;192,768;"
    values = [[2.46, 10.25], [1.92, 7.68]]
    assert to_text(Codec("decimal", 2).encode(values, unit_scale(2, 0.01)).ids) == "2.46,10.25;1.92,7.68;"


@pytest.mark.parametrize(
    ("layout", "digits", "value", "unit", "text"),
    [
        ("decimal", 2, 0.29, 0.01, "0.29;"),  # int(0.29 * 100) is 28
        ("fixed", 3, 0.29, 0.01, "029;"),
        ("decimal", 2, -0.29, 0.01, "-0.29;"),
        ("decimal", 2, -0.004, 0.01, "0.00;"),  # there is no minus zero
        ("decimal", 2, 100.0, 0.01, "100.00;"),
        ("decimal", 0, -12.0, 1.0, "-12;"),
        ("decimal", 0, 0.0, 1.0, "0;"),
        ("decimal", 2, float("nan"), 0.01, "NaN;"),
        ("fixed", 3, float("nan"), 0.01, "NaN;"),
        ("fixed", 2, 0.5, 1.0, "00;"),  # half to even
        ("fixed", 2, 1.5, 1.0, "02;"),
        ("fixed", 2, 2.5, 1.0, "02;"),
        ("decimal", 0, -2.5, 1.0, "-2;"),
        ("decimal", 0, -3.5, 1.0, "-4;"),
    ],
)
def test_known_numbers(layout, digits, value, unit, text):
    encoded = Codec(layout, digits).encode([[value]], unit_scale(1, unit))
    assert to_text(encoded.ids) == text
    assert encoded.saturated == 0


@settings(deadline=None)
@given(data=st.data(), layout=layouts)
def test_digits_are_those_of_the_integer(data, layout):
    codec = Codec(**layout)
    values = data.draw(integer_tables(codec))

    def written(value: float) -> str:
        if np.isnan(value):
            return "NaN"
        return f"{int(value):0{codec.digits}d}" if codec.layout == "fixed" else point_before(int(value), codec.digits)

    text = "".join(",".join(map(written, step)) + ";" for step in values)
    assert to_text(codec.encode(values, unit_scale(values.shape[1])).ids) == text


def point_before(integer: int, digits: int) -> str:
    return f"{Decimal(integer).scaleb(-digits):f}"


@settings(deadline=None)
@given(data=st.data(), layout=layouts)
def test_quantises_and_counts_saturation_as_exact_arithmetic_does(data, layout):
    codec = Codec(**layout)
    low, high = limits(codec)
    offset, exponent = data.draw(st.integers(-50, 50)), data.draw(st.integers(-20, 20))
    near = [st.integers(4 * edge - 6, 4 * edge + 6) for edge in (low, high, 0)]
    quarters = data.draw(hnp.arrays(np.int64, (5, 2), elements=st.one_of(st.integers(4 * low, 4 * high), *near)))
    unit = 2.0**exponent  # with quarters of a power of two nothing is rounded before the quantisation
    scale = Scale(np.full(2, offset * unit), np.full(2, unit))
    integers, clipped = codec.quantise((quarters / 4 + offset) * unit, scale)
    rounded = [[round(Fraction(int(quarter), 4)) for quarter in step] for step in quarters]  # half to even
    assert integers.tolist() == [[min(max(integer, low), high) for integer in step] for step in rounded]
    assert clipped.tolist() == [[not low <= integer <= high for integer in step] for step in rounded]
    assert codec.encode((quarters / 4 + offset) * unit, scale).saturated == clipped.sum()


def test_infinities_saturate():
    values = [[np.inf, -np.inf, 1.0]]
    assert to_text(Codec("fixed", 2).encode(values, unit_scale(3)).ids) == "99,00,01;"
    assert Codec("fixed", 2).encode(values, unit_scale(3)).saturated == 2


# ── the round trip ────────────────────────────────────────────────────────────────────────────────────────────────────


@settings(deadline=None, max_examples=250)
@given(codec=codecs, values=tables(), data=st.data())
@example(Codec(digits=1, headroom=10.0), np.array([[HUGE], [-HUGE]]), None)
@example(Codec(digits=1, headroom=1e300), np.array([[1e308]]), None)
@example(Codec(digits=9), np.array([[5e-324, -5e-324]]), None)
@example(Codec("decimal", 9), np.array([[1e308, -1e308], [5e-324, 0.0]]), None)
def test_round_trip_to_the_quantisation_step(codec, values, data):
    """What is not saturated comes back within unit / 2 and 4 units in the last place of the largest number involved."""
    steps = len(values) if data is None else data.draw(st.integers(1, len(values)))
    codec, scale = fitted(codec, values[:steps])
    assert np.isfinite(scale.offset).all()
    assert np.isfinite(scale.unit).all()
    assert (scale.unit > 0).all()
    encoded = codec.encode(values, scale)
    decoded = codec.decode(encoded.ids, scale, len(values))
    integers, clipped = codec.quantise(values, scale)
    assert encoded.saturated == clipped.sum()
    assert decoded.valid.all()
    observed = ~np.isnan(values)
    np.testing.assert_array_equal(np.isnan(decoded.values), ~observed)
    offset, unit = np.broadcast_arrays(scale.offset, scale.unit, values)[:2]
    half_ulp = np.spacing(np.fmax(np.fmax(np.abs(values), np.abs(offset)), unit) / 2)  # [T, D]
    half_error = np.abs(decoded.values / 2 - values / 2)  # halves, since a distance may pass the largest float
    kept = observed & ~clipped
    assert (half_error[kept] <= (unit / 4 + 4 * half_ulp)[kept]).all()
    low, high = limits(codec)
    np.testing.assert_array_equal(integers[clipped], np.where(values > offset, high, low)[clipped])


@pytest.mark.parametrize(
    ("kind", "codec"),
    [
        ("zero", Codec()),
        ("low", Codec(offset="low")),
        ("decimal", Codec("decimal", 2)),
        ("low", Codec("decimal", 2, offset="low")),
    ],
)
def test_a_number_stands_for_all_that_round_to_it(kind: str, codec: Codec):
    scale = codec.fit_scale([[3.0, 50.0], [7.0, 90.0]])
    generator = np.random.default_rng(0)
    integers = generator.integers(0, 1000, (6, 400, 2))
    integers[0] = 0
    places = generator.random(integers.shape)
    places[:, 0] = 0.5
    values = codec.dequantise(integers, scale, places)
    np.testing.assert_array_equal(codec.quantise(values, scale)[0], integers)
    middle = codec.dequantise(integers, scale)
    np.testing.assert_array_equal(values[:, 0], middle[:, 0])
    off = (values - middle) / scale.unit
    of_zero = {"zero": np.abs(places - 0.5), "low": places - 0.5, "decimal": 0 * places}[kind]
    np.testing.assert_allclose(off, np.where(integers == 0, of_zero, places - 0.5), atol=1e-9)
    assert values.min() >= 0 or kind == "low"
    decoded = codec.decode(codec.encode(middle[1], scale).ids, scale, 400, places[1])
    np.testing.assert_array_equal(decoded.values, values[1])


@settings(deadline=None)
@given(codec=codecs, values=tables())
def test_what_was_read_is_written_alike(codec, values):
    codec, scale = fitted(codec, values)
    integers, clipped = codec.quantise(values, scale)
    again, _ = codec.quantise(codec.dequantise(integers, scale), scale)
    largest = np.fmax(np.abs(scale.offset), np.fmax.reduce(np.abs(values), 0))  # [D]
    resolved = scale.unit / 2 > 8 * np.spacing(largest / 2)  # finer steps than the floats have are lost
    assert ((integers == again) | clipped)[:, resolved].all()


# ── the scale ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@settings(deadline=None)
@given(codec=codecs, values=tables(), future=tables(), data=st.data())
def test_the_future_changes_neither_scale_nor_context(codec, values, future, data):
    variables = values.shape[1]
    future = np.resize(future, (len(future), variables))
    codec, scale = fitted(codec, values)
    unseen = codec.fit_scale(np.concatenate([values, np.full(future.shape, np.nan)]))
    np.testing.assert_array_equal(unseen.offset, scale.offset)
    np.testing.assert_array_equal(unseen.unit, scale.unit)
    context = codec.encode(values, scale).ids
    whole = codec.encode(np.concatenate([values, future]), scale).ids
    np.testing.assert_array_equal(whole[: len(context)], context)


@settings(deadline=None)
@given(
    codec=codecs,
    values=hnp.arrays(
        np.float64, st.tuples(st.integers(1, 4), st.integers(1, 8), st.integers(1, 3)), elements=finite_or_missing
    ),
)
def test_a_batch_is_its_rows(codec, values):
    if codec.scale == "dataset":
        codec = codec.with_dataset_scale(list(values))
    scale = codec.fit_scale(values)
    integers, clipped = codec.quantise(values, scale)
    symbols, keep = codec.slots(integers, np.isnan(values))
    for row, one in enumerate(values):
        own = codec.fit_scale(one)
        np.testing.assert_array_equal(scale.offset[row], own.offset)
        np.testing.assert_array_equal(scale.unit[row], own.unit)
        own_integers, own_clipped = codec.quantise(one, own)
        np.testing.assert_array_equal(integers[row], own_integers)
        np.testing.assert_array_equal(clipped[row], own_clipped)
        encoded = codec.encode(one, own)
        np.testing.assert_array_equal(symbols[row][keep[row]], encoded.ids)
        assert clipped[row].sum() == encoded.saturated
    ids = np.full((len(values), values[0].size * symbols.shape[-1]), OTHER)
    for row in range(len(values)):
        one = symbols[row][keep[row]]
        ids[row, : len(one)] = one
    together = codec.decode(ids, scale, values.shape[1])
    for row, one in enumerate(ids):
        alone = codec.decode(one, codec.fit_scale(values[row]), values.shape[1])
        np.testing.assert_array_equal(together.values[row], alone.values)
        np.testing.assert_array_equal(together.valid[row], alone.valid)


@settings(deadline=None)
@given(codec=codecs, data=st.data())
def test_contexts_of_several_lengths_are_as_each_alone(codec, data):
    columns = data.draw(st.integers(1, 3))
    context = st.integers(1, 8).flatmap(
        lambda steps: hnp.arrays(np.float64, (steps, columns), elements=finite_or_missing)
    )
    contexts = data.draw(st.lists(context, min_size=1, max_size=4))
    if codec.scale == "dataset":
        codec = codec.with_dataset_scale(contexts)
    texts, scale = codec.encode_contexts(contexts)
    for row, (one, text) in enumerate(zip(contexts, texts, strict=True)):
        own = codec.fit_scale(one)
        np.testing.assert_array_equal(scale.offset[row], own.offset)
        np.testing.assert_array_equal(scale.unit[row], own.unit)
        alone = codec.encode(one, own)
        np.testing.assert_array_equal(text.ids, alone.ids)
        assert text.saturated == alone.saturated


def test_samples_of_several_series_are_read_with_their_own_scales():
    codec = Codec("fixed", 1)
    ids = np.stack([from_text("1,2;3,4;"), from_text("5,6;7,8;")])  # [N, L]
    ids = np.stack([ids, np.where(ids == COMMA, SEMICOLON, ids)], 1)  # [N, S, L], the second sample unreadable
    scale = Scale(np.array([[[0.0, 0.0]], [[100.0, 200.0]]]), np.array([[[1.0, 1.0]], [[10.0, 20.0]]]))  # [N, 1, D]
    decoded = codec.decode(ids, scale, 2)
    assert decoded.values[:, 0].tolist() == [[[1, 2], [3, 4]], [[150, 320], [170, 360]]]
    assert decoded.valid.tolist() == [[[True, True], [False, False]]] * 2
    assert np.isnan(decoded.values[:, 1]).all()


@settings(deadline=None)
@given(
    values=hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 3)),
        elements=st.floats(-1e300, 1e300) | st.just(float("nan")),
    ),
    percentile=st.floats(0, 100),
)
def test_percentile_is_numpys(values, percentile):
    got = percentile_of(values, percentile)
    for row, column in np.ndindex(got.shape):
        present = values[row, :, column][~np.isnan(values[row, :, column])]
        if not len(present):
            assert np.isnan(got[row, column])
            continue
        expected = np.nanpercentile(values[row, :, column], percentile)
        assert abs(got[row, column] - expected) <= 4 * np.spacing(np.abs(present).max())


@settings(deadline=None)
@given(value=st.floats(-HUGE, HUGE), steps=st.integers(1, 60), percentile=st.floats(50, 100, exclude_min=True))
@example(-0.1, 50, 99.0)
@example(HUGE, 50, 99.0)
def test_a_constant_has_its_own_size_and_not_its_rounding_error(value, steps, percentile):
    for offset in ("auto", "low"):
        unit = Codec(percentile=percentile, offset=offset).fit_scale(np.full((steps, 1), value)).unit[0]
        assert unit >= 0.99e-3 * abs(value)
    assert percentile_of(np.full((steps, 1), value), percentile)[0] == value


def test_percentile_of_the_whole_range_of_floats_does_not_overflow():
    assert percentile_of(np.array([[-HUGE], [HUGE]]), 50.0) == [0.0]


@pytest.mark.parametrize("layout", ["fixed", "decimal"])
@pytest.mark.parametrize("scale", ["variable", "joint"])
def test_zero_and_never_observed_variables_get_the_scale_of_one_that_reaches_one(layout, scale):
    codec = Codec(layout, scale=scale)
    expected = codec.fit_scale(np.ones((4, 1)))
    for context in (np.zeros((4, 1)), np.full((4, 1), np.nan)):
        np.testing.assert_array_equal(codec.fit_scale(context).unit, expected.unit)
        np.testing.assert_array_equal(codec.fit_scale(context).offset, 0.0)


def test_scale_policies():
    context = np.array([[1.0, 10.0], [2.0, 40.0], [4.0, np.nan]])
    by_variable = Codec(percentile=100).fit_scale(context)
    np.testing.assert_allclose(by_variable.unit, [4 * 2 / 1000, 40 * 2 / 1000])
    np.testing.assert_allclose(Codec(percentile=100, scale="joint").fit_scale(context).unit, [40 * 2 / 1000] * 2)
    of_data_set = Codec(percentile=100).with_dataset_scale([context, 2 * context])
    assert of_data_set.scale == "dataset"
    for other in (context, np.zeros((2, 2)), np.full((5, 1, 2), 7.0)):
        np.testing.assert_allclose(
            of_data_set.fit_scale(other).unit, np.broadcast_to([0.016, 0.16], (*other.shape[:-2], 2))
        )
    jointly = Codec(percentile=100, scale="joint").with_dataset_scale([context, 2 * context])
    np.testing.assert_allclose(jointly.fit_scale(context).unit, [0.16, 0.16])


def test_headroom_leaves_room_for_a_forecast_twice_as_high():
    codec = Codec(percentile=100, headroom=2)
    scale = codec.fit_scale([[0.5], [3.0]])
    assert codec.encode([[5.99]], scale).saturated == 0
    assert codec.encode([[6.01]], scale).saturated == 1


@pytest.mark.parametrize("codec", [Codec(), Codec(offset="low"), Codec("decimal", 2, offset="low")])
def test_a_stretched_range_grows_about_zero_or_about_its_middle(codec: Codec):
    context = np.random.default_rng(0).normal(5, 1, (40, 2))
    scale, factor = codec.fit_scale(context), np.array([0.8, 1.5])
    stretched = codec.stretch(scale, factor)
    np.testing.assert_allclose(stretched.unit, scale.unit * factor)
    room = 10.0**3
    if codec.offset == "low":
        middle = scale.offset + scale.unit * room / 2
        np.testing.assert_allclose(stretched.offset + stretched.unit * room / 2, middle)
    else:
        np.testing.assert_array_equal(stretched.offset, 0)


def test_decimal_writes_the_percentile_of_the_magnitudes_as_ten():
    codec = Codec("decimal", 2, percentile=100)
    context = [[0.5], [-4.0]]
    assert to_text(codec.encode(context, codec.fit_scale(context)).ids) == "1.25;-10.00;"


def test_offset_policies():
    signed, positive = np.array([[-3.0], [0.0], [1.0]]), np.array([[101.0], [103.0], [105.0]])
    auto = Codec(percentile=100)
    assert auto.fit_scale(positive).offset == [0.0]
    scale = auto.fit_scale(signed)  # from half the span below the lowest value to half above the highest
    np.testing.assert_allclose([scale.offset[0], scale.offset[0] + 1000 * scale.unit[0]], [-5.0, 3.0])
    assert auto.encode(signed, scale).saturated == 0
    low = Codec(percentile=100, offset="low").fit_scale(positive)
    np.testing.assert_allclose([low.offset[0], low.offset[0] + 1000 * low.unit[0]], [99.0, 107.0])
    zero = Codec(percentile=100, offset="zero")
    assert zero.fit_scale(signed).offset == [0.0]
    assert zero.encode(signed, zero.fit_scale(signed)).saturated == 1
    decimal = Codec("decimal", 2, percentile=100, offset="low")
    assert to_text(decimal.encode(positive, decimal.fit_scale(positive)).ids) == "0.00;5.00;10.00;"


def test_a_data_sets_scale_must_be_there_and_fit():
    with pytest.raises(ConfigError, match="with_dataset_scale"):
        Codec(scale="dataset").fit_scale([[1.0]])
    with pytest.raises(DataError, match="3 variables, but the stored scale has 1"):
        Codec().with_dataset_scale([[[1.0]]]).fit_scale(np.ones((2, 3)))


# ── the grammar ───────────────────────────────────────────────────────────────────────────────────────────────────────


def step_pattern(codec: Codec, variables: int) -> re.Pattern[str]:
    """A step without its ";", from the description of the layouts alone."""
    number = f"[0-9]{{{codec.digits}}}"
    if codec.layout == "decimal":
        decimals = rf"\.[0-9]{{{codec.digits}}}" if codec.digits else ""
        number = rf"(?!-[0.]*(?:,|\Z))-?(?:0|[1-9][0-9]{{0,{codec.leading - 1}}}){decimals}"
    return re.compile(rf"(?:{number}|NaN)(?:,(?:{number}|NaN)){{{variables - 1}}}")


def read(codec: Codec, text: str, variables: int, horizon: int) -> tuple[NDArray[np.float64], list[bool]]:
    """Values [H, D] at unit 1 and the validity [H] of a text, by the regular expression and Python's own numbers."""
    steps = (text.split(";")[:-1] + [""] * horizon)[:horizon]
    pattern = step_pattern(codec, variables)
    valid = [pattern.fullmatch(step) is not None for step in steps]
    values = np.full((horizon, variables), np.nan)
    for row, step, whole in zip(values, steps, valid):
        if whole:
            row[:] = [float(number.replace(".", "")) for number in step.split(",")]
    return values, valid


def accepted_steps(grammar: Grammar, allowed: NDArray[np.bool_]) -> Iterator[str]:
    """Every text from the start of a step to its ";" through the `allowed` [S, A] symbols."""
    stack = [(0, "")]
    while stack:
        state, text = stack.pop()
        for symbol in np.flatnonzero(allowed[state]):
            if symbol == SEMICOLON:
                yield text + ";"
            else:
                stack.append((grammar.next_state[state, symbol], text + to_text([symbol])))


@pytest.mark.parametrize(
    ("codec", "variables"),
    [
        (Codec("fixed", 2), 1),
        (Codec("fixed", 1), 2),
        (Codec("decimal", 2, leading=1), 1),
        (Codec("decimal", 0, leading=2), 1),
        (Codec("decimal", 1, leading=2), 1),
        (Codec("decimal", 0, leading=1), 2),
    ],
)
def test_grammar_accepts_exactly_what_is_written(codec, variables):
    low, high = limits(codec)
    numbers = [*map(float, range(low, high + 1)), float("nan")]
    steps = np.stack(np.meshgrid(*[numbers] * variables), -1).reshape(-1, variables)  # every step there is
    written = to_text(codec.encode(steps, unit_scale(variables)).ids).split(";")[:-1]
    grammar = codec.grammar(variables)
    accepted = list(accepted_steps(grammar, grammar.next_state != grammar.reject))
    assert sorted(accepted) == sorted(f"{step};" for step in written)  # each once
    sampled = list(accepted_steps(grammar, grammar.sampled))
    assert sorted(sampled) == sorted(f"{step};" for step in written if "NaN" not in step)
    assert max(map(len, sampled)) == grammar.step_tokens


@st.composite
def symbol_strings(draw: st.DrawFn, codec: Codec) -> tuple[NDArray[np.int64], int]:
    """Ids [L] and a number of variables: noise, or a text of `codec` with a few symbols replaced, added or removed."""
    symbol = st.integers(0, OTHER)
    if draw(st.booleans()):
        return np.array(draw(st.lists(symbol, max_size=30)), np.int64), draw(st.integers(1, 3))
    values = draw(integer_tables(codec))
    ids = codec.encode(values, unit_scale(values.shape[1])).ids.tolist()
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(ids)))
        ids[start : start + draw(st.integers(0, 1))] = draw(st.lists(symbol, max_size=1))
    return np.array(ids, np.int64), values.shape[1]


@settings(deadline=None, max_examples=250)
@given(codec=small_codecs, data=st.data(), horizon=st.integers(0, 7))
def test_reading_agrees_with_a_regular_expression(codec, data, horizon):
    ids, variables = data.draw(symbol_strings(codec))
    decoded = codec.decode(ids, unit_scale(variables), horizon)
    values, valid = read(codec, to_text(ids), variables, horizon)
    assert decoded.valid.tolist() == valid
    np.testing.assert_array_equal(decoded.values, values)


@settings(deadline=None)
@given(codec=small_codecs, data=st.data())
def test_in_loss_is_all_that_a_forecast_may_draw(codec, data):
    ids, variables = data.draw(symbol_strings(codec))
    grammar = codec.grammar(variables)
    pattern = step_pattern(codec, variables)
    expected = np.zeros(len(ids), bool)
    for position in range(len(ids)):
        *closed, started = to_text(ids[: position + 1]).split(";")
        if not all(pattern.fullmatch(step) for step in closed) or not can_begin(codec, started, variables):
            break  # what follows what nobody would write is no target either
        expected[position] = ids[position] != MISSING
    np.testing.assert_array_equal(grammar.in_loss(ids), expected)
    np.testing.assert_array_equal(grammar.in_loss(np.stack([ids, ids])), [expected, expected])


def can_begin(codec: Codec, text: str, variables: int) -> bool:
    """Whether a step begins with `text`: whether some end of a number, and the numbers still missing, complete it."""
    one = "1" * codec.digits if codec.layout == "fixed" else point_before(int("1" * (codec.digits + 1)), codec.digits)
    rest = f",{one}" * (variables - 1 - text.count(","))
    pattern = step_pattern(codec, variables)
    return any(pattern.fullmatch(text + one[start:] + rest) for start in range(len(one) + 1))


@settings(deadline=None)
@given(codec=small_codecs, variables=st.integers(1, 4), horizon=st.integers(1, 5), seed=st.integers(0, 2**32))
def test_whatever_is_sampled_can_be_read(codec, variables, horizon, seed):
    random = np.random.default_rng(seed)
    grammar = codec.grammar(variables)
    ids, state, steps = [], 0, 0
    while steps < horizon:
        allowed = np.flatnonzero(grammar.sampled[state])
        assert grammar.forced[state] == (len(allowed) == 1)
        ids.append(int(random.choice(allowed)))
        if grammar.lockstep:
            assert grammar.follow(state) == grammar.next_state[state, ids[-1]]
        state = grammar.next_state[state, ids[-1]]
        steps += ids[-1] == SEMICOLON
        assert (state == 0) == (ids[-1] == SEMICOLON)
        assert len(ids) <= horizon * grammar.step_tokens
    decoded = codec.decode(ids, unit_scale(variables), horizon)
    assert decoded.valid.all()
    assert np.isfinite(decoded.values).all()
    assert grammar.in_loss(np.array(ids)).all()
    encoded = codec.encode(decoded.values, unit_scale(variables))  # the same text: a number has no other
    assert encoded.ids.tolist() == ids
    assert encoded.saturated == 0


def test_fixed_runs_in_lockstep_and_forces_its_separators():
    grammar = Codec("fixed", 3).grammar(2)
    assert grammar.lockstep
    assert grammar.step_tokens == 8
    states = grammar.walk(from_text("123,456;789,012;"))
    assert states.tolist() == [*range(8), *range(8)]
    assert grammar.forced[states].tolist() == [False, False, False, True] * 4
    for state in states:
        assert len(set(grammar.next_state[state, :OTHER][grammar.sampled[state]])) == 1


def test_decimal_forces_what_follows_from_its_digits():
    grammar = Codec("decimal", 2, leading=2).grammar(1)
    assert not grammar.lockstep
    assert grammar.step_tokens == len("-99.99;")
    text = "0.25;-0.01;12.50;7.00;"
    forced = "".join("x" if forced else " " for forced in grammar.forced[grammar.walk(from_text(text))])
    assert forced == " x  x  x  x  x  x    x"


def test_missing_values_are_no_targets():
    ids = from_text("NaN,456;789,NaN;")
    assert Codec("fixed", 3).grammar(2).in_loss(ids).tolist() == [False, *[True] * 9, False, True]


# ── strict reading ────────────────────────────────────────────────────────────────────────────────────────────────────


MALFORMED = {
    "fixed": "24,999|2466,999|246,999,000|246|246,|246,999,|,||2.4,999|-24,999|246 999|NaN1,999|1NaN,999|NaNNaN,999"
    "|nan,999|246,99x|,,,,",
    "decimal": "2.4,1.00|02.46,1.00|.46,1.00|2.,1.00|2,1.00|2.466,1.00|--2.46,1.00|-0.00,1.00|12345.00,1.00|2.4.6,1.00"
    "|2-.46,1.00|1.00|1.00,|1.00,1.00,1.00||-NaN,1.00|2.46 ,1.00|+2.46,1.00|2e1,1.00",
}
WELL_FORMED = {"fixed": ("246,999;", [246, 999]), "decimal": ("2.46,-9.99;", [246, -999])}


@pytest.mark.parametrize(
    ("layout", "step"), [(layout, step) for layout, steps in MALFORMED.items() for step in steps.split("|")]
)
def test_a_malformed_step_is_nan_and_the_next_one_is_read(layout, step):
    codec = Codec(layout, 3 if layout == "fixed" else 2)
    good, numbers = WELL_FORMED[layout]
    decoded = codec.decode(from_text(f"{good}{step};{good}"), unit_scale(2), 3)
    assert decoded.valid.tolist() == [True, False, True]
    np.testing.assert_array_equal(decoded.values, [numbers, [np.nan, np.nan], numbers])


@pytest.mark.parametrize("layout", ["fixed", "decimal"])
def test_truncated_text_is_never_completed(layout):
    codec = Codec(layout, 2)
    values = np.array([[1.0, 22.0], [np.nan, 4.0], [50.0, 66.0]])
    ids = codec.encode(values, unit_scale(2)).ids
    for length in range(len(ids) + 1):
        whole = to_text(ids[:length]).count(";")
        for padding in (0, 5):
            decoded = codec.decode(np.append(ids[:length], [OTHER] * padding), unit_scale(2), 3)
            assert decoded.valid.tolist() == [True] * whole + [False] * (3 - whole)
            np.testing.assert_array_equal(decoded.values[:whole], values[:whole])
            assert np.isnan(decoded.values[whole:]).all()


def test_what_runs_past_the_horizon_is_left_alone():
    codec = Codec("fixed", 2)
    for rest in ("33;", "3", "junk", "3;;;;33;"):
        decoded = codec.decode(from_text(f"11;22;{rest}"), unit_scale(1), 2)
        assert decoded.valid.tolist() == [True, True]
        assert decoded.values.tolist() == [[11.0], [22.0]]


def test_a_missing_value_is_read_as_missing_and_valid():
    decoded = Codec("fixed", 2).decode(from_text("NaN,07;"), unit_scale(2), 1)
    assert decoded.valid.tolist() == [True]
    np.testing.assert_array_equal(decoded.values, [[np.nan, 7.0]])


# ── texts and ids ─────────────────────────────────────────────────────────────────────────────────────────────────────


@settings(deadline=None)
@given(ids=st.lists(st.integers(0, OTHER)))
def test_texts_and_ids_are_inverse(ids):
    assert from_text(to_text(ids)).tolist() == ids


@settings(deadline=None)
@given(parts=st.lists(st.sampled_from((*SYMBOLS, "�"))))
def test_ids_and_texts_are_inverse(parts):
    text = "".join(parts)
    assert to_text(from_text(text)) == text
    assert len(from_text(text)) == len(parts)


def test_what_is_no_symbol_becomes_other():
    assert from_text("1 Na").tolist() == [1, OTHER, OTHER, OTHER]
    assert to_text([1, OTHER, MISSING]) == "1�NaN"


# ── settings ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_all_problems_are_raised_at_once():
    with pytest.raises(ConfigError) as raised:
        Codec("free", 10, "all", percentile=50, headroom=0.5, offset="high", leading=0)  # type: ignore[arg-type]
    wanted = ("layout", "scale", "offset", "digits", "leading", "percentile", "headroom")
    assert [problem.split()[0] for problem in raised.value.problems] == list(wanted)


@pytest.mark.parametrize(
    "wrong",
    [
        {"digits": 0},
        {"layout": "decimal", "digits": -1},
        {"leading": 7},
        {"percentile": float("nan")},
        {"percentile": 100.1},
        {"headroom": float("nan")},
        {"headroom": float("inf")},
    ],
)
def test_a_setting_that_cannot_hold_is_refused(wrong):
    with pytest.raises(ConfigError) as raised:
        Codec(**wrong)
    assert len(raised.value.problems) == 1


@settings(deadline=None)
@given(codec=codecs, context=tables())
def test_settings_survive_json(codec, context):
    codec, scale = fitted(codec, context)
    restored = Codec(**json.loads(json.dumps(codec.to_dict())))
    assert restored == codec
    stored = Scale.from_dict(json.loads(json.dumps(scale.to_dict())))
    for fit in (stored, restored.fit_scale(context)):
        np.testing.assert_array_equal(fit.offset, scale.offset)
        np.testing.assert_array_equal(fit.unit, scale.unit)
