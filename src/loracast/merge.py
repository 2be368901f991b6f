"""A base model and its adapter as one Hugging Face directory."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import torch

from loracast.calibration import recorded
from loracast.codec import Codec
from loracast.errors import ModelError
from loracast.files import RECORD, atomic_path, write_json, write_text
from loracast.language_model import load_adapted, load_model
from loracast.model.checkpoint import TOKENIZER_FILES
from loracast.model.lora import merged_weights
from loracast.model.stored import open_model
from loracast.model.tensors import check_finite, dtype_name, write_tensors
from loracast.model.weights import WEIGHTS
from loracast.settings import Precision


def merge(source: str | Path, adapter: Path, output: Path, precision: Precision = "auto") -> dict[str, float]:
    """Writes base plus adapter as one Hugging Face directory; merged in float32, then stored.

    Args:
        precision: of the stored weights; `auto` keeps the base's own.

    Returns the largest differences of the numeric logits on 256 random digits: `float32`, of merging alone,
    and `stored`, with the rounding of the stored weights. Warns where the adapter's record has widths, which are lost.
    """
    stored, output = open_model(source), Path(output)
    directory = stored.place
    for role, taken in (("base model", directory), ("adapter", Path(adapter))):
        if output.resolve() == taken.resolve():
            raise ModelError(f"{output} is the {role} itself, which merging would overwrite; choose another folder")
    base = load_model(source, vocabulary="full", device="cpu", precision="float32")
    adapted, _, record = load_adapted(base, adapter)
    if recorded(record):
        warnings.warn(
            f"the record of {adapter} says how wide its forecasts ought to be, which a merged model cannot: it draws "
            "paths as `forecast --raw` does",
            stacklevel=2,
        )
    stored_config = stored.description
    stored_as = stored_config.get("dtype") or stored_config.get("torch_dtype") or "float32"
    dtype = getattr(torch, stored_as if precision == "auto" else precision)
    ids = base.rows[torch.randint(10, (1, 256), generator=torch.Generator().manual_seed(0))]
    with torch.no_grad():
        adapted_logits = adapted.network(ids)[..., base.rows]
        merged = {**base.network.state_dict(), **merged_weights(adapted.network)}
        differences = {}
        for name, kind in (("float32", torch.float32), ("stored", dtype)):
            base.network.load_state_dict({key: value.to(kind).float() for key, value in merged.items()}, assign=True)
            differences[name] = (base.network(ids)[..., base.rows] - adapted_logits).abs().max().item()
    path, converted = output / WEIGHTS, {name: tensor.to(dtype) for name, tensor in merged.items()}
    check_finite(converted, path, "the adapter is too strong for this base; tune another one", merged.__getitem__)
    write_tensors(path, converted)
    stored_config = {**stored_config, "torch_dtype": dtype_name(dtype)}
    stored_config.pop("dtype", None)
    write_json(output / "config.json", stored_config)
    if directory.is_file():
        write_text(output / "tokenizer.json", stored.tokenizer.to_str() + "\n")
    for name in TOKENIZER_FILES:
        if (directory / name).is_file():
            with atomic_path(output / name) as temporary:
                shutil.copyfile(directory / name, temporary)
    codec = record.get("codec", (base.codec or Codec()).to_dict())
    write_json(output / RECORD, {"codec": codec})
    return differences
