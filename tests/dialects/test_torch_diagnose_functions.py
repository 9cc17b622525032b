"""fastinit.torch.diagnose on functions that no hook of a module sees: attention, residual additions, activations."""

from __future__ import annotations

import math

import pytest
from torch_cases import torch  # which skips all of this where PyTorch is not installed

nn, F = torch.nn, torch.nn.functional

from fastinit.torch import diagnose  # noqa: E402
from fastinit.torch._functions import attention_entropy  # noqa: E402


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


class Applied(nn.Module):
    """A layer, a function, and a head."""

    def __init__(self, function, width=16):
        super().__init__()
        self.body, self.function, self.head = nn.Linear(width, width), function, nn.Linear(width, 5)

    def forward(self, x):
        return self.head(self.function(self.body(x)))


def rows(model, *inputs, **options):
    return {layer.layer: layer for layer in diagnose(model, *inputs, **options).layers}


# ---- attention --------------------------------------------------------------------------------------


def entropy_of(logits):
    """By definition; a hidden key is at -inf."""
    weights, seen = logits.detach().double().softmax(dim=-1), (logits > -math.inf).sum(dim=-1)
    shares = -(weights * weights.clamp_min(1e-300).log()).sum(dim=-1) / seen.double().log()
    return float(shares[seen >= 2].mean())


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("scale", [None, 1.5])
@pytest.mark.parametrize("mask", ["none", "causal", "bools", "numbers", "finite"])
def test_the_entropy_of_attention(heads, scale, mask):
    query, key = torch.randn(2, 4, 6, 8), torch.randn(2, heads, 7, 8)
    logits = query @ key.repeat_interleave(4 // heads, dim=1).transpose(-1, -2) * (scale or 8**-0.5)
    shown, added = torch.rand(2, 1, 6, 7) < 0.7, torch.randn(6, 7)
    given = {
        "none": {}, "causal": {"is_causal": True}, "bools": {"mask": shown}, "numbers": {"mask": added},
        "finite": {"mask": torch.zeros(2, 1, 6, 7).masked_fill(~shown, -1e4)},
    }[mask]  # fmt: skip
    expected = {
        "none": logits, "causal": logits.masked_fill(~torch.ones(6, 7).tril().bool(), -math.inf),
        "bools": logits.masked_fill(~shown, -math.inf), "numbers": logits + added,
        "finite": logits.masked_fill(~shown, -math.inf),
    }[mask]  # fmt: skip
    assert attention_entropy(query, key, scale=scale, **given) == pytest.approx(entropy_of(expected), rel=1e-4)


def test_the_entropy_of_attention_that_is_sampled_and_its_ends():
    query, key = torch.randn(4, 8, 200, 16), torch.randn(4, 8, 200, 16)
    exact = entropy_of(query @ key.transpose(-1, -2) / 4)
    assert attention_entropy(query, key) == pytest.approx(exact, abs=0.01)
    assert attention_entropy(0 * query, key) == pytest.approx(1, abs=1e-5)
    assert attention_entropy(1000 * query, key) == pytest.approx(0, abs=0.01)
    assert math.isnan(attention_entropy(query[:, :, :1], key[:, :, :1]))
    assert math.isnan(attention_entropy(query, key, torch.zeros(200, 200, dtype=torch.bool)))


class Attention(nn.Module):
    def __init__(self, how, scale=1.0, causal=False):
        super().__init__()
        self.packed, self.out, self.how, self.causal = nn.Linear(16, 48), nn.Linear(16, 16), how, causal
        with torch.no_grad():
            self.packed.weight[:32] *= scale

    def forward(self, x):
        query, key, value = (part.unflatten(-1, (4, 4)).transpose(1, 2) for part in self.packed(x).chunk(3, dim=-1))
        hidden = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1) & self.causal
        if self.how == "fused":
            y = F.scaled_dot_product_attention(query, key, value, ~hidden)
        else:
            logits = query @ key.transpose(-1, -2) / 2
            logits = logits.masked_fill(hidden, torch.finfo(logits.dtype).min)
            if self.how == "softmax":
                y = F.dropout(F.softmax(logits, dim=-1, dtype=torch.float32), 0.1) @ value
            elif self.how == "method":
                y = logits.softmax(-1).matmul(value)
            else:
                y = torch.einsum("bhqk,bhkd->bhqd", torch.softmax(logits, 3), value)
        return self.out(y.transpose(1, 2).flatten(2))


def attending(how, **options):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 16), Attention(how, **options), nn.Linear(16, 5))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_attention_has_a_row_however_it_is_computed(scale, causal):
    x = torch.randn(4, 12, 16)
    found = [rows(attending(how, scale=scale, causal=causal), x) for how in ("fused", "softmax", "method", "einsum")]
    for own in found:
        assert list(own) == ["0", "1.packed", "1/attention", "1.out", "2"]
        assert own["1/attention"].entropy == pytest.approx(found[0]["1/attention"].entropy, abs=1e-4)
    assert (0.3 < found[0]["1/attention"].entropy < 0.6) == (scale > 1)


def test_attention_of_pytorch_modules():
    module = nn.MultiheadAttention(16, 4, batch_first=True)
    x, y = torch.randn(3, 6, 16), torch.randn(3, 7, 16)
    padded = torch.zeros(3, 7, dtype=torch.bool)
    padded[:, 5:] = True

    class Asks(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = module

        def forward(self, x, y):
            return self.module(x, y, y, key_padding_mask=padded, need_weights=False)[0]

    weights = module(x, y, y, key_padding_mask=padded, average_attn_weights=False)[1]
    found = rows(Asks(), x, y)
    assert list(found) == ["module/attention", "module"]
    assert found["module/attention"].entropy == pytest.approx(entropy_of(weights[[0, 2]].log()), rel=1e-4)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2)
    found = rows(encoder, x)
    assert found["layers.1.self_attn/attention"].entropy > 0.9
    assert found["layers.1.linear1/relu"].dead == 0
    assert found["layers.1.linear2"].branch > 0


@pytest.mark.parametrize("function", [
    lambda x: x.softmax(-1), lambda x: x * x.softmax(-1), lambda x: x.softmax(1) @ torch.eye(16),
], ids=["probabilities", "gates", "over tokens"])  # fmt: skip
def test_what_is_no_attention(function):
    assert not any("attention" in str(name) for name in rows(Applied(function), torch.randn(4, 12, 16)))


# ---- residual additions -----------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, scale, how):
        super().__init__()
        self.norm, self.first, self.second = nn.LayerNorm(16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.scale, self.how = scale, how

    def forward(self, x):
        y = F.dropout(self.second(F.gelu(self.first(self.norm(x)))), 0.0) * self.scale
        if self.how == "in place":
            y += x
            return y
        return {"sum": lambda: x + y, "turned": lambda: y + x, "function": lambda: torch.add(y, x)}[self.how]()


@pytest.mark.parametrize("how", ["sum", "turned", "function", "in place"])
def test_residual_branches_stand_beside_their_stream(how):
    blocks = [Block(scale, how) for scale in (1.0, 0.1)]
    model, x, seen = nn.Sequential(nn.Linear(16, 16), *blocks, nn.Linear(16, 5)), torch.randn(8, 16), []
    y = model[0](x).detach()
    for block in blocks:
        after = block(y).detach()
        seen.append(float((after - y).norm() / y.norm()))
        y = after
    found = rows(model, x)
    assert [found[f"{i}.second"].branch for i in (1, 2)] == pytest.approx(seen, rel=1e-4)
    assert sum(not math.isnan(layer.branch) for layer in found.values()) == 2


def test_sums_without_a_stream():
    class Sums(Applied):
        def forward(self, x):
            y = self.body(x)
            return super().forward(x + 1) + self.head(y + y) + self.head(y + 0.1 * y**3)

    assert all(math.isnan(layer.branch) for layer in rows(Sums(torch.relu), torch.randn(8, 16)).values())


# ---- activation functions ---------------------------------------------------------------------------


@pytest.mark.parametrize(("module", "functions"), [
    (nn.ReLU(), [F.relu, torch.relu, torch.Tensor.relu, lambda x: F.relu(x, inplace=True), torch.relu_]),
    (nn.LeakyReLU(), [F.leaky_relu]), (nn.Tanh(), [F.tanh, torch.tanh, torch.Tensor.tanh]),
    (nn.Sigmoid(), [F.sigmoid, torch.sigmoid, torch.Tensor.sigmoid, torch.special.expit]),
    (nn.Hardtanh(), [F.hardtanh]), (nn.Softsign(), [F.softsign]), (nn.ReLU6(), [F.relu6]),
])  # fmt: skip
def test_activation_functions_have_the_rows_of_modules(module, functions):
    x, model = torch.randn(64, 16), Applied(module)
    with torch.no_grad():
        model.body.weight.mul_(8)
        model.body.bias[:4] = -1000
    expected = list(rows(model, x).values())
    assert [layer.layer for layer in expected] == ["body", "function", "head"]
    for function in functions:
        del model.function
        model.function = function
        found = list(rows(model, x).values())
        assert found[1].layer == f"body/{found[1].activation}"
        for one, other in zip(found, expected, strict=True):
            for field in ("dead", "saturated", "rms", "gradient_rms"):
                assert getattr(one, field) == pytest.approx(getattr(other, field), nan_ok=True)


def test_functions_that_are_called_several_times_or_first():
    assert list(rows(Applied(lambda x: torch.relu(x.relu() - 0.1)), torch.randn(8, 16))) == [
        "body", "body/relu", "body/relu#2", "head"
    ]  # fmt: skip
    model = nn.Linear(16, 5)
    model.forward = lambda x: torch.tanh(F.linear(torch.relu(x), model.weight, model.bias))
    assert list(rows(model, torch.randn(8, 16))) == ["model/tanh", "model"]


@pytest.mark.parametrize("gate", [
    lambda x: 0.5 * x * (1 + torch.tanh(20 * x)), lambda x: x * torch.sigmoid(20 * x), lambda x: torch.sigmoid(20 * x).mul(x),
])  # fmt: skip
def test_gates_are_no_activation_functions(gate):
    found = diagnose(Applied(gate), torch.randn(32, 16))
    assert [layer.layer for layer in found.layers] == ["body", "head"]
    assert found.healthy
    capped = rows(Applied(lambda x: 3 * torch.tanh(x)), torch.randn(32, 16))
    assert list(capped) == ["body", "body/tanh", "head"]


def test_a_function_can_saturate():
    found = diagnose(Applied(lambda x: torch.tanh(50 * x)), torch.randn(32, 16))
    assert (found.verdict, found.findings[0].layer) == ("saturated", "body/tanh")


# ---- what else runs there ---------------------------------------------------------------------------


class Own(torch.Tensor):
    pass


def compiled():
    return torch.compile(lambda x: F.relu(x) + 1, backend="eager")


@pytest.mark.parametrize("make", [
    lambda: torch.vmap(lambda x: torch.relu(x) + x + torch.softmax(x[None, None], -1)[0] @ torch.eye(16)[0]),
    lambda: lambda x: x + torch.func.grad(lambda y: torch.tanh(y).sum())(x), compiled,
    lambda: torch.compile(nn.Linear(16, 16), backend="eager"),
    lambda: lambda x: F.relu(x.as_subclass(Own)).as_subclass(torch.Tensor),
    lambda: lambda x: torch.utils.checkpoint.checkpoint(lambda y: y + torch.tanh(y), x, use_reentrant=False),
    lambda: lambda x: torch.utils.checkpoint.checkpoint(lambda y: y + torch.tanh(y), x, use_reentrant=True),
], ids=["vmap", "grad", "compiled", "compiled module", "subclass", "checkpoint", "reentrant"])  # fmt: skip
def test_inside_of_transforms(make):
    diagnose(Applied(make()), torch.randn(8, 16)).assert_healthy()


def test_attention_under_autocast():
    x = torch.randn(4, 12, 16)
    plain = rows(attending("fused"), x)["1/attention"].entropy
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for how in ("fused", "softmax"):
            assert rows(attending(how), x)["1/attention"].entropy == pytest.approx(plain, abs=0.01)


# ---- judgement --------------------------------------------------------------------------------------


def sharpened(*factors):
    """Attention whose logits are that much larger."""
    blocks = [Attention("fused", scale=factor**0.5) for factor in factors]
    return nn.Sequential(nn.Linear(16, 16), *(nn.Sequential(nn.LayerNorm(16), block) for block in blocks), nn.Linear(16, 5))


def test_attention_that_looks_at_one_key_is_saturated():
    x = torch.randn(8, 32, 16)
    sound, one, all_ = (diagnose(sharpened(*factors), x) for factors in [(1, 1, 1), (1, 3000, 1), (3000, 3000, 3000)])
    assert "saturated" not in [finding.name for finding in sound.findings]
    value, limit = sound.margins["saturated attention"]
    assert 0 < value < 0.5 < limit == 0.9
    assert [(f.name, f.severity, f.layer) for f in one.findings if f.name == "saturated"] == [
        ("saturated", "warn", "2.1/attention")
    ]  # fmt: skip
    assert (all_.verdict, all_.findings[0].layer) == ("saturated", "1.1/attention")
    assert "3 of 3 layers" in all_.findings[0].reason
    assert str(sound).splitlines()[1].endswith("entropy")
    assert str(diagnose(nn.Linear(16, 5), x[:, 0])).splitlines()[1].endswith("|dW|/|W|")


def test_one_layer_that_is_saturated_is_named_among_others():
    class Narrow(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(4))

        def forward(self, x):
            for i, layer in enumerate(self.layers):
                x = torch.tanh(layer(x) * (200 if i == 2 else 1))
            return x

    found = diagnose(Narrow(), torch.randn(64, 32))
    assert ("saturated", "warn", "layers.2/tanh") in [(f.name, f.severity, f.layer) for f in found.findings]
