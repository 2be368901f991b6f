"""How wide an untouched base's forecasts ought to be: measured on families it never saw, kept with it, and applied."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from loracast.calibration import Widths
from loracast.evaluation import kept_out
from loracast.evaluation.kept_out import calibrate
from loracast.forecaster import Forecaster
from loracast.series import Series
from loracast.settings import SampleConfig
from loracast.synthetic import FAMILIES, KEPT_OUT

FEW = SampleConfig(5, transform="none")
WAVE = Series(5 + np.sin(np.arange(30.0)), ("x",))


@pytest.fixture
def base(numeric_directory: Path, tmp_path: Path) -> Path:
    shutil.copytree(numeric_directory, tmp_path / "base")
    (tmp_path / "base" / "loracast.json").write_text(
        json.dumps({"codec": {"digits": 2}, "pretraining": {"variables": 2}})
    )
    return tmp_path / "base"


def load(base: Path) -> Forecaster:
    return Forecaster.from_pretrained(base, device="cpu", precision="float32")


def test_a_base_is_calibrated_on_families_that_it_never_saw(base: Path, monkeypatch: pytest.MonkeyPatch):
    assert not KEPT_OUT.keys() & FAMILIES.keys()
    monkeypatch.setattr(kept_out, "WINDOWS", 24)
    monkeypatch.setattr(kept_out, "CONTEXT", (8, 16))
    monkeypatch.setattr(kept_out, "HORIZON", 4)
    monkeypatch.setattr(kept_out, "VARIABLES", (1, 2, 3))
    widths, shapes = Widths(2.0, 0.5, 4, 72, 0.5, 0.8), []

    def fit(samples: np.ndarray, truth: np.ndarray, lowest: np.ndarray) -> Widths:
        shapes.append((samples.shape, truth.shape, lowest.shape))
        assert np.isfinite(samples).all()
        return widths

    monkeypatch.setattr(kept_out, "fit_widths", fit)
    shares: list[float] = []
    raw = load(base).predict(WAVE, 6, sample=FEW)
    assert calibrate(load(base), base, progress=shares.append) == widths
    assert shapes == [((72, 20, 4, 1), (72, 4, 1), (72, 1))]  # of one and two variables: as many as the base knows
    assert shares[-1] == 1
    stored = json.loads((base / "loracast.json").read_text())
    assert Widths(**stored["calibration"]) == widths
    assert stored["pretraining"] == {"variables": 2}
    calibrated = load(base)
    found = calibrated.predict(WAVE, 6, sample=FEW)
    assert found.widths == widths
    np.testing.assert_allclose(found.samples, raw.widened(widths).samples)
    np.testing.assert_array_equal(calibrated.predict(WAVE, 6, sample=FEW, raw=True).samples, raw.samples)


def test_nothing_is_stored_where_intervals_hold_what_they_should(base: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kept_out, "fit_widths", lambda *_: None)
    monkeypatch.setattr(kept_out, "WINDOWS", 2)
    before = (base / "loracast.json").read_bytes()
    assert calibrate(load(base), base) is None
    assert (base / "loracast.json").read_bytes() == before


def test_an_adapter_knows_its_own_widths_alone(base: Path):
    widths = Widths(2.0, 2.0, 4, 30, 0.5, 0.8)
    record = json.loads((base / "loracast.json").read_text())
    (base / "loracast.json").write_text(json.dumps({**record, "calibration": widths.to_dict()}))
    untouched = load(base)
    assert untouched.predict(WAVE, 3, sample=FEW).widths == widths
    adapter = Forecaster(untouched.model, untouched.codec, record={"variables": ["x"]})
    assert adapter.predict(WAVE, 3, sample=FEW).widths is None
