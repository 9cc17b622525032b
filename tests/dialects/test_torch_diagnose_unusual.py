"""fastinit.torch.diagnose on models with unusual parts: what it leaves as it is, and what it says of them."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from torch_cases import Passing, assert_same, state_of, torch  # which skips all of this where PyTorch is not installed

nn = torch.nn

from fastinit.torch import diagnose  # noqa: E402


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_modules_in_plain_lists_and_nested_containers_are_untouched():
    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = [(nn.Linear(8, 8), nn.BatchNorm1d(8))]
            self.head, self.seen = nn.Linear(8, 5), {"means": [torch.zeros(8)], "calls": []}

        def forward(self, x):
            for linear, norm in self.layers:
                x = norm(linear(x))
            self.seen["means"][0].add_(1)
            self.seen["calls"].append(len(x))
            return self.head(x)

    model = Listed()
    linear, norm = model.layers[0]
    before = state_of(linear), state_of(norm)
    diagnose(model, torch.randn(16, 8))
    assert model.layers[0] == (linear, norm)
    assert_same([after["gradients"] for after in (state_of(linear), state_of(norm))], [one["gradients"] for one in before])
    assert_same(state_of(norm)["bits"], before[1]["bits"])
    assert not model.seen["means"][0].any()
    assert model.seen["calls"] == []


def test_losses_with_parameters_are_untouched():
    loss = nn.Sequential(nn.Linear(5, 1), nn.BatchNorm1d(1), nn.Flatten(0))
    model, x, before = nn.Linear(8, 5), torch.randn(16, 8), state_of(loss)
    for given in (Passing(loss, torch.sum), lambda y: loss[0](y).sum()):
        diagnose(model, x, loss=given)
        assert_same(state_of(loss)["gradients"], before["gradients"])
        assert_same(state_of(loss)["bits"], before["bits"])


def test_generators_of_the_model_are_untouched():
    class Noisy(nn.Linear):
        def forward(self, x):
            own, numpy, python = self.generators
            noise = torch.randn(x.shape, generator=own) + torch.from_numpy(numpy.normal(size=x.shape)).float()
            return super().forward(x + noise + python.random())

    model, x = Noisy(8, 5), torch.randn(16, 8)
    model.generators = torch.Generator().manual_seed(3), np.random.default_rng(3), random.Random(3)
    assert diagnose(model, x).to_dict() == diagnose(model, x).to_dict()
    assert torch.equal(model.generators[0].get_state(), torch.Generator().manual_seed(3).get_state())
    assert model.generators[1].random() == np.random.default_rng(3).random()
    assert model.generators[2].random() == random.Random(3).random()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float8_e4m3fn])
def test_frozen_weights_that_are_quantised(dtype):
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 5))
    model[0].weight = nn.Parameter(torch.ones(8, 8).to(dtype), requires_grad=False)
    model[0].forward = lambda x: x @ model[0].weight.float() / 8 + model[0].bias
    found = diagnose(model, torch.randn(16, 8))
    assert found.healthy
    assert "(64 of them frozen)" in found.title


def test_frozen_parameters_that_are_not_finite():
    model = nn.Sequential(nn.Embedding(10, 8).requires_grad_(False), nn.Flatten(), nn.Linear(8, 5))
    model[0].weight[9] = math.nan
    found = diagnose(model, torch.arange(8)[:, None])
    assert (found.verdict, found.findings[0].layer) == ("non-finite", "0")


def test_a_parameter_without_numbers():
    model = nn.Sequential(nn.Linear(8, 5))
    model.weight = nn.Parameter(torch.zeros(0, 5))
    assert diagnose(model, torch.randn(16, 8)).layers[0].layer == "0"


def test_layers_in_inference_mode_get_no_gradient():
    class Inferred(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), nn.Linear(8, 5)

        def forward(self, x):
            with torch.inference_mode():
                x = self.body(x)
            return self.head(x.clone())

    found = diagnose(Inferred(), torch.randn(16, 8))
    assert (found.verdict, found.findings[0].layer) == ("no gradient", "body.0")


def test_derivatives_with_respect_to_inputs():
    class Derived(Passing):
        def forward(self, x):
            y = self.layer(x)
            return y + torch.autograd.grad(y.sum(), x, create_graph=True)[0].sum(dim=1, keepdim=True)

    layer = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    x = torch.randn(16, 8, requires_grad=True)
    diagnose(Derived(layer, None), x).assert_healthy()
    assert x.grad is None


def test_a_bias_that_cancels_is_no_failure():
    found = diagnose(Passing(nn.Linear(8, 5), torch.sub), torch.randn(16, 8), torch.randn(16, 8))
    assert [(f.name, f.severity) for f in found.findings] == [("no gradient", "warn")]
    assert "layer.bias" in found.findings[0].reason
    assert "cancels" in found.findings[0].reason


@pytest.mark.parametrize("autocast", [False, True])
def test_probabilities_have_the_cross_entropy_of_their_logits(autocast):
    head, x = nn.Linear(64, 10), torch.randn(32, 64)
    with torch.no_grad():
        head.weight.mul_(30)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        logits, probabilities = diagnose(head, x), diagnose(nn.Sequential(head, nn.Softmax(dim=-1)), x)
    assert logits.verdict == probabilities.verdict == "over-confident head"
    assert probabilities.initial_loss == pytest.approx(logits.initial_loss, rel=0.02)
    for one, other in zip(logits.layers, probabilities.layers, strict=False):
        assert one.gradient_rms == pytest.approx(other.gradient_rms, rel=0.02)
