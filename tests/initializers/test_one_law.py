# SPDX-License-Identifier: BSD-3-Clause
"""One law for every way to a tensor: a call, its shards, `fill_many` and virtual weights agree bit for bit, in every dtype."""

import numpy as np
import pytest
from all_initializers import ALL, DTYPES, MATRIX, bits, named, small

import fastinit
from fastinit import (
    Constant,
    GlorotUniform,
    HeNormal,
    Key,
    LogUniform,
    MambaDtBias,
    Orthogonal,
    PerGate,
    RandomNormal,
    RandomUniform,
    Stack,
    Times,
    TruncatedNormal,
    fill_many,
)
from fastinit._common.dtypes import part_of
from fastinit._stream.laws import Law


def tensor(initializer, shape, dtype, key):
    """The tensor, or the error if the initializer does not have the dtype."""
    try:
        return initializer(shape, dtype, key=key)
    except ValueError as error:
        return error


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("initializer", "shape"), ALL, ids=lambda value: "" if isinstance(value, tuple) else repr(value))
def test_every_way_to_a_tensor_has_the_same_bits(initializer, shape, dtype):
    shape, key, kind = small(shape), Key(5) / "w", named(dtype)
    whole = tensor(initializer, shape, dtype, key)
    if isinstance(whole, ValueError):
        # a complex dtype without meaning, or values out of the range of float8: refused in every way, and nothing is written
        assert part_of(dtype) or dtype.startswith("float8")
        out = np.full(shape, 3, kind)
        before = bits(out)
        for way in (
            lambda: initializer.shard(shape, ..., dtype=dtype, key=key, out=out),
            lambda: fill_many([(out, initializer, key)]),
        ):
            with pytest.raises(ValueError, match="expected") as refused:
                way()
            assert str(whole) in str(refused.value)
        assert bits(out) == before
        return
    assert (whole.shape, whole.dtype) == (shape, kind)
    for piece in (np.s_[...], np.s_[1:3], np.s_[..., ::-2], np.s_[0], np.s_[2:2]):
        assert bits(initializer.shard(shape, piece, dtype=dtype, key=key)) == bits(np.ascontiguousarray(whole[piece]))
    out, neighbour = np.empty(shape, kind), np.empty((5, 3), kind)
    fill_many([(neighbour, RandomNormal(), key), (out, initializer, key)])
    assert bits(out) == bits(whole)
    if dtype == "bfloat16":
        out = np.empty(shape, np.uint16)
        fill_many([(out, initializer, key)])
        assert bits(out) == bits(whole)


# ---- scalars and empty tensors ---------------------------------------------------------------------------------

NUMBERS = [
    Constant(0.3), fastinit.Zeros(), fastinit.Ones(), fastinit.PriorBias(), RandomUniform(), RandomNormal(), TruncatedNormal(),
    HeNormal(fans=(3, 4)), GlorotUniform(fans=(3, 4)), fastinit.SmallInit(64), LogUniform(), MambaDtBias(),
    Times(LogUniform(), 0.7), Times(HeNormal(fans=(3, 4)), 0.7), Times(Times("ones", 0.7), 0.3),
    fastinit.get(lambda shape, dtype: np.full(shape, 0.3)),
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("initializer", NUMBERS, ids=repr)
def test_a_scalar_is_the_first_element_of_a_vector(initializer, dtype):
    """A shape without axes, in every dtype: as a new array, in `out`, as a shard and by `fill_many`."""
    key, kind = Key(5), named(dtype)
    vector = tensor(initializer, (7,), dtype, key)
    if isinstance(vector, ValueError):
        assert part_of(dtype)
        with pytest.raises(ValueError, match="dtype: expected a real one"):
            initializer((), dtype, key=key)
        return
    expected = bits(vector[:1])
    number = initializer((), dtype, key=key)
    assert (type(number), number.shape, number.dtype) == (np.ndarray, (), kind)
    assert bits(number) == expected
    for shape, index in (((), ()), ((), ...), ((7,), 0), ((7,), (..., 0))):
        shard = initializer.shard(shape, index, dtype=dtype, key=key)
        assert (type(shard), shard.shape, shard.dtype) == (np.ndarray, (), kind)
        assert bits(shard) == expected
        out = np.zeros((), kind)
        assert initializer.shard(shape, index, dtype=dtype, key=key, out=out) is out
        assert bits(out) == expected
    out = np.zeros((), kind)
    assert initializer((), dtype, key=key, out=out) is out
    assert bits(out) == expected
    out = np.zeros((), kind)
    fill_many([(out, initializer, key)])
    assert bits(out) == expected


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("initializer", NUMBERS, ids=repr)
@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3, 0)])
def test_empty_tensors(initializer, dtype, shape):
    if isinstance(tensor(initializer, (7,), dtype, Key(5)), ValueError):
        with pytest.raises(ValueError, match="dtype: expected a real one"):
            initializer(shape, dtype, key=Key(5))
        return
    empty = initializer(shape, dtype, key=Key(5))
    assert (empty.shape, empty.dtype) == (shape, named(dtype))
    assert initializer.shard((7, *shape), 3, dtype=dtype, key=Key(5)).shape == shape
    fill_many([(empty, initializer, Key(5))])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sampler", [fastinit.uniform, fastinit.normal, fastinit.truncated_normal])
def test_a_scalar_of_a_sampler_is_the_first_element_of_a_vector(sampler, dtype):
    number = sampler((), key=Key(5), dtype=dtype)
    assert (type(number), number.shape, number.dtype) == (np.ndarray, (), named(dtype))
    assert bits(number) == bits(sampler(7, key=Key(5), dtype=dtype)[:1])
    out = np.zeros((), named(dtype))
    assert sampler((), key=Key(5), dtype=dtype, out=out) is out
    assert bits(out) == bits(number)


# ---- laws ----------------------------------------------------------------------------------------------------------

INDEPENDENT = [(one, small(shape)) for one, shape in ALL if one.law(shape) is not None]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "initializer", [one for one, shape in INDEPENDENT if len(shape) != 3], ids=repr
)
def test_virtual_weights_are_those_of_the_call(initializer, dtype):
    shape, key = MATRIX, Key(5)
    expected = initializer(shape, dtype, key=key / "0.weight")
    stack = Stack(shape, "linear", weights=initializer, dtype=dtype, virtual=True, key=key)
    assert bits(stack.weights[0]) == bits(expected)
    # Unit vectors are mapped to the rows of the weights that the kernels generate: sums of one element and zeros.
    assert np.array_equal(stack.forward(np.eye(shape[0], dtype=dtype)), expected)


@pytest.mark.parametrize(("initializer", "shape"), INDEPENDENT, ids=lambda value: "" if isinstance(value, tuple) else repr(value))
def test_the_law_has_the_stated_moments(initializer, shape):
    name, parameters = initializer.law(shape)
    low, high = initializer.bounds(shape)
    if name == "uniform":
        assert parameters == pytest.approx((low, high))
        assert initializer.variance(shape) == pytest.approx((high - low) ** 2 / 12)
        assert initializer._mean(shape) == pytest.approx((low + high) / 2)
    elif name == "normal":
        assert initializer._mean(shape) == pytest.approx(parameters[0])
        assert initializer.variance(shape) == pytest.approx(parameters[1] ** 2)
    else:
        mean, std, *cut = parameters
        assert (low, high) == pytest.approx(tuple(mean + std * bound for bound in cut))


@pytest.mark.parametrize(
    "initializer", ["orthogonal", "identity", "zeros", Times("orthogonal", 2.0), PerGate(("he_normal",))], ids=repr
)
def test_virtual_stacks_refuse_initializers_without_a_law(initializer):
    assert fastinit.get(initializer).law((4, 4)) is None
    with pytest.raises(ValueError, match="weights: expected an initializer that draws its elements independently"):
        Stack((4, 4), "linear", weights=initializer, virtual=True, key=Key(0))


def test_a_law_is_a_value():
    law = Times(RandomUniform(1.0, 2.0), -0.5).law((3,))
    assert law == Law("uniform", (-1.0, -0.5))
    assert repr(law) == "Law(name='uniform', parameters=(-1.0, -0.5))"
    assert {law: 1}[Law("uniform", (-1.0, -0.5))] == 1
    with pytest.raises(AttributeError):
        law.name = "normal"
    assert Times(TruncatedNormal(1.0, 0.5, -1.0, 2.0), -2.0).law((3,)) == Law("truncated_normal", (-2.0, 1.0, -2.0, 1.0))
    assert Times(RandomUniform(), 5e-324).law((3,)) == Law("normal", (0.0, 0.0))  # both bounds underflow to 0
    assert HeNormal().law((8, 2)) == Law("normal", (0.0, 0.5))
    assert Orthogonal().law((8, 2)) is None
    with pytest.raises(ValueError, match="shape: expected sizes >= 0"):
        HeNormal().law((8, -2))
    with pytest.raises(ValueError, match="at least two axes"):
        HeNormal().law((8,))
