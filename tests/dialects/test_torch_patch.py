"""`patch`: which calls it reaches, that it can be undone without a trace, and the report of other random parameters.

Statistical tests: Kolmogorov-Smirnov at p > 1e-6, so a false alarm of one in a million each; means and deviations within five
standard errors, one in 1.7 million each; seeds are fixed, so none varies.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
import subprocess
import sys
import threading
import types
import warnings

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the dialect is not tested")

from dialect_laws import ks  # noqa: E402
from torch.nn import init as theirs  # noqa: E402
from torch_cases import DRAWN  # noqa: E402

import fastinit  # noqa: E402
from fastinit import torch as init  # noqa: E402

# ---- replaced functions -----------------------------------------------------------------------


@pytest.fixture
def clean():
    yield
    init.unpatch()
    assert theirs.uniform_ is torch.nn.modules.rnn.init.uniform_


def network():
    return torch.nn.ModuleList([
        torch.nn.Linear(5, 7), torch.nn.Conv2d(4, 6, 3), torch.nn.Embedding(9, 4), torch.nn.LSTM(3, 4),
        torch.nn.MultiheadAttention(8, 2), torch.nn.Bilinear(2, 3, 4), torch.nn.BatchNorm1d(3),
        torch.nn.TransformerEncoderLayer(8, 2, 16),
    ])  # fmt: skip


def test_patch_reaches_every_module(clean, monkeypatch):
    calls = []
    fill = sys.modules["fastinit.torch._init"].fill
    monkeypatch.setattr(
        sys.modules["fastinit.torch._init"], "fill", lambda *a: calls.append(a[5]) or fill(*a)
    )
    with init.patched():
        torch.manual_seed(0)
        state = network().state_dict()
    assert set(calls) == {"kaiming_uniform_", "uniform_", "normal_", "xavier_uniform_"}
    # MultiheadAttention imported xavier_uniform_ by name: twice here, in_proj of two modules.
    assert calls.count("xavier_uniform_") == 2
    calls.clear()
    with init.patched():
        torch.manual_seed(0)
        again = network().state_dict()
    assert all(torch.equal(state[name], again[name]) for name in state)
    calls.clear()
    network()
    assert not calls


def test_patched_layers_have_pytorchs_laws(clean):
    with init.patched():
        layer = torch.nn.Linear(400, 300)
        embedding = torch.nn.Embedding(500, 40)
    assert ks(layer.weight.detach(), "uniform", -1 / 20, 1 / 10) > 1e-6
    assert ks(layer.bias.detach(), "uniform", -1 / 20, 1 / 10) > 1e-6
    assert ks(embedding.weight.detach(), "norm") > 1e-6


def drawn(function, *args, **options):
    """The tensor that a function makes with a fixed seed."""
    torch.manual_seed(7)
    return function(torch.zeros(6, 5), *args, **options)


REPLACED = [*DRAWN, "_no_grad_uniform_", "_no_grad_normal_", "_no_grad_trunc_normal_"]
ARGUMENTS = {
    "sparse_": (0.3,), "_no_grad_uniform_": (-1.0, 2.0), "_no_grad_normal_": (1.0, 2.0),
    "_no_grad_trunc_normal_": (0.0, 1.0, -1.0, 2.0),
}  # fmt: skip


@pytest.mark.parametrize("name", REPLACED)
def test_every_reference_to_a_function_is_replaced_and_restored(clean, name):
    function, args = getattr(theirs, name), ARGUMENTS.get(name, ())
    ours = drawn(getattr(init, name.removeprefix("_no_grad_")), *args)
    own, signature = drawn(function, *args), inspect.signature(function)
    assert not torch.equal(ours, own)

    class Holder:
        attribute = staticmethod(function)

        def method(self, tensor, function=function):
            return function(tensor, *args)

    table = {"by name": function}
    named = dict(zip(list(signature.parameters)[1:], args, strict=False))
    held = [
        lambda t: function(t, *args), lambda t: table["by name"](t, *args), Holder().method,
        lambda t: Holder.attribute(t, *args), functools.partial(function, **named),
        lambda t: getattr(theirs, name)(t, *args),
    ]  # fmt: skip
    with init.patched():
        assert all(torch.equal(drawn(one), ours) for one in held)
        assert getattr(theirs, name) is function
        assert inspect.signature(function) == signature
        late = {"late": getattr(theirs, name)}  # as in a module that is imported now
        assert torch.equal(drawn(late["late"], *args), ours)
    assert all(torch.equal(drawn(one), own) for one in held)
    assert torch.equal(drawn(late["late"], *args), own)
    assert late["late"] is function


IMPORTED = """
import sys, types, torch
from fastinit import torch as init
source = "from torch.nn.init import normal_\\nimport torch\\nTABLE = {'normal_': torch.nn.init.normal_, 'deep': [[normal_]]}"
def module(name):
    made = sys.modules[name] = types.ModuleType(name)
    exec(source, made.__dict__)
    return made
def draw(function):
    torch.manual_seed(0)
    return function(torch.empty(9)).tolist()
early = module("early")
own, ours = draw(torch.nn.init.normal_), draw(init.normal_)
with init.patched():
    late = module("late")
    for one in (early, late):
        assert draw(one.normal_) == draw(one.TABLE["normal_"]) == draw(one.TABLE["deep"][0][0]) == ours
for one in (early, late):
    assert one.normal_ is torch.nn.init.normal_ is one.TABLE["normal_"]
    assert draw(one.normal_) == draw(one.TABLE["deep"][0][0]) == own
print("as before")
"""


def test_modules_imported_before_and_while_patched():
    run = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, timeout=120, check=False)
    assert run.stdout.strip() == "as before", run.stderr[-2000:]


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_transformers_dict_of_functions(when):
    pytest.importorskip("transformers.initialization", reason="Transformers 5 is not installed")
    code = f"""
import torch
from fastinit import torch as init
def draw(function):
    torch.manual_seed(0)
    return function(torch.empty(9)).tolist()
own, ours = draw(torch.nn.init.normal_), draw(init.normal_)
if {when == "before"}:
    import transformers.initialization
with init.patched():
    from transformers.initialization import TORCH_INIT_FUNCTIONS, normal_
    assert draw(TORCH_INIT_FUNCTIONS["normal_"]) == draw(normal_) == ours
assert draw(TORCH_INIT_FUNCTIONS["normal_"]) == draw(normal_) == own
print("as before")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert run.stdout.strip() == "as before", run.stderr[-2000:]


def state_of_torch():
    names = [*REPLACED, "dirac_"]
    return {name: getattr(theirs, name).__code__ for name in names}, dict(torch.Tensor.__dict__)


def test_patch_and_unpatch_leave_no_trace(clean):
    before = state_of_torch()
    names = theirs.__dict__.copy()
    init.patch()
    init.patch()
    during = state_of_torch()
    assert all(during[0][name] is not before[0][name] for name in during[0])
    with init.patched(), init.patched(report=True):
        assert state_of_torch() == during
    assert state_of_torch() == during  # patched before, patched after
    init.unpatch()
    init.unpatch()
    assert state_of_torch() == before
    assert theirs.__dict__ == names
    with pytest.raises(KeyError), init.patched(report=True):
        raise KeyError
    assert state_of_torch() == before
    with init.patched():
        init.patch()
    assert state_of_torch() == during  # by the call inside
    init.unpatch()
    with init.patched():
        init.unpatch()
        assert state_of_torch() == during  # while the block is open
    assert state_of_torch() == before


def test_a_block_of_one_thread_does_not_end_that_of_another(clean):
    before, opened, closed = state_of_torch(), threading.Event(), threading.Event()

    def block():
        with init.patched():
            opened.set()
            closed.wait(30)

    thread = threading.Thread(target=block)
    thread.start()
    assert opened.wait(30)
    during = state_of_torch()
    with init.patched():
        pass
    assert state_of_torch() == during != before
    closed.set()
    thread.join()
    assert state_of_torch() == before


def test_a_method_replaced_by_another_library_stays(clean, monkeypatch):
    own = drawn(torch.Tensor.normal_)
    with init.patched():
        during = torch.Tensor.normal_
        monkeypatch.setattr(torch.Tensor, "normal_", lambda self, *args: during(self, *args), raising=False)
    assert "normal_" in torch.Tensor.__dict__
    assert torch.equal(drawn(torch.Tensor.normal_), own)  # and calls PyTorch's
    assert torch.equal(drawn(during), own)


@pytest.mark.parametrize("name", [name for name in DRAWN if name != "trunc_normal_"])
def test_deprecated_names_are_replaced(clean, name):
    args = ARGUMENTS.get(name, ())
    expected = drawn(getattr(init, name), *args)
    with init.patched(), pytest.warns(FutureWarning, match="deprecated"):
        assert torch.equal(drawn(getattr(theirs, name[:-1]), *args), expected)


def test_unpatch_does_not_change_what_users_imported(clean):
    module = types.ModuleType("a_users_module")
    module.mine = init.normal_
    with init.patched():
        pass
    assert module.mine is init.normal_
    assert torch.equal(drawn(module.mine), drawn(init.normal_))


def test_a_replaced_function_warns_its_caller(clean):
    with init.patched():
        for call in (
            lambda: theirs.trunc_normal_(torch.empty(3), 0.0, 1.0, 5.0, 8.0),
            lambda: theirs.kaiming_normal_(torch.empty(0, 1)),
        ):
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                call()
            assert [one.filename for one in seen] == [__file__]


# ---- methods ----------------------------------------------------------------------------------


def test_methods_of_tensors(clean):
    torch.manual_seed(7)
    expected = init.normal_(torch.empty(6, 5), 1.0, 2.0), init.uniform_(torch.empty(6, 5), -1.0, 2.0)
    own = drawn(lambda t: t.normal_(1.0, 2.0))
    with init.patched():
        torch.manual_seed(7)
        tensor = torch.empty(6, 5)
        assert tensor.normal_(1.0, std=2.0) is tensor
        assert torch.equal(tensor, expected[0])
        assert torch.equal(torch.empty(6, 5).uniform_(-1.0, to=2.0), expected[1])
        parameter = torch.nn.Parameter(torch.empty(6, 5))
        torch.manual_seed(7)
        assert torch.equal(parameter.data.normal_(mean=1.0, std=2.0), expected[0])
        torch.manual_seed(7)
        with torch.no_grad():
            assert torch.equal(parameter.normal_(1.0, 2.0), expected[0])
        assert torch.equal(torch.empty(9).normal_(generator=torch.Generator().manual_seed(3)),
                           init.normal_(torch.empty(9), generator=torch.Generator().manual_seed(3)))  # fmt: skip
    assert torch.equal(drawn(lambda t: t.normal_(1.0, 2.0)), own)


class Kind(torch.Tensor):
    pass


NOT_OURS = {  # recorded by autograd, not a plain real tensor, or refused by fastinit
    "recorded": lambda: (torch.zeros(5, requires_grad=True) * 2).normal_().detach(),
    "complex": lambda: torch.zeros(5, dtype=torch.complex64).normal_(),
    "subclass": lambda: torch.zeros(5).as_subclass(Kind).normal_().as_subclass(torch.Tensor),
    "infinite": lambda: torch.zeros(5).normal_(math.inf, 1.0),
    "beyond the dtype": lambda: torch.zeros(5, dtype=torch.float16).normal_(0.0, 1e6),
    "meta": lambda: torch.empty(5, device="meta").normal_().shape,
    "empty": lambda: torch.empty(0).normal_(),
}


@pytest.mark.parametrize("case", NOT_OURS)
def test_methods_that_stay_those_of_pytorch(clean, case):
    torch.manual_seed(0)
    expected = NOT_OURS[case]()
    with init.patched():
        torch.manual_seed(0)
        found = NOT_OURS[case]()
    assert torch.equal(found, expected) if isinstance(found, torch.Tensor) else found == expected


def test_methods_raise_the_errors_of_pytorch(clean):
    calls = (
        lambda: torch.zeros(3).normal_(0.0, -1.0), lambda: torch.zeros(3).uniform_(1.0, 0.0),
        lambda: torch.zeros(3).normal_("a"), lambda: torch.zeros(3).normal_(0.0, 1.0, 2.0),
        lambda: torch.zeros(3).uniform_(0.0, 1.0, to=2.0), lambda: torch.zeros(3).normal_(sd=1.0),
        lambda: torch.zeros(3, dtype=torch.int32).normal_(), lambda: torch.zeros(3, requires_grad=True).normal_(),
        lambda: torch.zeros(1).expand(3).normal_(), lambda: torch.zeros(3).normal_(generator=3),
    )  # fmt: skip
    for call in calls:
        with pytest.raises(Exception) as expected:  # noqa: PT011
            call()
        with init.patched(), pytest.raises(expected.type) as found:
            call()
        assert str(found.value) == str(expected.value)


def test_patched_modules_can_be_built_on_the_meta_device(clean):
    with init.patched():
        with torch.device("meta"):
            model = network()
        assert all(p.is_meta for p in model.parameters())
        layer = torch.nn.Linear(3, 4, device="meta").to_empty(device="cpu")
        torch.manual_seed(1)
        layer.reset_parameters()
        torch.manual_seed(1)
        assert torch.equal(layer.weight, torch.nn.Linear(3, 4).weight)


def test_a_patched_model_trains_and_copies(clean):
    torch.manual_seed(0)
    with init.patched():
        model = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
    twin = copy.deepcopy(model)
    x = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    y = torch.tensor([[0.0], [1], [1], [0]])
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.01
    assert not torch.equal(twin[0].weight, model[0].weight)


# ---- the report -------------------------------------------------------------------------------


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        self.scale = torch.nn.Parameter(torch.ones(4))
        self.token = torch.nn.Parameter(torch.randn(1, 4) * 0.02)
        self.noise = torch.nn.Parameter(torch.empty(4))
        self.noise.data.exponential_()
        self.copied = torch.nn.Parameter(torch.zeros(2, 4))
        self.copied.data[1].copy_(torch.rand(4))
        self.settled = torch.nn.Parameter(torch.randn(4))
        torch.nn.init.zeros_(self.settled)
        self.ours = torch.nn.Parameter(torch.randn(4, 4))
        fastinit.HeNormal()(self.ours)
        self.method = torch.nn.Parameter(torch.empty(4).normal_() * 2)


def test_the_report_lists_parameters_not_drawn_by_fastinit(clean):
    with init.patched(report=True) as report:
        model = torch.nn.ModuleDict({"first": Block(), "second": Block()})
        assert len(report.past) == 6  # also while the block is open
        torch.nn.Linear(3, 3)  # it no longer exists when the block ends
    expected = [
        init.Past("Block", f"{block}.{name}", shape, how)
        for block in ("first", "second")
        for name, shape, how in (
            ("token", (1, 4), "torch.randn"), ("noise", (4,), "Tensor.exponential_"), ("copied", (2, 4), "torch.rand"),
        )
    ]  # fmt: skip
    assert list(report.past) == expected
    assert (report.drawn, report.total) == (8, 18)
    assert str(report) == (
        "fastinit drew 8 of 18 parameters; past it 6:\n"
        "  Block.token (1, 4): torch.randn, 2 times\n"
        "  Block.noise (4,): Tensor.exponential_, 2 times\n"
        "  Block.copied (2, 4): torch.rand, 2 times"
    )
    torch.nn.init.zeros_(model["first"].token)
    model["third"] = torch.nn.Linear(2, 2)
    assert list(report.past) == expected  # unchanged after the block


def test_report_of_nothing(clean):
    with init.patched(report=True) as report:
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    assert str(report) == "fastinit drew 2 of 4 parameters; past it none."
    assert repr(report) == "<Report of 4 parameters: 2 drawn by fastinit, 0 past it>"
    assert report.past == ()
    assert len(list(model.parameters())) == report.total
    with init.patched() as nothing:
        assert nothing is None


def test_report_of_odd_tensors(clean):
    with init.patched(report=True) as report:
        lazy = torch.nn.LazyLinear(3)
        with torch.device("meta"):
            empty = torch.nn.Linear(2, 2)
        tied = torch.nn.Linear(4, 4, bias=False)
        tied.other = tied.weight
        torch.zeros_like(torch.eye(3).to_sparse())
        holder = torch.nn.Module()
        holder.table = torch.nn.Parameter(torch.randn(3, 4))
        torch.nn.init.normal_(holder.table[1:])  # a part is drawn by fastinit, the rest is not
    assert report.past == (init.Past("Module", "table", (3, 4), "torch.randn"),)
    assert report.drawn == 1
    assert (lazy, empty, tied) is not None


def test_the_report_is_for_one_thread(clean):
    made = []
    with init.patched(report=True) as report:
        thread = threading.Thread(target=lambda: made.append(torch.nn.Linear(3, 3)))
        thread.start()
        thread.join()
    assert report.total == 0
    assert made


def test_values_are_the_same_with_a_report(clean):
    states = []
    for report in (False, True):
        torch.manual_seed(3)
        with init.patched(report=report):
            states.append(network().state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


# ---- models of libraries ----------------------------------------------------------------------

TIMM = {
    "vit_tiny_patch16_224": {"depth": 2}, "convnext_atto": {"depths": (1, 1, 1, 1)}, "pit_ti_224": {},
    "resnet18": {}, "mixer_s32_224": {}, "swin_tiny_patch4_window7_224": {"depths": (1, 1, 1, 1)},
}  # fmt: skip


def within_five_sigma(model, twin):
    """Check that the tensors of two draws of a model have equal means and standard deviations up to five standard errors.

    The standard error of a mean is known from the elements; that of a deviation is estimated from the fourth moment.
    """
    for (name, ours), own in zip(model.named_parameters(), twin.parameters(), strict=True):
        a, b = ours.detach().double(), own.detach().double()
        if a.numel() < 256:  # too few for an estimate of the fourth moment
            continue
        spread = b.std().item()
        if spread == 0:
            assert torch.equal(a, b), name
            continue
        error = math.sqrt(2 / a.numel())
        assert abs(a.mean() - b.mean()) < 5 * spread * error, name
        kurtosis = ((b - b.mean()) ** 4).mean().item() / spread**4
        assert abs(a.std() / spread - 1) < 5 * error * math.sqrt((kurtosis - 1) / 4), name


@pytest.mark.parametrize("name", TIMM)
def test_models_of_timm(clean, name):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    torch.manual_seed(1)
    twin = timm.create_model(name, **TIMM[name])
    with init.patched(report=True) as report:
        model = timm.create_model(name, **TIMM[name])
    assert report.past == ()
    assert report.drawn > 0.2 * report.total
    within_five_sigma(model, twin)


def configurations():
    transformers = pytest.importorskip("transformers", reason="Transformers is not installed")
    small = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 200}
    return {
        "gpt2": (transformers.GPT2LMHeadModel, transformers.GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=200)),
        "llama": (transformers.LlamaForCausalLM,
                  transformers.LlamaConfig(**small, intermediate_size=96, num_key_value_heads=2)),
        "bert": (transformers.BertModel, transformers.BertConfig(**small, intermediate_size=96)),
        "vit": (transformers.ViTModel, transformers.ViTConfig(
            hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, image_size=32, patch_size=8)),
        "t5": (transformers.T5ForConditionalGeneration,
               transformers.T5Config(d_model=64, num_layers=2, num_heads=4, d_ff=96, d_kv=16, vocab_size=200)),
        "wav2vec2": (transformers.Wav2Vec2Model, transformers.Wav2Vec2Config(
            hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, conv_dim=(32,) * 7)),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "vit", "t5", "wav2vec2"])
def test_models_of_transformers(clean, name):
    made, config = configurations()[name]
    torch.manual_seed(1)
    twin = made(config)
    with init.patched(report=True) as report:
        model = made(config)
    assert report.past == ()
    assert report.drawn > 0.2 * report.total
    within_five_sigma(model, twin)
