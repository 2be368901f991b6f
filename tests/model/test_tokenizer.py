"""The table from symbols to a model's tokens."""

import numpy as np
import pytest
from tokenizers import Tokenizer

import conftest
from loracast.codec import Codec
from loracast.errors import ModelError
from loracast.grammar import COMMA, MINUS, MISSING, OTHER, SEMICOLON, SYMBOLS, to_text
from loracast.model.tokenizer import END, NUMERIC_VOCABULARY, NumericTokens, write_numeric_tokenizer


@pytest.fixture(scope="module")
def qwen(qwen_files) -> NumericTokens:
    return NumericTokens.read(qwen_files / "tokenizer.json")


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory) -> NumericTokens:
    directory = tmp_path_factory.mktemp("tokenizer")
    conftest.write_byte_tokenizer(directory)
    return NumericTokens.read(directory / "tokenizer.json")


def test_symbols_of_qwen(qwen):
    expected = {**{str(digit): 15 + digit for digit in range(10)}, ".": 13, ",": 11, ";": 26, "-": 12, "NaN": 22831}
    assert dict(zip(SYMBOLS, qwen.ids.tolist())) == expected


def test_merged_tokens_of_qwen_are_several_symbols(qwen):
    for text, symbols in ((";-", (SEMICOLON, MINUS)), (",-", (COMMA, MINUS)), ("NaN", (MISSING,)), ("7", (7,))):
        assert qwen.expansion[qwen.tokenizer.token_to_id(text)] == symbols
    for text in ("Ġ.", "a", "Na", "N", "Ċ", "<|im_end|>"):
        assert qwen.tokenizer.token_to_id(text) not in qwen.expansion


@pytest.mark.parametrize("text", ["1.23", "-1;-2,-3;", "2.46,10.25;1.92,7.68;", "NaN,1;", "12,NaN;-NaN;--;;,,"])
def test_what_qwen_tokenizes_reads_back_as_the_text(qwen, text):
    ids = np.array(qwen.tokenizer.encode(text).ids)
    assert to_text(qwen.to_symbols(ids)) == text


def test_splits_show_what_qwen_merges(qwen):
    rows = {text: (tokens, ids) for text, tokens, ids in qwen.splits()}
    assert rows["1.23"] == (["1", ".", "2", "3"], [16, 13, 17, 18])
    assert ";-" in rows["-1;-2,-3;"][0]


def test_symbols_are_found_in_any_order_of_the_vocabulary(byte_level):
    assert [byte_level.tokenizer.id_to_token(index) for index in byte_level.ids.tolist()] == list(SYMBOLS)
    assert len(set(byte_level.ids.tolist())) == len(SYMBOLS)
    assert byte_level.ids.tolist() != list(range(len(SYMBOLS)))


def test_tokens_become_symbols_and_all_others_one_mark_each(byte_level):
    merged = byte_level.tokenizer.token_to_id(";-")
    letter, space = byte_level.tokenizer.token_to_id("x"), byte_level.tokenizer.token_to_id("Ġ")
    one, missing, beyond = byte_level.ids[1], byte_level.ids[MISSING], 10**6
    symbols = byte_level.to_symbols(np.array([one, merged, one, letter, space, missing, beyond]))
    assert symbols.tolist() == [1, SEMICOLON, MINUS, 1, OTHER, OTHER, MISSING, OTHER]
    assert symbols.dtype == np.int64
    assert byte_level.to_symbols(np.array([], np.int64)).shape == (0,)


def test_encoded_text_is_written_with_the_table(byte_level):
    codec = Codec(layout="decimal", digits=1)
    values = np.array([[1.5, -20.0], [np.nan, -0.1]])
    scale = codec.with_dataset_scale([values]).fit_scale(values)
    symbols = codec.encode(values, scale).ids
    assert to_text(byte_level.to_symbols(byte_level.ids[symbols])) == to_text(symbols)
    # the tokenizer itself would write fewer tokens, since it merges ";-"
    assert len(byte_level.tokenizer.encode("1;-2").ids) == 3


def test_the_numeric_tokenizer_reads_and_writes_every_symbol(tmp_path):
    write_numeric_tokenizer(tmp_path)
    tokens = NumericTokens.read(tmp_path / "tokenizer.json")
    assert tokens.ids.tolist() == list(range(len(SYMBOLS)))
    assert tokens.tokenizer.get_vocab() == {piece: index for index, piece in enumerate(NUMERIC_VOCABULARY)}
    text = "246,NaN;12,-3;.5"
    ids = tokens.tokenizer.encode(text).ids
    assert to_text(np.array(ids)) == text
    assert tokens.tokenizer.decode(ids) == text
    assert tokens.expansion.keys() == set(range(len(SYMBOLS)))
    assert tokens.tokenizer.token_to_id(END) == len(NUMERIC_VOCABULARY) - 1


def test_digits_that_merge_are_written_one_by_one_all_the_same(tmp_path):
    conftest.write_byte_tokenizer(tmp_path, (*conftest.MERGES, ("2", "7")), r"\p{N}+|[^\p{N}]+")
    tokens = NumericTokens.read(tmp_path / "tokenizer.json")
    text, pieces = tokens.merged() or ("", [])
    assert text.startswith("2718")
    assert pieces[:3] == ["27", "1", "8"]
    assert [tokens.tokenizer.id_to_token(index) for index in tokens.ids[:10]] == [str(digit) for digit in range(10)]


def test_a_decimal_point_that_merges_with_its_digit_is_seen(tmp_path):
    conftest.write_byte_tokenizer(tmp_path, (*conftest.MERGES, (".", "2")), r".+")
    assert NumericTokens.read(tmp_path / "tokenizer.json").merged() == ("10.25", ["1", "0", ".2", "5"])


def test_a_tokenizer_of_single_digits_merges_nothing(byte_level):
    assert byte_level.merged() is None
    assert byte_level.stand_ins == {}


def test_a_missing_value_without_a_token_gets_a_stand_in(tmp_path):
    conftest.write_byte_tokenizer(tmp_path, ((";", "-"),))
    tokens = NumericTokens.read(tmp_path / "tokenizer.json")
    assert tokens.stand_ins == {"NaN": "?"}
    assert tokens.to_symbols(tokens.ids).tolist() == list(range(len(SYMBOLS)))


def test_of_several_stand_ins_the_first_is_taken(tmp_path):
    conftest.write_byte_tokenizer(tmp_path, (("n", "a"), ("na", "n")))
    assert NumericTokens.read(tmp_path / "tokenizer.json").stand_ins == {"NaN": "nan"}


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(ModelError, match="does not exist"):
        NumericTokens.read(path)
    path.write_text('{"model": 3}')
    with pytest.raises(ModelError, match="cannot be read as a tokenizer") as raised:
        NumericTokens.read(path)
    assert str(path) in str(raised.value)


def test_the_written_tokenizer_is_the_same_file_each_time(tmp_path):
    for name in ("one", "two"):
        write_numeric_tokenizer(tmp_path / name)
    assert (tmp_path / "one/tokenizer.json").read_bytes() == (tmp_path / "two/tokenizer.json").read_bytes()
    assert Tokenizer.from_file(str(tmp_path / "one/tokenizer.json")).get_vocab_size() == len(NUMERIC_VOCABULARY)
