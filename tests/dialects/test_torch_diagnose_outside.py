"""fastinit.torch.diagnose on what a model holds or returns beside its parameters and dense tensors."""

from __future__ import annotations

import math

import pytest
from torch_cases import assert_same, state_of, torch  # which skips all of this where PyTorch is not installed

nn = torch.nn

from fastinit.torch import diagnose, lsuv  # noqa: E402


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


class Listed(nn.Module):
    def __init__(self, hold):
        super().__init__()
        self.first, self.head = nn.Linear(8, 8), nn.Linear(8, 5)
        self.held = hold(nn.Linear(8, 8), nn.Parameter(torch.ones(8)))

    def forward(self, x):
        layer, scale = self.held.values() if isinstance(self.held, dict) else self.held
        return self.head(layer(self.first(x)) * (scale if isinstance(scale, torch.Tensor) else 1))


@pytest.mark.parametrize(("hold", "names"), [
    (lambda layer, scale: [layer, scale], ["held[0].weight", "held[0].bias", "held[1]"]),
    (lambda layer, scale: {"a": layer, "b": scale}, ["held['a'].weight", "held['b']"]),
    (lambda layer, scale: (layer, scale), ["held[0].weight"]),
])  # fmt: skip
def test_layers_that_no_optimizer_sees(hold, names):
    model = Listed(hold)
    found = diagnose(model, torch.randn(16, 8))
    assert (found.verdict, found.findings[0].severity) == ("unregistered", "fail")
    assert all(name in found.findings[0].reason for name in names)


def test_layers_in_a_private_list():
    class Private(Listed):
        @property
        def held(self):
            return self._held

        @held.setter
        def held(self, value):
            self._held = value

    found = diagnose(Private(lambda layer, scale: [layer, scale]), torch.randn(16, 8))
    assert "_held[0].weight" in found.findings[0].reason


def test_what_is_held_but_not_trained_or_registered_elsewhere():
    frozen = Listed(lambda layer, scale: [layer.requires_grad_(False), scale.requires_grad_(False)])
    assert diagnose(frozen, torch.randn(16, 8)).healthy
    twice = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 5))
    twice.again = list(twice)
    twice.memory = torch.zeros(3, requires_grad=True)
    assert diagnose(twice, torch.randn(16, 8)).healthy
    outer = nn.Linear(5, 1)
    assert diagnose(nn.Linear(8, 5), torch.randn(16, 8), loss=lambda y: outer(y).square().mean()).healthy


def test_a_loss_that_is_nan_beside_finite_gradients():
    found = diagnose(nn.Linear(8, 5), torch.randn(16, 8), loss=lambda y: y.square().mean() + math.nan)
    assert (found.verdict, found.initial_loss) == ("non-finite", math.inf)
    labels = torch.zeros(16, dtype=torch.int64)
    found = diagnose(nn.Linear(8, 5), torch.randn(16, 8), targets=labels, loss=lambda y, _: y.square().mean() * 1 + math.nan)
    assert found.verdict == "non-finite"


@pytest.mark.parametrize("renormalised", [True, False])
def test_a_gradient_that_is_rounding_alone(renormalised):
    class Top1(nn.Module):
        def __init__(self):
            super().__init__()
            self.router, self.experts = nn.Linear(8, 4, bias=False), nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
            self.norm, self.head = nn.BatchNorm1d(8), nn.Linear(8, 5)  # behind which biases cancel

        def forward(self, x):
            weight, chosen = self.router(x).softmax(-1).topk(1)
            if renormalised:
                weight = weight / weight.sum(-1, keepdim=True)
            outputs = torch.stack([expert(x) for expert in self.experts], 1)
            return self.head(self.norm(x + weight * outputs[torch.arange(len(x)), chosen[:, 0]]))

    model, x = Top1(), torch.randn(128, 8)
    before = state_of(model)
    found = diagnose(model, x)
    assert_same(before, state_of(model))
    assert found.healthy != renormalised
    if renormalised:
        assert [(one.name, one.severity, one.layer) for one in found.findings] == [("no gradient", "fail", "router")]
        assert "The gradient of router.weight is 0 up to rounding for the whole batch" in found.findings[0].reason


def test_data_of_another_scale_are_named():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    pixels = torch.randint(0, 256, (64, 1, 8, 8)).float()
    found = diagnose(model, pixels)
    assert found.verdict == "over-confident head"
    assert found.findings[0].recommendation.startswith("x=(x - mean) / std: the root mean square of the input is 14")
    assert "try x=(x - mean) / std" in str(found)
    assert "times smaller" not in str(found)
    assert diagnose(nn.Sequential(nn.BatchNorm2d(1), model), pixels).healthy
    with torch.no_grad():
        model[-1].weight.mul_(30)
    assert diagnose(model, torch.randn(64, 64)).findings[0].recommendation is None


class Returning(nn.Module):
    def __init__(self, beside, head=None):
        super().__init__()
        self.body, self.head, self.scale = nn.Linear(8, 8), head or nn.Linear(8, 5), nn.Parameter(torch.ones(()))
        self.beside = beside

    def forward(self, x):
        hidden = self.body(x)
        logits = self.head(hidden)
        return logits, self.beside(self, hidden, logits)


def test_a_loss_that_a_model_returns_beside_logits_is_minimised():
    x, y = torch.randn(32, 8), torch.randint(0, 5, (32,))
    model = Returning(lambda _, hidden, logits: nn.functional.cross_entropy(logits, y))
    with torch.no_grad():
        model.scale.requires_grad_(False)
        model.head.weight.mul_(40)
    found = diagnose(model, x)
    assert found.initial_loss == pytest.approx(model(x)[1].item(), rel=1e-6)
    assert found.verdict == "over-confident head"
    assert "; the loss that the model returns; " in found.title
    assert "the labels that were given" in diagnose(model, x, targets=y).title
    for beside in (lambda m, hidden, _: m.scale.exp(), lambda _, hidden, logits: hidden.square().mean()):
        assert "random labels" in diagnose(Returning(beside), x).title


def test_a_loss_that_is_flat():
    found = diagnose(nn.Linear(8, 5), torch.randn(16, 8), loss=lambda y: torch.relu(y - 1000).sum())
    assert found.verdict == "no gradient"
    assert "the loss is flat" in found.findings[0].reason


def test_normalisation_over_one_number():
    model = nn.Sequential(nn.Linear(8, 8), nn.GroupNorm(8, 8), nn.ReLU(), nn.Linear(8, 5))
    found = diagnose(model, torch.randn(16, 8))
    assert ("no signal", "1") in [(finding.name, finding.layer) for finding in found.findings]
    wide = nn.Sequential(nn.Linear(8, 8), nn.GroupNorm(2, 8), nn.ReLU(), nn.Linear(8, 5))
    assert diagnose(wide, torch.randn(16, 8)).healthy


def test_experts_that_are_multiplied_by_zero():
    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            self.experts, self.head = nn.ModuleList(nn.Linear(8, 8) for _ in range(3)), nn.Linear(8, 5)

        def forward(self, x):
            return self.head(sum(share * expert(x) for share, expert in zip((0.5, 0.5, 0.0), self.experts, strict=True)))

    found = diagnose(Dense(), torch.randn(16, 8))
    assert [(finding.name, finding.severity, finding.layer) for finding in found.findings] == [
        ("no gradient", "warn", "experts.2")
    ]  # fmt: skip


def test_sparse_and_nested_tensors():
    adjacency = torch.eye(16).to_sparse()

    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 5)

        def forward(self, x, adjacency):
            return torch.sparse.mm(adjacency, self.layer(x))

    assert diagnose(Graph(), torch.randn(16, 8), adjacency).healthy
    nested = torch.nested.nested_tensor([torch.randn(3, 8), torch.randn(5, 8)], layout=torch.jagged)
    with pytest.raises(TypeError, match="dense"):
        diagnose(nn.Linear(8, 5), nested)
    diagnose(nn.Linear(8, 5), nested, loss=lambda y: y.values().square().mean())


def test_lsuv_of_a_layer_that_sees_zeros_alone():
    model, x = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)), torch.randn(64, 8)
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.fill_(-1.0)
    before = state_of(model)
    with pytest.raises(ValueError, match="zeros in 0"):
        lsuv(model, torch.zeros(64, 8))
    model[0].requires_grad_(False)  # so that its units stay dead
    with pytest.raises(ValueError, match="zeros in 2"):
        lsuv(model, x)
    model[0].requires_grad_(True)
    assert_same(before, state_of(model))


def test_lsuv_of_biases_that_dominate():
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    with torch.no_grad():
        model[2].bias.copy_(torch.linspace(-5, 5, 8))
    before = model[2].weight.clone()
    with pytest.raises(ValueError, match="biases of variance"):
        lsuv(model, torch.randn(64, 8))
    assert torch.equal(model[2].weight, before)
