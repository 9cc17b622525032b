"""fastinit.torch.diagnose: what it finds in sound and faulty models, and that it leaves them as they are."""

from __future__ import annotations

import contextlib
import copy
import functools
import math

import numpy as np
import pytest
from torch_cases import KEY, Passing, assert_same, state_of, torch  # which skips all of this where PyTorch is not installed

nn = torch.nn

import diagnosed_models as models  # noqa: E402
import kit_torch as kit  # noqa: E402

import fastinit  # noqa: E402
from fastinit.torch import diagnose, lsuv  # noqa: E402


def made(name):
    model, *inputs = models.made(name, kit)
    return model, [torch.from_numpy(x) for x in inputs]


# ---- verdicts, besides those of test_diagnosed_models ---------------------------------------------


def test_layers_that_pytorch_copies_are_equal():
    layer = nn.TransformerEncoderLayer(64, 4, batch_first=True)
    found = diagnose(nn.Sequential(nn.TransformerEncoder(layer, 3)), torch.randn(4, 8, 64))
    assert found.verdict == "symmetric"


def test_an_expert_that_the_batch_was_not_sent_to_is_a_warning():
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

        def forward(self, x):
            return self.experts[0](x) + self.experts[2](x)

    found = diagnose(Experts(), torch.randn(16, 8))
    assert [(f.name, f.severity, f.layer) for f in found.findings] == [("no gradient", "warn", "experts.1")]
    assert "no sample of the batch is sent to experts.1" in found.findings[0].reason


def test_gradients_of_deep_batch_normalised_networks_grow():
    """By ln(pi / (pi - 1)) = 0.38 nats a layer of ReLU: Yang et al., "A mean field theory of batch normalization", 2019."""
    layers = [nn.Sequential(nn.Linear(256, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU()) for _ in range(40)]
    found = diagnose(nn.Sequential(*layers, nn.Linear(256, 10)), torch.randn(256, 256))
    assert found.backward.nats == pytest.approx(39 * math.log(math.pi / (math.pi - 1)), rel=0.2)
    assert found.verdict == "exploding"


def test_a_plain_stack_has_the_changes_that_the_same_weights_have_in_a_stack():
    stack = fastinit.Stack([64] * 13, ["relu"] * 12, weights="he_normal", key=KEY)
    layers = []
    for weight in stack.weights:
        linear = nn.Linear(64, 64)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight.T.copy()))
            linear.bias.zero_()
        layers += [linear, nn.ReLU()]
    x = fastinit.normal((32, 64), key=KEY / "x")
    cotangent = torch.from_numpy(fastinit.normal((32, 64), key=KEY / "dy"))
    found = diagnose(nn.Sequential(*layers), torch.from_numpy(x), loss=lambda y: (y * cotangent).sum())
    report = stack.propagate(x, cotangent.numpy())
    z = report.statistics["pre_activation"]["second_moment"]
    g = report.statistics["gradient"]["second_moment"]
    ours = [layer for layer in found.layers if layer.activation == "Linear"]
    np.testing.assert_allclose([layer.rms for layer in ours], np.sqrt(z), rtol=1e-4)
    np.testing.assert_allclose([layer.gradient_rms for layer in ours], np.sqrt(g), rtol=1e-3)
    assert found.forward.nats == pytest.approx(math.log(z[10] / z[0]), abs=1e-3)  # the last layer is the head
    assert found.backward.nats == pytest.approx(math.log(g[0] / g[10]), abs=1e-3)
    for layer in ours:
        assert layer.rms == pytest.approx(layer.rms_theory, rel=0.2)


# ---- losses, targets, outputs --------------------------------------------------------------------


def test_the_title_says_what_was_minimised():
    linear, x = nn.Linear(8, 5), torch.randn(16, 8)
    assert "cross-entropy with random labels" in diagnose(linear, x).title
    assert "labels that were given" in diagnose(linear, x, targets=torch.zeros(16, dtype=torch.long)).title
    assert "the loss that was given" in diagnose(linear, x, loss=lambda y: y.square().mean()).title
    assert "a random cotangent" in diagnose(nn.Sequential(linear, nn.Unflatten(1, (5, 1, 1))), x).title
    assert "a random cotangent" in diagnose(nn.Linear(8, 1), x).title


def test_a_loss_with_targets():
    linear, x, y = nn.Linear(8, 5), torch.randn(16, 8), torch.randint(0, 5, (16,))
    found = diagnose(linear, x, loss=nn.functional.cross_entropy, targets=y)
    assert found.initial_loss == pytest.approx(nn.functional.cross_entropy(linear(x), y).item(), rel=1e-6)
    assert found.uniform_loss == pytest.approx(math.log(5))
    assert math.isnan(diagnose(linear, x, loss=lambda y: y.square().mean()).uniform_loss)


@pytest.mark.parametrize("size", [0.0, 1.0, 40.0])
def test_the_head_is_judged_by_a_loss_that_the_model_computes_itself(size):
    x, y = torch.randn(64, 8), torch.randint(0, 5, (64,))
    y[:9] = -100
    linear = nn.Linear(8, 5)
    with torch.no_grad():
        linear.weight.mul_(size)
    own = Passing(linear, lambda logits: (logits, nn.functional.cross_entropy(logits[:-1], y[1:])))
    found = diagnose(own, x, loss=lambda outputs: outputs[1])
    assert found.initial_loss == pytest.approx(own(x)[1].item(), rel=1e-6)
    assert found.uniform_loss == pytest.approx(math.log(5))
    assert ("over-confident head" in {finding.name for finding in found.findings}) == (size == 40)


def test_the_head_is_judged_by_a_sum_and_beside_other_terms():
    linear, x, y = nn.Linear(8, 5), torch.randn(64, 8), torch.randint(0, 5, (64,))
    mean = nn.functional.cross_entropy(linear(x), y).item()
    for loss in (
        lambda logits: nn.functional.cross_entropy(logits, y, reduction="sum"),
        lambda logits: nn.functional.cross_entropy(logits, y) + linear.weight.square().sum(),
        lambda logits: nn.functional.cross_entropy(logits, nn.functional.one_hot(y, 5).float()),
    ):
        assert diagnose(linear, x, loss=loss).initial_loss == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize("loss", [nn.functional.mse_loss, lambda y, _: y.var(), lambda y, t: (y - t).softmax(-1)[:, 0].sum()])
def test_what_is_no_cross_entropy_is_not_held_against_the_number_of_classes(loss):
    found = diagnose(nn.Linear(8, 5), torch.randn(16, 8), loss=loss, targets=torch.randn(16, 5))
    assert math.isnan(found.uniform_loss)


def test_labels_that_the_cross_entropy_leaves_out():
    linear, x, y = nn.Linear(8, 5), torch.randn(16, 8), torch.tensor([-100, 1, 2, 3] * 4)
    expected = nn.functional.cross_entropy(linear(x), y).item()
    assert diagnose(linear, x, targets=y).initial_loss == pytest.approx(expected, rel=1e-6)


def test_several_inputs_and_outputs_in_tuples_and_dicts():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x, *, scale):
            return {"logits": self.b(x * scale), "hidden": (self.a(x), None)}

    found = diagnose(Heads(), torch.randn(16, 8), named={"scale": torch.ones(8)})
    assert [f.name for f in found.findings] == ["no gradient"]  # beside logits other outputs by name do not count
    assert found.findings[0].layer == "a"

    class Both(Heads):
        def forward(self, x, y):
            return self.a(x), self.b(y)

    diagnose(Both(), torch.randn(16, 8), torch.randn(16, 8)).assert_healthy()


def test_a_diagnosis_can_be_repeated_and_depends_on_no_generator():
    model = nn.Sequential(nn.Linear(8, 64), nn.Dropout(0.5), nn.Linear(64, 10))
    x = torch.randn(16, 8)
    first = diagnose(model, x).to_dict()
    torch.manual_seed(99)
    assert diagnose(model, x).to_dict() == first
    assert diagnose(model, x, key=fastinit.Key(1)).to_dict() != first


def test_seeds_are_of_models_that_a_function_makes():
    def make():
        return models.stack(kit, [None] * 20)[0]

    found = diagnose(make, torch.randn(32, 64), seeds=4)
    assert found.seeds == 4
    assert len(set(found.forward.each)) == 4
    assert found.forward.low < found.forward.high
    assert "4 seeds" in found.title
    assert diagnose(make, torch.randn(32, 64)).seeds == 1


def test_arguments_that_do_not_fit():
    linear, x = nn.Linear(8, 5), torch.randn(16, 8)
    for call, error, words in (
        (lambda: diagnose(linear, x, seeds=2), TypeError, "a function that makes a model"),
        (lambda: diagnose(3, x), TypeError, "model: expected"),
        (lambda: diagnose(lambda: 3, x), TypeError, "model: expected"),
        (lambda: diagnose(linear, x, loss=3), TypeError, "loss: expected"),
        (lambda: diagnose(linear, x, loss=lambda y: y), TypeError, "a tensor of one number"),
        (lambda: diagnose(linear, x, targets=torch.zeros(16)), ValueError, "targets: expected"),
        (lambda: diagnose(linear, x, thresholds=3), TypeError, "thresholds: expected"),
        (lambda: diagnose(nn.LazyLinear(5), x), ValueError, "parameters with memory"),
        (lambda: diagnose(nn.Linear(8, 5, device="meta"), x), ValueError, "parameters with memory"),
        (lambda: diagnose(nn.ReLU(), x), ValueError, "requires a gradient"),
        (lambda: diagnose(linear, torch.randn(16, 9)), RuntimeError, "shapes"),
        (lambda: diagnose(linear, torch.randn(0, 8)), ValueError, "at least one sample"),
        (lambda: diagnose(nn.Sequential(nn.LazyBatchNorm1d(affine=False), linear), x), ValueError, "buffers with memory"),
        (lambda: diagnose(nn.Sequential(torch.jit.ScriptModule(), linear), x), TypeError, "modules that Python runs"),
        (lambda: diagnose(linear, iter([x])), TypeError, "an iterator"),
        (lambda: diagnose(linear, x.to("meta")), ValueError, "tensors with memory"),
        (lambda: diagnose(linear, named=x), TypeError, "named: expected"),
        (lambda: diagnose(linear, x, named={1: x}), TypeError, "named: expected"),
        (lambda: diagnose(linear, x, loss=lambda y: torch.fft.fft(y).sum()), TypeError, "one number, got complex64 of shape"),
        (lambda: diagnose(Passing(linear, lambda y: {y}), x), ValueError, "got set; give a loss"),
        (lambda: diagnose(Passing(linear, lambda y: None), x), ValueError, "got NoneType; give a loss"),
    ):
        with pytest.raises(error, match=words):
            call()


def test_thresholds():
    model, inputs = made("tied head of variance 1")
    limits = fastinit.Thresholds(initial_loss=(100, 100))
    assert diagnose(model, *inputs, thresholds=limits).healthy


def test_what_is_printed_and_written():
    model, inputs = made("a layer dead by its biases")
    found = diagnose(model, *inputs)
    text = str(found)
    assert "act#2 relu" in text
    assert "nan%" not in text
    assert found.to_dict()["layers"][0]["layer"] == "parts.0"
    assert "<table>" in found._repr_html_()
    with pytest.raises(AssertionError, match="dead"):
        found.assert_healthy()


# ---- untouched ----------------------------------------------------------------------------------


class Recorded(Exception):
    """Raised in the middle of a pass."""


class Barrier(torch.autograd.Function):
    """Raises on the way back."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise Recorded


# Where the layer in the middle is not called, or nothing comes back through it.
MIDDLE = dict.fromkeys(("an unused block", "router without a gradient", "LayerScale of 0 for ever", "a detached branch"), "head")


def middle_of(model):
    weighted = [m for m in model.modules() if isinstance(m, nn.Linear)]
    return weighted[len(weighted) // 2]


@pytest.mark.parametrize("when", ["never", "forward", "backward"])
@pytest.mark.parametrize("name", ["GPT-2", "T5", "ResNet", "BatchNorm with zero gamma", "LoRA with B = 0", "ReZero", *MIDDLE])
def test_the_model_is_untouched(name, when):
    model, inputs = made(name)
    parameters = list(model.parameters())
    parameters[0].grad = torch.full_like(parameters[0], 2.5)
    list(model.modules())[-1].eval()
    called = []
    next(p for p in parameters if p.requires_grad).register_post_accumulate_grad_hook(called.append)
    copies = [x.clone() for x in inputs]
    before = state_of(model)
    handle = None
    if when != "never":

        def interrupt(module, args, output):
            if when == "forward":
                raise Recorded
            return Barrier.apply(output)

        middle = model.get_submodule(MIDDLE[name]) if name in MIDDLE else middle_of(model)
        handle = middle.register_forward_hook(interrupt)
        before = state_of(model)
        with pytest.raises(Recorded):
            diagnose(model, *inputs)
    else:
        diagnose(model, *inputs)
    assert_same(state_of(model), before)
    assert not called
    for x, kept in zip(inputs, copies, strict=True):
        assert torch.equal(x, kept)
    if handle is not None:
        handle.remove()
        diagnose(model, *inputs)


def test_what_a_forward_pass_writes_is_put_back():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.steps, self.seen = nn.Linear(8, 3), 0, []
            self.mean = torch.zeros(8)  # a tensor that is no buffer

        def forward(self, x):
            self.steps += 1
            self.seen.append(x)
            self.mean.add_(x.mean(dim=0))
            self.linear.weight.data.mul_(0.5)
            self.extra = x
            return self.linear(x)

    model, x = Counting(), torch.randn(16, 8)
    weight = model.linear.weight.clone()
    diagnose(model, x)
    assert model.steps == 0
    assert model.seen == []
    assert not hasattr(model, "extra")
    assert not model.mean.any()
    assert torch.equal(model.linear.weight, weight)


def test_parameters_that_a_model_holds_outside_of_modules():
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 8))
            weight = self.weight
            self.hidden = lambda x: x @ weight.T

        def forward(self, x):
            return self.hidden(x) + x @ self.weight.T

    model = Holder()
    model.weight.grad = kept = torch.ones(3, 8)
    diagnose(model, torch.randn(16, 8))
    assert model.weight.grad is kept
    assert torch.equal(kept, torch.ones(3, 8))


# ---- circumstances ------------------------------------------------------------------------------


@pytest.mark.parametrize("around", ["no_grad", "inference_mode", "autocast"])
def test_inside_of_contexts(around):
    contexts = {
        "no_grad": torch.no_grad, "inference_mode": torch.inference_mode,
        "autocast": functools.partial(torch.autocast, "cpu", dtype=torch.bfloat16),
    }  # fmt: skip
    model, inputs = made("GPT-2")
    plain = diagnose(model, *inputs)
    with contexts[around]():
        before = state_of(model)
        found = diagnose(model, *inputs)
        zeros, images = made("BatchNorm with zero gamma")
        assert diagnose(zeros, *images).healthy
        assert_same(torch.get_autocast_dtype("cpu"), torch.bfloat16)
        model_again = state_of(model)
    del before["generators"], model_again["generators"]  # the second model was drawn in between
    assert_same(model_again, before)
    assert found.verdict == "healthy"
    assert found.initial_loss == pytest.approx(plain.initial_loss, rel=0.01)
    assert found.backward.nats == pytest.approx(plain.backward.nats, abs=0.2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtypes(dtype):
    model, inputs = made("ViT")
    found = diagnose(model.to(dtype), *(x.to(dtype) for x in inputs))
    assert found.verdict == "healthy"
    assert {p.dtype for p in model.parameters()} == {dtype}


def test_complex_parameters_and_modules_that_are_the_model():
    diagnose(nn.Linear(8, 4, dtype=torch.complex64), torch.randn(16, 8, dtype=torch.complex64)).assert_healthy()
    found = diagnose(nn.Linear(8, 4), torch.full((16, 8), math.nan))
    assert (found.verdict, found.findings[0].layer) == ("non-finite", "model")


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing(reentrant):
    from torch.utils.checkpoint import checkpoint

    def forward(model, ids):
        x = model.wte(ids) + model.wpe(torch.arange(ids.shape[1]))
        for block in model.h:
            x = checkpoint(block, x, use_reentrant=reentrant)
        return kit.attend(model.wte, model.norm(x))

    (plain, inputs), (model, _) = made("GPT-2"), made("GPT-2")
    model.__class__ = type("Checkpointed", (type(model),), {"forward": forward})
    before = state_of(model)
    found, expected = diagnose(model, *inputs), diagnose(plain, *inputs)
    assert_same(state_of(model), before)
    # The pass forward of the reentrant kind has no graph, in which a product of matrices is known for attention.
    rows = [[layer for layer in one.layers if not layer.layer.endswith("/attention")] for one in (found, expected)]
    for one, other in zip(*rows, strict=True):
        assert one.layer == other.layer
        assert one.rms == pytest.approx(other.rms, rel=1e-5)
        assert one.gradient_rms == pytest.approx(other.gradient_rms, rel=1e-3, nan_ok=True)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_recurrent_layers(kind):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = kind(8, 32, num_layers=2, batch_first=True), nn.Linear(32, 5)

        def forward(self, x):
            return self.head(self.rnn(x)[0])

    model, x = Recurrent(), torch.randn(8, 6, 8)
    before = state_of(model)
    found = diagnose(model, x)
    assert not [f for f in found.findings if f.name == "no gradient"], str(found)
    assert_same(state_of(model), before)


def test_a_module_that_is_called_several_times_has_a_row_for_each_call():
    linear = nn.Linear(8, 8)
    found = diagnose(nn.Sequential(linear, nn.Tanh(), linear, nn.Tanh(), linear), torch.randn(16, 8))
    assert [layer.layer for layer in found.layers] == ["0", "1", "0#2", "3", "0#3"]


def test_weights_that_are_parametrized_or_normalised():
    wrapped = nn.utils.parametrizations
    model = nn.Sequential(wrapped.spectral_norm(nn.Linear(8, 32)), nn.ReLU(), wrapped.weight_norm(nn.Linear(32, 4)))
    x = torch.randn(32, 8)
    before = state_of(model)
    diagnose(model, x).assert_healthy()
    assert_same(state_of(model), before)


def test_deep_copies_and_compiled_models_are_diagnosed_as_the_model_itself():
    model, inputs = made("GPT-2")
    expected = diagnose(model, *inputs).to_dict()
    assert diagnose(copy.deepcopy(model), *inputs).to_dict() == expected
    with contextlib.suppress(ImportError):
        assert diagnose(torch.compile(model), *inputs).to_dict() == expected


# ---- lsuv ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["GPT-2", "ResNet", "T5"])
def test_lsuv_gives_every_layer_variance_1_and_writes_weights_alone(name):
    model, inputs = made(name)
    before = state_of(model)
    log = lsuv(model, *inputs, tolerance=0.05)
    after = state_of(model)
    names = {layer.layer + ".weight" for layer in log}
    assert len(log) > 10
    for key in before["bits"]:
        assert torch.equal(torch.as_tensor(before["bits"][key]), torch.as_tensor(after["bits"][key])) == (key not in names), key
    for part in ("gradients", "modes", "hooks", "attributes", "generators"):
        assert_same(after[part], before[part])
    variances = {}
    for layer in log:
        assert layer.after == pytest.approx(1, abs=0.05)

        def noted(module, args, output, name=layer.layer):
            variances.setdefault(name, output.var(correction=0).item())

        model.get_submodule(layer.layer).register_forward_hook(noted)
    with torch.no_grad():
        model(*inputs)
    assert variances == pytest.approx({layer.layer: layer.after for layer in log}, rel=1e-3)
    again, _ = made(name)
    assert lsuv(again, *inputs, tolerance=0.05) == log
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))


def test_lsuv_mends_a_start_that_vanishes():
    model, inputs = made("the framework's own start, 30 layers of ReLU")
    assert diagnose(model, *inputs).verdict == "vanishing"
    lsuv(model, *inputs)
    assert "vanishing" not in {finding.name for finding in diagnose(model, *inputs).findings}


def test_lsuv_changes_nothing_where_it_fails():
    model, x = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), torch.zeros(4, 8)
    with torch.no_grad():
        model[0].bias.zero_()
    before = state_of(model)
    with pytest.raises(ValueError, match="zeros in 0"):
        lsuv(model, x)
    with pytest.raises(ValueError, match="tolerance"):
        lsuv(model, x, tolerance=1.5)
    with pytest.raises(TypeError, match="model: expected"):
        lsuv(3, x)
    assert_same(state_of(model), before)


def test_lsuv_of_layers_that_are_called_by_name_of_complex_ones_and_of_compiled_models():
    x = torch.randn(64, 8)
    linear = nn.Linear(8, 16)
    (row,) = lsuv(linear, named={"input": x})
    assert row.after == pytest.approx(linear(x).var(correction=0).item(), rel=1e-3) == pytest.approx(1, abs=0.1)
    wave = torch.randn(256, 8, dtype=torch.complex64)
    linear = nn.Linear(8, 16, dtype=torch.complex64)
    lsuv(linear, wave)
    assert linear(wave).var(correction=0).item() == pytest.approx(1, abs=0.1)
    with contextlib.suppress(ImportError):
        assert [row.layer for row in lsuv(torch.compile(nn.Sequential(nn.Linear(8, 8))), x)] == ["0"]
