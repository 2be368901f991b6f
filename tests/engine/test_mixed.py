"""Several adapters in one network, and forecasts that are watched while they are drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import loracast
from loracast.engine.written import written
from loracast.grammar import to_text
from loracast.model.lora import adapter_layers, attach
from loracast.model.mixed import mix
from loracast.settings import LoraConfig
from loracast.together import answer_together, join


@pytest.fixture(scope="module")
def forecasters(numeric_directory) -> list[loracast.Forecaster]:
    """An untouched one and three with adapters of other ranks and projections, all of which matter."""
    base = loracast.Forecaster.from_pretrained(numeric_directory, device="cpu", precision="float32")
    found = [base]
    for seed, config in enumerate((LoraConfig(4), LoraConfig(2, 6.0, targets=("q", "v")), LoraConfig(3))):
        network = attach(base.model.network, config, seed)
        generator = torch.Generator().manual_seed(seed)
        for _, layer in adapter_layers(network):
            layer.lora_B.data.copy_(torch.randn(layer.lora_B.shape, generator=generator) * 0.3)
        found.append(
            loracast.Forecaster(base.model.with_network(network), base.codec, config, {"variables": ["x", "y"]})
        )
    return found


def series(number: int, steps: int) -> loracast.Series:
    values = np.random.default_rng(number).lognormal(size=(steps, 2))
    return loracast.Series(values, ("x", "y"), str(number))


@pytest.mark.parametrize("samples", [1, 7])
@pytest.mark.parametrize("horizon", [3, 90], ids=["one stretch", "stretches"])
def test_each_gets_what_its_adapter_alone_gives_it(forecasters, samples, horizon):
    config = loracast.SampleConfig(samples, transform="none")
    asked = []
    for number, (which, steps) in enumerate(((0, 40), (1, 40), (2, 39), (3, 12), (1, 25), (0, 8), (2, 40))):
        forecaster = forecasters[which]
        asked.append((forecaster, forecaster.request(series(number, steps), horizon, sample=config)))
    together = answer_together(asked)
    for (forecaster, request), found in zip(asked, together):
        alone = forecaster.answer([request])[0]
        assert np.array_equal(found.samples, alone.samples)
        assert found.flops == alone.flops
    others = forecasters[3].answer([asked[0][1]])[0]
    assert not np.array_equal(others.samples, together[0].samples)


def test_mixing_changes_no_network(forecasters):
    networks = [one.model.network for one in forecasters]
    before = [network.state_dict().keys() for network in networks]
    network, members = mix(networks)
    members.of = torch.tensor([2, 0])
    ids = torch.randint(0, 10, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        hidden = network.hidden(ids)
        for row, which in enumerate((2, 0)):
            assert torch.allclose(hidden[row], networks[which].hidden(ids)[row], atol=1e-5)
    assert [network.state_dict().keys() for network in networks] == before
    assert network.model.norm.weight is networks[0].model.norm.weight


def test_only_what_has_one_base_and_one_way_joins(forecasters, make_numeric):
    other = loracast.Forecaster.from_pretrained(make_numeric(seed=5), device="cpu", precision="float32")
    assert join(forecasters[0], forecasters[2])
    assert not join(forecasters[0], other)
    assert not join(forecasters[0], loracast.Forecaster(forecasters[0].model, loracast.Codec(digits=2)))


def test_a_forecast_is_watched_step_by_step(forecasters):
    """Of stretches and of several requests: the last look is the forecast, the others are its beginnings."""
    forecaster, config = forecasters[1], loracast.SampleConfig(3, transform="none")
    for horizon in (4, 90):
        requests = [forecaster.request(series(number, 40), horizon, sample=config, context=40) for number in range(2)]
        looks: list[list[loracast.Forecast]] = []
        found = forecaster.answer(requests, watch=looks.append)
        assert [look[0].samples.shape[2] for look in looks] == list(range(1, horizon + 1))
        for look in looks:
            for part, whole in zip(look, found):
                assert np.array_equal(part.samples, whole.samples[:, :, : part.samples.shape[2]])
                assert part.ids == whole.ids


def test_the_text_of_a_path_is_what_the_forecast_reads_back(forecasters):
    forecaster, config = forecasters[0], loracast.SampleConfig(5, transform="none", seed=3)
    one = series(7, 20)
    forecast = forecaster.predict(one, 4, sample=config)
    for number in (0, 3):
        tokens = list(written(forecaster.model, forecaster.codec, one.values, one.id, 4, config, number))
        scale = forecaster.codec.fit_scale(one.values)
        both = np.concatenate([one.values, forecast.samples[0, number]])
        assert "".join(token.text for token in tokens) == to_text(forecaster.codec.encode(both, scale).ids)
        assert [token.read for token in tokens] == [True] * 160 + [False] * 32
        assert tokens[0].bits is None
        assert {token.step for token in tokens} == set(range(24))
        assert all(token.bits == 0 for token in tokens[1:] if token.text in ",;")


def test_surprise_is_that_of_the_density(forecasters):
    """The bits of what is read are the density's, but for the width of a value's text."""
    values = series(9, 12).values.copy()
    values[0] = values[1] = 1.2 * values.max(0)  # so that the last steps set no other scale
    forecaster, one = forecasters[0], loracast.Series(values, ("x", "y"), "9")
    window = loracast.Window(one, 0, 10, 2)
    config = loracast.SampleConfig(1, transform="none")
    read = list(written(forecaster.model, forecaster.codec, one.values, one.id, 1, config))[80:96]
    scale, whole = (forecaster.codec.fit_scale(values) for values in (one.values[:10], one.values))
    assert np.allclose(scale.unit, whole.unit, rtol=1e-12)
    bits = sum(token.bits or 0.0 for token in read)
    density = forecaster.log_density([window])[0] + 2 * np.log(scale.unit).sum()
    assert bits == pytest.approx(-density / np.log(2), rel=1e-3)
