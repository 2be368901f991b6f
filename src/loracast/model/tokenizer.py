"""A model's token ids for the symbols of the codec, and the numeric tokenizer of models pretrained here."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from loracast.errors import ModelError
from loracast.files import write_json, write_text
from loracast.grammar import OTHER, SYMBOLS, from_text

MISSING = SYMBOLS[-1]
STAND_INS = ("nan", "?", "_")  # single tokens that are written for a missing value where the first choice has none
NUMBERS = ("0123456789", "27182818284590452353", "10.25")  # whose tokens show how a tokenizer splits numbers
END = "<|endoftext|>"
NUMERIC_VOCABULARY = (*SYMBOLS, "N", "a", "Na", END)
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, eq=False)
class NumericTokens:
    """Which token of a model stands for each symbol.

    The table comes from the vocabulary, never from tokenising text: Qwen merges ";-", ",-" and others across the
    boundary of two symbols.

    Attributes:
        ids: [A] token id of each symbol.
        stand_ins: what is written in place of a symbol that has no single token; SmolLM2 has none for "NaN".
    """

    tokenizer: Tokenizer
    ids: NDArray[np.int64]
    stand_ins: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> NumericTokens:
        """The symbols' tokens in a tokenizer.json."""
        return cls.of(read_tokenizer(path), path)

    @classmethod
    def of(cls, tokenizer: Tokenizer, where: Path) -> NumericTokens:
        """The symbols' tokens of a tokenizer; one without a single token for each digit and sign is refused."""
        written = {symbol: _written(tokenizer, symbol) for symbol in SYMBOLS}
        if absent := [symbol for symbol, text in written.items() if text is None]:
            others = f" (nor for {', '.join(map(repr, STAND_INS))} in its place)" if absent == [MISSING] else ""
            raise ModelError(
                f"{where}: the tokenizer has no single token for {', '.join(map(repr, absent))}{others}, so numbers "
                "cannot be written; take a model whose tokenizer has one"
            )
        ids = [tokenizer.token_to_id(str(text)) for text in written.values()]
        stand_ins = {symbol: str(text) for symbol, text in written.items() if text != symbol}
        return cls(tokenizer, np.array(ids, np.int64), stand_ins)

    def merged(self) -> tuple[str, list[str]] | None:
        """A number that the tokenizer itself would not write digit by digit, with its tokens; None where it would.

        Numbers are written digit by digit here all the same, which an untouched model of such a tokenizer has seldom
        seen, so that its zero-shot forecasts are the weaker for it.
        """
        for text in NUMBERS:
            pieces = self.tokenizer.encode(text, add_special_tokens=False).tokens
            if len([piece for piece in pieces if piece.strip("▁Ġ")]) != len(text):
                return text, pieces
        return None

    @cached_property
    def expansion(self) -> dict[int, tuple[int, ...]]:
        """Symbols of every token that is made of symbols alone; merged ones such as ";-" stand for several."""
        table = {}
        for text, index in self.tokenizer.get_vocab().items():
            symbols = from_text(text)
            if len(symbols) and (symbols != OTHER).all():
                table[index] = tuple(symbols.tolist())
        for symbol, text in self.stand_ins.items():
            table[self.tokenizer.token_to_id(text)] = (SYMBOLS.index(symbol),)
        return table

    def to_symbols(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Symbols [L'] of token ids [L] of the full vocabulary; a token with any other text becomes one `OTHER`."""
        return np.array([symbol for index in ids.tolist() for symbol in self.expansion.get(index, (OTHER,))], np.int64)

    def splits(self) -> list[tuple[str, list[str], list[int]]]:
        """How the tokenizer itself splits typical texts: (text, tokens, ids)."""
        rows = []
        for text in ("1.23", "246,999;192,768;", "2.46,10.25;1.92,7.68;", "-1;-2,-3;", "NaN,1;"):
            encoding = self.tokenizer.encode(text, add_special_tokens=False)
            rows.append((text, encoding.tokens, encoding.ids))
        return rows


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json."""
    if not path.is_file():
        raise ModelError(f"{path} does not exist; a model needs its tokenizer.json beside its weights")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"{path} cannot be read as a tokenizer: {error}") from None


def _written(tokenizer: Tokenizer, symbol: str) -> str | None:
    """The single token that is written for a symbol, or None."""
    choices = (symbol, *STAND_INS) if symbol == MISSING else (symbol,)
    return next((text for text in choices if tokenizer.token_to_id(text) is not None), None)


def write_numeric_tokenizer(directory: Path, family: str = "qwen2") -> None:
    """Writes a tokenizer of the symbols alone, which transformers' AutoTokenizer reads as it reads a family's own.

    It is a byte-pair tokenizer with Qwen2's splitting, since transformers builds that for every model of type qwen2;
    the pieces of "NaN" are in it because byte pairs are merged one at a time.
    """
    vocabulary = {symbol: index for index, symbol in enumerate(NUMERIC_VOCABULARY)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("N", "a"), ("Na", "N")]))
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END])
    write_text(directory / "tokenizer.json", tokenizer.to_str(pretty=True) + "\n")
    settings = {
        "tokenizer_class": "Qwen2Tokenizer" if family in ("qwen2", "qwen3") else "PreTrainedTokenizerFast",
        "add_prefix_space": False,
        "bos_token": None,
        "eos_token": END,
        "pad_token": END,
        "unk_token": None,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 32768,
    }
    write_json(directory / "tokenizer_config.json", settings)
