"""Adapters with their cards: what a card says, and the way to a hub and back, by loracast and by peft."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from hub_server import Hub, hub
from loracast.card import CARD, adapter_card
from loracast.errors import ConfigError, ModelError
from loracast.files import ADAPTER_CONFIG, RECORD, read_token
from loracast.forecaster import Forecaster
from loracast.hub import push_adapter
from loracast.settings import LoraConfig, SampleConfig, TuneConfig
from loracast.systems import simulate

SETTINGS = TuneConfig(
    rank=2, steps=2, batch=2, context=12, horizon=4, validation_windows=2, validation_series=2, validation_samples=4
)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an adapter of the bundled model."""
    folder = tmp_path_factory.mktemp("tuned") / "adapter"
    series = simulate("predator-prey", n=6, steps=20)
    Forecaster.from_pretrained("bundled").fit(series, tune=SETTINGS, directory=folder, force=True)
    return folder


def record_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / RECORD).read_text())


# -- the card ------------------------------------------------------------------------------------------------------


def test_a_folder_has_a_card_that_says_what_its_record_does(tuned: Path):
    card, record = (tuned / CARD).read_text(), record_of(tuned)
    _, metadata, text = card.split("---\n", 2)
    assert yaml.safe_load(metadata) == {
        "library_name": "peft",
        "pipeline_tag": "time-series-forecasting",
        "tags": ["loracast", "lora", "time-series"],
    }
    verdict, losses = record["validation_forecasts"], record["result"]["validation_loss"]
    for said in (
        "# A forecaster of prey, predator",
        f"{record['result']['data']['series']} series of 20 steps",
        record["result"]["data"]["fingerprint"],
        record["base"]["fingerprint"],
        "| LoRA | rank 2, alpha 4, on q, k, v, o, gate, up, down |",
        "| window | 12 steps read, 4 written |",
        "| observation noise added | 30% at most |",
        f"{record['flops']['executed']['total']:.2e} executed",
        f"| untouched | {verdict['untouched_mae']:.4g} | {verdict['untouched_crps']:.4g} |",
        f"| **tuned** | {verdict['tuned_mae']:.4g} | {verdict['tuned_crps']:.4g} |",
        f"{losses['untouched']:.4f} untouched, {losses['tuned']:.4f} tuned",
        "So few windows judged it",
        "loracast forecast mine.csv --horizon 4 --adapter FOLDER",
        "says nothing of interventions",
    ):
        assert said in text, said
    for name, scores in verdict["baselines"].items():
        assert f"| {name} | {scores['mae']:.4g} | {scores['crps']:.4g} |" in text
    assert set(verdict["baselines"]) == {"last-value", "context-mean", "best-period"}


def test_a_card_names_a_base_of_the_hub_and_says_where_tuning_did_not_help(tuned: Path):
    record = record_of(tuned)
    record["base"]["model"] = "Qwen/Qwen2.5-0.5B-Instruct"
    record["validation_forecasts"]["kept"] = "untouched"
    record["calibration"] = {
        **{"first": 1.0, "last": 1.5, "horizon": 4, "windows": 24},
        **{"raw_coverage": 0.7, "coverage": 0.79},
    }
    card = adapter_card(record, LoraConfig(), "me/mine")
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert (metadata["base_model"], metadata["base_model_relation"]) == ("Qwen/Qwen2.5-0.5B-Instruct", "adapter")
    assert "this adapter changes nothing" in card
    assert "intervals are as drawn at the first step and widened to 150% at step 4" in card
    assert "intervals of 80% hold 79% in place of 70%" in card
    assert 'AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B-Instruct")' in card


def test_a_card_of_a_local_base_does_not_tell_its_path(tuned: Path, tmp_path: Path):
    record = record_of(tuned)
    record["base"]["model"] = str(tmp_path / "secret" / "model")
    record["validation_forecasts"] = {}
    card = adapter_card(record, LoraConfig())
    assert "secret" not in card
    assert "| base | a local model, fingerprint" in card
    assert "It was not judged by forecasts." in card


def test_a_record_of_an_older_version_has_a_card(tuned: Path):
    record = record_of(tuned)
    for name in ("observation_noise", "optimizer", "siblings"):
        del record["tune"][name]
    for name in ("baselines", "kept"):
        del record["validation_forecasts"][name]
    for name in ("known", "past", "split"):
        del record[name]
    assert "| observation noise added | 0% at most |" in adapter_card(record, LoraConfig())


# -- to a hub and back ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with hub() as serving:
        yield serving


@pytest.fixture(scope="module")
def elsewhere(server: Hub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of someone who knows that hub, and whose cache is empty."""
    home = tmp_path_factory.mktemp("home")
    (home / "token").write_text(f"{server.token}\n")
    dropped = ("HF_TOKEN", "HF_HUB_OFFLINE")
    return {
        **{name: value for name, value in os.environ.items() if name not in dropped},
        "HF_ENDPOINT": server.address,
        "HF_HOME": str(home / "cache"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKEN_FILE": str(home / "token"),
    }


def loracast(environment: dict[str, str], *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loracast", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def pushed(tuned: Path, elsewhere: dict[str, str]) -> subprocess.CompletedProcess[str]:
    done = loracast(elsewhere, "push", tuned, "me/my-adapter", "--private", "--token-file", elsewhere["TOKEN_FILE"])
    assert done.returncode == 0, done.stderr
    return done


def test_an_adapter_is_pushed_with_its_card_and_its_base_beside_it(pushed: Any, server: Hub, tuned: Path):
    files = server.files["me/my-adapter"]
    assert sorted(files) == ["README.md", "adapter_config.json", "adapter_model.safetensors", "loracast.json"]
    assert files["adapter_model.safetensors"] == (tuned / "adapter_model.safetensors").read_bytes()
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "me/my-adapter-base"
    assert json.loads(files["loracast.json"])["base"]["model"] == "me/my-adapter-base"
    card = files["README.md"].decode()
    assert "base_model: me/my-adapter-base" in card
    assert "--adapter me/my-adapter" in card
    base = server.files["me/my-adapter-base"]
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= base.keys()
    assert server.private == {"me/my-adapter": True, "me/my-adapter-base": True}
    lines = pushed.stdout.splitlines()
    assert lines[0].endswith("MB of the base → me/my-adapter-base")
    assert lines[-1] == f"{server.address}/me/my-adapter"
    assert record_of(tuned)["base"]["model"] == "bundled"  # the folder itself stays as it was


def test_what_was_pushed_forecasts_as_the_folder_does_by_loracast_and_computes_as_it_by_peft(
    pushed: Any, elsewhere: dict[str, str], tuned: Path, tmp_path: Path
):
    told = """
import sys
import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from loracast import Forecaster, SampleConfig, simulate

made = []
for source in ({"model": "me/my-adapter"}, {"adapter": "me/my-adapter"}, {"adapter": sys.argv[1]}):
    forecaster = Forecaster.from_pretrained(**source, precision="float32")
    made.append(forecaster.predict(simulate("predator-prey", n=1, steps=20), 4, sample=SampleConfig(3)).samples)
np.savez(sys.argv[2], *made)
tokens = torch.tensor([[1, 2, 3, 4, 5]])
logits = []
base = AutoModelForCausalLM.from_pretrained("me/my-adapter-base", dtype=torch.float32)
for adapter in ("me/my-adapter", sys.argv[1]):
    model = PeftModel.from_pretrained(base, adapter)
    logits.append(model(tokens).logits)
    base = model.unload()
assert torch.equal(*logits)
"""
    found = tmp_path / "found.npz"
    words = [sys.executable, "-c", told, str(tuned), str(found)]
    done = subprocess.run(words, env=elsewhere, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    whole, named, own = np.load(found).values()
    assert np.array_equal(whole, own)
    assert np.array_equal(named, own)


def test_a_hub_that_does_not_know_one_says_what_to_do(tuned: Path, elsewhere: dict[str, str]):
    done = loracast(elsewhere, "push", tuned, "me/other")
    assert done.returncode == 2
    assert "the hub did not take me/other-base" in done.stderr
    assert "log in with hf auth login, or give --token-file" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["mine", "me/my/adapter", "../mine", "me/..", "me/a b", "/me/mine", ""])
def test_a_name_that_is_none_is_refused(tuned: Path, name: str):
    with pytest.raises(ConfigError, match="which is no owner/name"):
        push_adapter(tuned, name)


def test_what_cannot_be_pushed_is_refused_before_anything_is_sent(tuned: Path, tmp_path: Path):
    with pytest.raises(ModelError, match=f"it has no {ADAPTER_CONFIG}"):
        push_adapter(tmp_path, "me/mine")
    folder = tmp_path / "adapter"
    folder.mkdir()
    for file in tuned.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    record = record_of(tuned)
    record["base"]["model"] = str(tmp_path / "model.gguf")
    (folder / RECORD).write_text(json.dumps(record))
    with pytest.raises(ModelError, match=r"is a GGUF file, which peft does not load; .* --base"):
        push_adapter(folder, "me/mine")
    (folder / RECORD).unlink()
    with pytest.raises(ModelError, match="loracast did not tune this adapter"):
        push_adapter(folder, "me/mine")


def test_an_untouched_model_has_nothing_to_push():
    with pytest.raises(ModelError, match="an untouched model has no adapter"):
        Forecaster.from_pretrained("bundled").push_to_hub("me/mine")


@pytest.mark.parametrize(
    ("text", "mentions"), [("", "holds 0 words"), ("a b", "holds 2 words"), (None, "cannot be read")]
)
def test_a_file_that_is_no_token_is_refused(tmp_path: Path, text: str | None, mentions: str):
    path = tmp_path / "token"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=mentions):
        read_token(path)


def test_an_adapters_folder_is_loaded_by_its_name_alone(tuned: Path):
    series, few = simulate("predator-prey", n=1, steps=20), SampleConfig(2)
    whole = Forecaster.from_pretrained(tuned)
    assert whole.lora is not None
    named = Forecaster.from_pretrained(adapter=tuned)
    assert np.array_equal(whole.predict(series, 2, sample=few).samples, named.predict(series, 2, sample=few).samples)
