"""fastinit.torch.init_ of whole models in one process: names, ties, the meta device, buffers, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the dialect is not tested")

import fastinit  # noqa: E402
from fastinit import Key, _core  # noqa: E402
from fastinit import torch as init  # noqa: E402
from fastinit.plans import Parameter, Plan, Rule, parameters_of  # noqa: E402

KEY = Key(5)
NORMAL = fastinit.RandomNormal()
PLAN = Plan([Rule("**.bias", "zeros"), Rule("**.weight", "he_normal", ndim=2), Rule("**.weight", "ones")])
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def small(device="cpu", dtype=None):
    with torch.device(device):
        linear = torch.nn.Linear
        return torch.nn.Sequential(linear(7, 5, dtype=dtype), torch.nn.BatchNorm1d(5, dtype=dtype), linear(5, 3, dtype=dtype))


def bits(model):
    return {name: tensor.detach().clone().view(torch.uint8).numpy() for name, tensor in model.state_dict().items() if tensor.ndim}


def same(one, other):
    one, other = bits(one), bits(other)
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


# ---- values -----------------------------------------------------------------------------------------


def test_each_parameter_has_the_values_of_its_name():
    model = small()
    receipt = init.init_(model, PLAN, key=KEY)
    assert [one.parameter for one in receipt] == [name for name, _ in model.named_parameters()]
    assert receipt[4].rule == "**.weight"
    expected = fastinit.HeNormal(fans=fastinit.FanRule(layout="oi"))((3, 5), key=KEY / "2.weight")
    assert np.array_equal(model[2].weight.detach(), expected)
    assert model[2].bias.tolist() == [0] * 3
    assert model[1].weight.tolist() == [1] * 5


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_bits_again_and_from_the_meta_device(dtype):
    model, other = small(dtype=dtype), small("meta", dtype)
    state = torch.get_rng_state()
    init.init_(model, PLAN, key=KEY)
    init.init_(other, PLAN, key=KEY)
    assert same(model, other)
    init.init_(other, PLAN, key=KEY)
    assert same(model, other)
    assert torch.equal(state, torch.get_rng_state())


def test_a_dtype_for_parameters_on_the_meta_device():
    model = small("meta")
    init.init_(model, PLAN, key=KEY, dtype="bfloat16")
    assert same(model[0], init_of(small(dtype=torch.bfloat16))[0])
    wide = init_of(small())
    assert torch.equal(model[2].weight, wide[2].weight.bfloat16())  # float32 values, rounded once
    with pytest.raises(ValueError, match=r"0\.weight: expected dtype torch\.float16, got torch\.bfloat16; convert it first"):
        init.init_(model, PLAN, key=KEY, dtype=torch.float16)
    with pytest.raises(ValueError, match="dtype: expected a floating-point dtype"):
        init.init_(model, PLAN, key=KEY, dtype=torch.int8)


def init_of(model, plan=PLAN, **options):
    init.init_(model, plan, key=KEY, **options)
    return model


def test_all_laws_without_the_package_of_bfloat16(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ml_dtypes", None)
    model = torch.nn.ParameterDict({name: torch.empty(6, 4, dtype=torch.bfloat16) for name in "abcd"})
    laws = {"a": "orthogonal", "b": "ones", "c": fastinit.Sparse(sparsity=0.5), "d": "truncated_normal"}
    plan = Plan([Rule(name, law) for name, law in laws.items()])
    init.init_(model, plan, key=KEY)
    assert model["b"].eq(1).all()
    assert torch.equal(model["a"], torch.from_numpy(fastinit.Orthogonal()((6, 4), key=KEY / "a")).bfloat16())


def test_tensors_without_axes_and_without_elements():
    model = torch.nn.ParameterDict({"scale": torch.empty(()), "none": torch.empty(0, 3)})
    init.init_(model, Plan([Rule("**", "ones")]), key=KEY)
    assert model["scale"].item() == 1


def test_other_layouts_have_the_values_of_contiguous_ones():
    plan = Plan([Rule("weight", "normal")])
    plain = init_of(torch.nn.ParameterDict({"weight": torch.empty(4, 3, 5, 6)}), plan)["weight"]
    for memory in (
        torch.empty(4, 3, 5, 6, memory_format=torch.channels_last),
        torch.empty(6, 5, 3, 4).permute(3, 2, 1, 0),
        torch.empty(4, 3, 5, 12)[..., ::2],
    ):
        model = init_of(torch.nn.ParameterDict({"weight": memory}), plan)
        assert torch.equal(model["weight"], plain)
        assert model["weight"].stride() == memory.stride()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_share_what_memory_holds_in_another_order(dtype):
    plan = Plan([Rule("*", "normal")])
    shapes = {"wide": (300, 2100), "high": (2100, 300), "row": (1, 600_000)}
    plain = init_of(torch.nn.ParameterDict({name: torch.empty(shape, dtype=dtype) for name, shape in shapes.items()}), plan)
    for threads in (1, 2, 5):
        turned = {name: torch.empty(shape[::-1], dtype=dtype).t() for name, shape in shapes.items()}
        with fastinit.num_threads(threads):
            model = init_of(torch.nn.ParameterDict(turned), plan)
        assert all(torch.equal(model[name], plain[name]) for name in shapes)


def test_one_tensor():
    tensor = torch.empty(3, 4, requires_grad=True)
    assert init.init_(tensor, "he_normal", key=KEY) is tensor
    assert torch.equal(tensor, fastinit.HeNormal()(torch.empty(3, 4), key=KEY))
    with pytest.raises(TypeError, match="for models only"):
        init.init_(tensor, "he_normal", key=KEY, protect="weight")


def test_all_parameters_in_one_launch_of_the_threads(monkeypatch):
    model, launches, fill_many = small(), [], _core.fill_many
    monkeypatch.setattr(_core, "fill_many", lambda jobs, threads: (launches.append(len(jobs)), fill_many(jobs, threads)))
    init.init_(model, PLAN, key=KEY)
    assert [n for n in launches if n] == [2]


def test_autograd_notices_that_a_saved_tensor_was_overwritten():
    model = small()
    loss = (model[0].weight * model[0].weight).sum()
    init.init_(model, PLAN, key=KEY)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_memory_can_be_resized_afterwards():
    """FSDP frees what it has gathered by resizing it."""
    tensor = torch.nn.Parameter(torch.empty(8, 8))
    init.init_(torch.nn.ParameterDict({"w": tensor}), Plan([Rule("w", "normal")]), key=KEY)
    tensor.untyped_storage().resize_(0)


def test_inference_mode():
    with torch.inference_mode():
        model = init_of(small())
    assert same(model, init_of(small()))
    with pytest.raises(RuntimeError, match=r"0\.weight: .*inference tensor"):
        init.init_(model, PLAN, key=KEY)


# ---- names ------------------------------------------------------------------------------------------


class Wrapper(torch.nn.Module):
    def __init__(self, module, name):
        super().__init__()
        self.add_module(name, module)


@pytest.mark.parametrize("name", ["_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "module"])
def test_wrappers_change_no_values(name):
    model = small()
    model[0] = Wrapper(model[0], name)
    init.init_(Wrapper(model, name), PLAN, key=KEY)
    expected = init_of(small())
    assert torch.equal(next(model[0].parameters()), expected[0].weight)
    assert torch.equal(model[2].weight, expected[2].weight)


def test_the_parameters_of_a_model():
    model = small("meta", torch.bfloat16)
    assert parameters_of(model)[0] == Parameter("0.weight", (5, 7), "bfloat16", "Linear")
    assert PLAN.table(model)[0].fans == (7, 5)
    lazy = torch.nn.Sequential(torch.nn.LazyLinear(3))
    with pytest.raises(ValueError, match=r"0\.weight: expected a parameter with a shape, got a lazy one"):
        parameters_of(lazy)


class Tied(torch.nn.Module):
    def __init__(self, through=lambda weight: weight):
        super().__init__()
        self.body = torch.nn.Embedding(6, 4)
        self.head = torch.nn.Linear(4, 6, bias=False)
        self.head.weight = through(self.body.weight)


TIED = Plan([Rule("head.weight", "normal")])


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_tied_parameter_is_one(device):
    with torch.device(device):
        model = Tied()
    assert parameters_of(model) == (Parameter("body.weight", (6, 4), kind="Embedding", aliases=("head.weight",)),)
    init.init_(model, TIED, key=KEY)
    assert model.head.weight is model.body.weight
    assert np.array_equal(model.head.weight.detach(), NORMAL((6, 4), key=KEY / "body.weight"))


def test_parameters_of_the_same_memory_are_one():
    model = Tied(lambda weight: torch.nn.Parameter(weight.detach()))
    assert parameters_of(model)[0].aliases == ("head.weight",)
    with pytest.raises(ValueError, match="are one tensor, with two rules"):
        init.init_(model, Plan([Rule("head.weight", "normal"), Rule("body.weight", "ones")]), key=KEY)


# ---- protection -------------------------------------------------------------------------------------


def test_protected_parameters_keep_their_values_and_need_no_rule():
    model = small()
    before = model[0].weight.detach().clone()
    receipt = init.init_(model, Plan([Rule("2.*", "ones"), Rule("1.*", "zeros")]), key=KEY, protect="0.*")
    assert torch.equal(model[0].weight, before)
    assert {one.parameter for one in receipt} == {"1.weight", "1.bias", "2.weight", "2.bias"}
    init.init_(model, PLAN, key=KEY, protect=("0.*", "2.*"))  # a rule that only protected parameters use is no fault
    assert torch.equal(model[0].weight, before)
    with pytest.raises(ValueError, match=r"protect: expected globs of parameters, got 'x\.\*', which matches none"):
        init.init_(model, PLAN, key=KEY, protect=("0.*", "x.*"))
    with pytest.raises(ValueError, match=r"protect: expected parameters with values, got 0\.weight on the meta device"):
        init.init_(small("meta"), PLAN, key=KEY, protect="0.weight")


def test_a_parameter_of_another_dtype_is_named_unless_it_is_protected():
    model = torch.nn.ParameterDict({"w": torch.empty(3, 3)})
    model["q"] = torch.nn.Parameter(torch.zeros(3, dtype=torch.int8), requires_grad=False)
    plan = Plan([Rule("w", "ones")])
    with pytest.raises(ValueError, match=r"q: expected a dtype of .*, got torch\.int8"):
        init.init_(model, plan, key=KEY)
    init.init_(model, plan, key=KEY, protect="q")
    assert model["w"].eq(1).all()


# ---- the meta device --------------------------------------------------------------------------------


def test_parameters_keep_references_attributes_and_hooks():
    with torch.device("meta"):
        model = torch.nn.Linear(3, 3)
    weight, seen = model.weight, []
    weight.partition, model.bias.requires_grad = "mine", False
    weight.register_hook(seen.append)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    init.init_(model, Plan([Rule("weight", "normal"), Rule("bias", "zeros")]), key=KEY)
    assert model.weight is weight
    assert weight.partition == "mine"
    assert not model.bias.requires_grad
    before = weight.detach().clone()
    model(torch.ones(3)).sum().backward()
    optimizer.step()
    assert len(seen) == 1
    assert not torch.equal(weight, before)


def test_recurrent_modules_compute_with_what_was_filled():
    plan = Plan([Rule("weight_*", "he_normal"), Rule("bias_*", "zeros")])
    with torch.device("meta"):
        model = torch.nn.LSTM(3, 4, 2)
    init.init_(model, plan, key=KEY)
    x = torch.randn(5, 3)
    assert torch.equal(model(x)[0], init_of(torch.nn.LSTM(3, 4, 2), plan)(x)[0])


def test_memory_of_a_real_model_stays_where_it_is():
    model = small()
    places = [p.data_ptr() for p in model.parameters()]
    init.init_(model, PLAN, key=KEY)
    assert places == [p.data_ptr() for p in model.parameters()]


# ---- buffers ----------------------------------------------------------------------------------------


def test_running_statistics_are_made_anew_on_the_meta_device_only():
    model = init_of(small("meta"))
    assert (model[1].running_mean.tolist(), model[1].running_var.tolist()) == ([0] * 5, [1] * 5)
    assert model[1].num_batches_tracked.item() == 0
    model[1].running_mean.fill_(7)
    init.init_(model, PLAN, key=KEY)
    assert model[1].running_mean.tolist() == [7] * 5


class Masked(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(3, 3))
        self.mask = torch.nn.Buffer(torch.ones(3, 3).tril()) if hasattr(torch.nn, "Buffer") else None


class Frequencies(torch.nn.Module):
    """Buffers alone, computed as PyTorch's convention asks."""

    def __init__(self):
        super().__init__()
        self.register_buffer("frequencies", torch.empty(4), persistent=False)
        self.reset_parameters()

    def reset_parameters(self):
        self.frequencies.copy_(torch.arange(4.0))


def test_buffers_that_nothing_computes_are_named_before_anything_has_memory():
    with torch.device("meta"):
        model = torch.nn.Sequential(Masked(), Frequencies())
    plan = Plan([Rule("0.weight", "normal")])
    with pytest.raises(ValueError, match=r"expected buffers with values, got 0\.mask on the meta device"):
        init.init_(model, plan, key=KEY)
    assert model[0].weight.is_meta
    assert model[1].frequencies.is_meta
    model[0].mask = torch.ones(3, 3)
    init.init_(model, plan, key=KEY)
    assert model[1].frequencies.tolist() == [0, 1, 2, 3]
    assert "1.frequencies" not in model.state_dict()


# ---- what is refused --------------------------------------------------------------------------------


def test_everything_is_checked_before_anything_is_written():
    model = small()
    before = bits(model)
    with pytest.raises(ValueError, match=r"no rule matches 1\.weight"):
        init.init_(model, Plan([Rule("**.bias", "ones"), Rule("**.weight", "ones", ndim=2)]), key=KEY)
    model.register_parameter("expanded", torch.nn.Parameter(torch.ones(1, 3).expand(3, 3)))
    with pytest.raises(ValueError, match="expanded: expected memory for every element"):
        init.init_(model, Plan([Rule("**", "ones")]), key=KEY)
    del model.expanded
    assert all(np.array_equal(before[name], now) for name, now in bits(model).items())
    with pytest.raises(TypeError, match=r"plan: expected a fastinit\.plans\.Plan, got str"):
        init.init_(model, "he_normal", key=KEY)
    with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module or torch\.Tensor, got dict"):
        init.init_({}, PLAN, key=KEY)
    with pytest.raises(TypeError, match=r"key: expected a fastinit\.Key, got int"):
        init.init_(model, PLAN, key=0)


def test_parameters_without_values_of_their_own_are_named():
    plan = Plan([Rule("w", "ones")])
    sparse = torch.nn.ParameterDict({"w": torch.nn.Parameter(torch.ones(3, 3).to_sparse())})
    with pytest.raises(NotImplementedError, match=r"^w: init_: expected a strided tensor, got layout torch\.sparse_coo"):
        init.init_(sparse, plan, key=KEY)
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        fake = torch.nn.ParameterDict({"w": torch.nn.Parameter(torch.ones(3, 3))})
        with pytest.raises(RuntimeError, match="expected a call outside of dispatch modes"):
            init.init_(fake, plan, key=KEY)
    with pytest.raises(NotImplementedError, match=r"^w: expected a tensor with memory of its own, got a FakeTensor"):
        init.init_(fake, plan, key=KEY)


def test_a_partition_of_deepspeed_is_an_error():
    model = torch.nn.ParameterDict({"w": torch.empty(0)})
    model["w"].ds_id, model["w"].ds_shape = 0, torch.Size([6, 4])
    assert parameters_of(model)[0].shape == (6, 4)
    with pytest.raises(ValueError, match=r"w: expected a tensor with memory, got one of shape \(0,\) that DeepSpeed ZeRO-3"):
        init.init_(model, Plan([Rule("w", "normal")]), key=KEY)
    model["w"].data = torch.empty(6, 4)  # as it is inside of deepspeed.zero.GatheredParameters
    init.init_(model, Plan([Rule("w", "normal")]), key=KEY)
    assert np.array_equal(model["w"].detach(), NORMAL((6, 4), key=KEY / "w"))


def test_recording_is_refused():
    model = small()
    with pytest.raises(RuntimeError, match=r"outside of the transforms of torch\.func"):
        torch.vmap(lambda x: (init.init_(model, PLAN, key=KEY), x)[1])(torch.ones(3))
    from torch.fx.experimental.proxy_tensor import make_fx

    with pytest.raises(RuntimeError, match="outside of dispatch modes"):
        make_fx(lambda x: (init.init_(model, PLAN, key=KEY), x)[1])(torch.ones(3))


# ---- parts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("axis", [0, 1])
def test_the_partitions_of_megatron_are_those_of_the_whole(stride, axis):
    whole = fastinit.HeNormal(fans=fastinit.FanRule(layout="oi"))((8, 12), key=KEY / "w")
    plan = Plan([Rule("w", "he_normal")])
    for rank in range(2):
        model = torch.nn.ParameterDict({"w": torch.empty(4, 12) if axis == 0 else torch.empty(8, 6)})
        model["w"].tensor_model_parallel, model["w"].partition_dim, model["w"].partition_stride = True, axis, stride
        init.init_(model, plan, key=KEY, tensor_parallel=(rank, 2))
        blocks = np.split(whole, 2 * stride, axis)
        assert np.array_equal(model["w"].detach(), np.concatenate(blocks[rank::2], axis))
    with pytest.raises(ValueError, match=r"w: expected tensor_parallel=\(rank, size\)"):
        init.init_(model, plan, key=KEY)


def test_a_tensor_with_the_fields_of_checkpoints_is_filled_in_its_places():
    """Two pieces of one whole in one local tensor, as torch.distributed.checkpoint.protocol describes them."""
    model = torch.nn.ParameterDict({"w": torch.zeros(5, 3)})
    fields = {"global_shape": (9, 4), "global_offsets": ((6, 1), (0, 0)), "local_offsets": ((0, 0), (3, 0)),
              "local_sizes": ((3, 3), (2, 3))}  # fmt: skip
    for name, value in fields.items():
        setattr(model["w"], name, value)
    init.init_(model, Plan([Rule("w", "normal")]), key=KEY)
    whole = NORMAL((9, 4), key=KEY / "w")
    assert np.array_equal(model["w"].detach(), np.concatenate([whole[6:9, 1:4], whole[:2, :3]]))


def test_module_by_module_and_parameter_by_parameter():
    expected = init_of(small())
    by_module, by_parameter = small("meta"), small("meta")
    fill = init.param_init_fn(by_module, PLAN, key=KEY)
    for module in reversed(list(by_module.modules())):
        fill(module)
    assert same(by_module, expected)
    fill = init.param_init_fn(by_parameter, PLAN, key=KEY)
    by_parameter.to_empty(device="cpu")
    for parameter in by_parameter.parameters():
        fill(parameter)
    assert torch.equal(by_parameter[2].weight, expected[2].weight)
    with pytest.raises(ValueError, match="expected a module or parameter of the model"):
        fill(torch.empty(3))
