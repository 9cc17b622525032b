"""fastinit.torch under torch.compile, torch.vmap, torch.fx, with fake tensors and in dispatch modes."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the dialect is not tested")

from torch._subclasses import FakeTensorMode  # noqa: E402
from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch_cases import DRAWN, KEY  # noqa: E402

import fastinit  # noqa: E402
from fastinit import Key  # noqa: E402
from fastinit import torch as init  # noqa: E402

COMPILES = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 14)
compiles = pytest.mark.skipif(not COMPILES, reason="torch.compile is refused before PyTorch 2.14")

needs_vmap = pytest.mark.skipif(not hasattr(torch.library, "register_vmap"), reason="PyTorch 2.5 lets operations be mapped")


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    init.unpatch()


def seeded(function, *args):
    torch.manual_seed(7)
    return function(*args)


# ---- torch.compile ----------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("name", DRAWN)
@compiles
def test_compiled_draws_are_the_same(name, backend):
    def model(x):
        getattr(init, name)(x, **DRAWN[name])
        return x * 2

    eager, tensor = seeded(model, torch.zeros(6, 5)), torch.zeros(6, 5)
    assert torch.equal(seeded(torch.compile(model, fullgraph=True, backend=backend), tensor), eager)
    assert torch.equal(tensor * 2, eager)  # in place
    torch.manual_seed(8)
    assert not torch.equal(torch.compile(model, fullgraph=True, backend=backend)(torch.zeros(6, 5)), eager)


@compiles
def test_compiled_by_the_default_backend():
    def model(x):
        first, second = torch.zeros(3, 3), torch.zeros(3, 3)
        init.normal_(first)
        init.kaiming_uniform_(second, mode="fan_out", nonlinearity="relu")
        return (x @ first + x @ second).sum()

    weight = torch.nn.Parameter(torch.eye(3))
    value = seeded(torch.compile(model, fullgraph=True), weight)
    value.backward()
    torch.testing.assert_close(value, seeded(model, weight))  # the order of sums may differ
    assert weight.grad.any()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@compiles
def test_compiled_draws_of_similar_tensors_are_not_merged(backend):
    def model(x):
        first, second = torch.zeros(4), torch.zeros(4)
        init.normal_(first)
        init.normal_(second)
        return (x * first * second).sum(), first, second

    weight = torch.ones(4, requires_grad=True)
    value, first, second = torch.compile(model, fullgraph=True, backend=backend)(weight)
    assert not torch.equal(first, second)
    value.backward()
    torch.testing.assert_close(weight.grad, first * second)


@compiles
def test_compiled_with_keys_and_numbers_that_change():
    keyed = torch.compile(lambda x, key: init.normal_(x, key=key), fullgraph=True, backend="aot_eager")
    for key in (Key(2**64 - 1), Key(2**64 - 1) / "a", Key(3) / "b", Key(2**63, 2**63)):
        assert torch.equal(keyed(torch.zeros(4), key), init.normal_(torch.zeros(4), key=key))
    scaled = torch.compile(lambda x, std: init.trunc_normal_(x, std=std, key=KEY), fullgraph=True, backend="aot_eager")
    for std in (0.1, 0.2, 0.3):
        assert torch.equal(scaled(torch.zeros(4), std), init.trunc_normal_(torch.zeros(4), std=std, key=KEY))


@compiles
def test_compiled_writes_change_the_version_of_a_parameter():
    weight = torch.nn.Parameter(torch.zeros(3, 3))
    before = weight._version

    def model():
        init.xavier_normal_(weight, gain=2.0)
        return weight + 1

    result = seeded(torch.compile(model, fullgraph=True, backend="aot_eager"))
    assert weight._version > before
    assert torch.equal(weight, seeded(init.xavier_normal_, torch.empty(3, 3), 2.0))
    assert torch.equal(result, weight + 1)


@compiles
def test_compiled_fixed_fills():
    def model(x):
        return init.dirac_(x[0]), init.eye_(x[1, 0]), init.constant_(x[1, 1], 3.0)

    expected = model(torch.zeros(2, 4, 4, 3))
    for one, other in zip(
        torch.compile(model, fullgraph=True, backend="eager")(torch.zeros(2, 4, 4, 3)), expected, strict=True
    ):
        assert torch.equal(one, other)


@compiles
def test_compiled_while_patched():
    def model():
        return torch.nn.init.normal_(torch.zeros(5)), torch.nn.init.trunc_normal_(torch.zeros(5))

    expected = seeded(lambda: (init.normal_(torch.zeros(5)), init.trunc_normal_(torch.zeros(5))))
    with init.patched():
        found = seeded(torch.compile(model, fullgraph=True, backend="eager"))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@compiles
def test_compiled_initializers_run_outside_of_the_graph():
    compiled = torch.compile(lambda x: fastinit.HeNormal()(x, key=KEY) + 1, backend="eager")
    assert torch.equal(compiled(torch.zeros(4, 3)), fastinit.HeNormal()(torch.zeros(4, 3), key=KEY) + 1)


# ---- torch.vmap -------------------------------------------------------------------------------


@needs_vmap
@pytest.mark.parametrize("name", DRAWN)
def test_mapped_draws(name):
    def draw(x):
        return getattr(init, name)(x, **DRAWN[name])

    # Successive seeds, each for a tensor of the shape of one example.
    expected = seeded(lambda: torch.stack([draw(torch.zeros(6, 5)) for _ in range(3)]))
    batch = torch.zeros(3, 6, 5)
    assert torch.equal(seeded(torch.vmap(draw, randomness="different"), batch), expected)
    assert torch.equal(batch, expected)
    assert torch.equal(seeded(torch.vmap(draw, in_dims=1, randomness="different"), torch.zeros(6, 3, 5)), expected)
    same = seeded(torch.vmap(draw, randomness="same"), torch.zeros(3, 6, 5))
    assert all(torch.equal(one, expected[0]) for one in same)
    with pytest.raises(RuntimeError, match="randomness error mode"):
        torch.vmap(draw)(batch)
    assert torch.equal(batch, expected)


@needs_vmap
def test_mapped_draws_into_a_tensor_shared_by_all_examples():
    shared = torch.zeros(4)
    for randomness, words in (("error", "randomness error mode"), ("different", "that all examples share")):
        with pytest.raises(RuntimeError, match=words):
            torch.vmap(lambda x: init.normal_(shared) + x, randomness=randomness)(torch.zeros(3, 4))
        assert not shared.any()
    seeded(torch.vmap(lambda x: init.normal_(shared) + x, randomness="same"), torch.zeros(3, 4))
    assert torch.equal(shared, seeded(init.normal_, torch.zeros(4)))


@needs_vmap
def test_mapped_draws_of_a_key_are_the_same():
    expected = init.normal_(torch.zeros(4), key=KEY)
    for randomness in ("error", "different", "same"):
        found = torch.vmap(lambda x: init.normal_(x, key=KEY), randomness=randomness)(torch.zeros(3, 4))
        assert all(torch.equal(one, expected) for one in found)


@needs_vmap
def test_maps_of_maps_generators_and_gradients():
    inner = torch.vmap(lambda x: init.normal_(x), randomness="different")
    found = torch.vmap(inner, randomness="same")(torch.zeros(2, 3, 4))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0, 0], found[0, 1])
    state = torch.get_rng_state()
    generator = torch.Generator().manual_seed(7)
    found = torch.vmap(lambda x: init.normal_(x, generator=generator), randomness="different")(torch.zeros(2, 4))
    assert torch.equal(found[0], init.normal_(torch.zeros(4), generator=torch.Generator().manual_seed(7)))
    assert torch.equal(state, torch.get_rng_state())
    slope = torch.func.grad(lambda x: (init.normal_(torch.empty(4), key=KEY) * x).sum())(torch.ones(4))
    assert torch.equal(slope, init.normal_(torch.zeros(4), key=KEY))


# ---- fake tensors and modes -------------------------------------------------------------------


@pytest.mark.parametrize("name", DRAWN)
def test_fake_tensors(name):
    with FakeTensorMode():
        tensor = torch.empty(6, 5)
        assert getattr(init, name)(tensor, **DRAWN[name]) is tensor
        assert getattr(init, name)(torch.nn.Parameter(tensor), **DRAWN[name]).shape == (6, 5)


def test_a_traced_graph_draws_when_it_runs():
    graph = make_fx(lambda x: init.normal_(x, 1.0, 2.0))(torch.zeros(4))
    assert torch.equal(seeded(graph, torch.zeros(4)), seeded(init.normal_, torch.zeros(4), 1.0, 2.0))


def test_a_mode_sees_the_draw():
    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func._schema.name)
            return func(*args, **(kwargs or {}))

    seen = []
    with Names():
        found = seeded(init.normal_, torch.zeros(4))
    assert "fastinit::init_" in seen
    assert torch.equal(found, seeded(init.normal_, torch.zeros(4)))


@needs_vmap
@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: init.normal_(x, 0.0, 1.0, None, KEY), TypeError, "expected at most 4 positional arguments, got 5"),
        (lambda x: init.normal_(x, sd=1.0), TypeError, "unexpected keyword argument 'sd'"),
        (lambda x: init.sparse_(x), TypeError, "expected the argument 'sparsity'"),
        (lambda x: init.normal_(x, key=3), TypeError, r"fastinit\.Key"),
        (lambda x: init.normal_(x, std=-1.0), RuntimeError, "std >= 0.0, but found std -1"),
        (lambda x: init.kaiming_normal_(x, nonlinearity="gelu"), ValueError, "Unsupported nonlinearity gelu"),
        (lambda x: fastinit.HeNormal()(x), NotImplementedError, "one under a transform of torch.func"),
    ],
)
def test_refused_as_elsewhere(call, kind, words):
    batch = torch.zeros(2, 3, 3)
    with pytest.raises(kind, match=words):
        torch.vmap(call, randomness="different")(batch)
    assert not batch.any()
    with FakeTensorMode(), pytest.raises(NotImplementedError, match="got a FakeTensor"):
        fastinit.HeNormal()(torch.empty(3, 3))


@pytest.mark.skipif(COMPILES, reason="PyTorch 2.14 and newer compile them")
def test_older_compilers_are_refused():
    """They would silently merge two draws of similar tensors."""
    with pytest.raises(Exception, match=r"2\.14 or newer"):
        torch.compile(lambda x: init.normal_(x), fullgraph=True, backend="eager")(torch.zeros(4))
