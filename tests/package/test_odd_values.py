# SPDX-License-Identifier: BSD-3-Clause
"""Every odd value for every argument of sampling, initializers, fans, gains, theory and residual policies.

A call works without a warning, or raises an error that says what was expected and what it got."""

import dataclasses
import inspect
import warnings

import numpy as np
import pytest
from catalogue_cases import CASES
from odd_values import ODD

import fastinit
from fastinit import Key, gains, residual, theory

KEY = Key(1)


def refusal(error):
    """Whether an error is one that the library may raise, with "expected ..., got ..."; or a MemoryError of NumPy."""
    if type(error) is MemoryError:
        return True
    ours = type(error) in (ValueError, TypeError, IndexError) and "expected" in str(error) and "got" in str(error)
    # The one error of Python that is allowed is a missing argument.
    missing = type(error) is TypeError and "required positional argument" in str(error)
    return missing or (ours and len(str(error)) < 2000)


def complaint(call):
    """What is wrong with the error or warning of a call, None if nothing is."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            call()
        except Exception as error:  # any error is judged
            return None if refusal(error) else f"{type(error).__name__}: {error}"[:300]
    return None


def complaints(calls):
    """The calls, by name, that neither work nor raise an allowed error."""
    found = {name: complaint(call) for name, call in calls.items()}
    return {name: what for name, what in found.items() if what is not None}


def with_each(function, good):
    """Calls of a function in which one argument at a time is replaced by each odd value."""
    calls = {"good arguments": lambda: function(**good)}
    for argument in good:
        for name, value in ODD.items():
            calls[f"{argument} = {name}"] = lambda argument=argument, value=value: function(**{**good, argument: value})
    return calls


def used(made, shape):
    """Use the options of an initializer that was made without an error."""
    for ask in (made.variance, made.bounds, made._mean, made.law):
        ask(shape)
    made(shape, "float64", key=KEY)
    assert made == made
    assert hash(made) == hash(made)
    assert eval(repr(made), {**vars(fastinit), "array": np.array}) == made


FOREIGN = ("class", "class with options", "Key", "initializer")  # the errors of these are those of the callable itself
ONE_OF_EACH = list({type(one): (one, shape) for one, shape in reversed(CASES)}.values())
NAMES = [type(one).__name__ for one, _ in ONE_OF_EACH]
# One initializer of every kind of implementation.
WAYS = {
    "law": (fastinit.HeNormal(), (6, 4)), "narrow law": (fastinit.TruncatedNormal(), (6, 4)),
    "scaled": (fastinit.Times("glorot_uniform", 0.5), (6, 4)), "mapped": (fastinit.LogUniform(), (6, 4)),
    "matrix": (fastinit.Orthogonal(), (6, 4)), "blocks": (fastinit.PerGate(("zeros", "he_normal")), (6, 4)),
    "copies": (fastinit.Icnr(), (3, 3, 2, 8)), "fixed": (fastinit.Constant(0.5), (6, 4)),
    "sparse": (fastinit.Sparse(2), (6, 4)), "function": (fastinit.get(lambda shape, dtype: np.zeros(shape)), (6, 4)),
}  # fmt: skip


@pytest.mark.parametrize(("one", "shape"), ONE_OF_EACH, ids=NAMES)
def test_options(one, shape):
    small = tuple(min(n, 36) for n in shape) if len(shape) < 3 else shape
    options = {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}
    assert not complaints(with_each(lambda **options: used(type(one)(**options), small), options))
    assert not complaints(with_each(type(one).from_config, {"config": options}))


@pytest.mark.parametrize(("one", "shape"), ONE_OF_EACH, ids=NAMES)
def test_shapes(one, shape):
    for method in ("variance", "bounds", "_mean", "law", "multiplier", "learning_rate_multiplier"):
        if hasattr(one, method):
            assert not complaints(with_each(getattr(one, method), {"shape": shape}))


@pytest.mark.parametrize("way", WAYS)
def test_calls_and_shards(way):
    one, shape = WAYS[way]
    call = {"shape": shape, "dtype": "float32", "key": KEY, "out": None}
    assert not complaints(with_each(one, call))
    assert not complaints(with_each(one.shard, {**call, "index": ...}))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "complex64", "float8_e4m3fn"])
@pytest.mark.parametrize("sampler", [fastinit.uniform, fastinit.normal, fastinit.truncated_normal])
def test_samplers(sampler, dtype):
    options = {name: one.default for name, one in inspect.signature(sampler).parameters.items()}
    assert not complaints(with_each(sampler, {**options, "shape": (2, 3), "key": KEY, "dtype": dtype}))


def test_many_at_once():
    good = (np.zeros((2, 3), "float32"), "he_normal", KEY)
    assert not complaints(with_each(fastinit.fill_many, {"jobs": [good]}))
    assert not complaints(with_each(lambda entry: fastinit.fill_many([entry]), {"entry": good}))
    job = dict(zip(("out", "initializer", "key"), good, strict=True))
    assert not complaints(with_each(lambda out, initializer, key: fastinit.fill_many([(out, initializer, key)]), job))


def test_initializers_by_name():
    assert not complaints(with_each(fastinit.get, {"identifier": "he_normal"}))
    assert not complaints(with_each(lambda name: fastinit.get({"class_name": name}), {"name": "HeNormal"}))
    assert not complaints(with_each(lambda config: fastinit.get({"class_name": "Constant", "config": config}), {"config": {}}))
    options = {"initializer": "he_normal", "factor": 2}
    assert not complaints(with_each(lambda **options: fastinit.get({"class_name": "Times", "config": options}), options))


def test_keys_and_threads():
    assert not complaints(with_each(Key, {"seed": 1, "stream": 2}))
    assert not complaints(with_each(lambda name: KEY / name, {"name": "w"}))
    before = fastinit.get_num_threads()
    try:
        assert not complaints(with_each(fastinit.set_num_threads, {"n": 1}))
        assert not complaints(with_each(lambda n: fastinit.num_threads(n).__enter__(), {"n": 1}))
    finally:
        fastinit.set_num_threads(before)


def test_fans():
    fans = fastinit.compute_fans
    assert not complaints(with_each(fans, {"shape": (4, 4), "fans": None}))
    assert not complaints(with_each(fans, {"shape": (4, 4, 3, 2), "layout": "oi", "kind": "conv", "groups": 1}))
    assert not complaints(with_each(fans, {"shape": (4, 4, 3, 2), "in_axes": 1, "out_axes": (0,), "batch_axes": 2}))


def test_low_rank_scaling_and_gains():
    for stabilized in (False, True):
        assert not complaints(with_each(fastinit.lora_scaling, {"alpha": 16, "rank": 4, "rank_stabilized": stabilized}))
    assert not complaints(with_each(gains.calculate_gain, {"nonlinearity": "leaky_relu", "param": 0.1}))
    for gain in (gains.preactivation_gain, gains.activation_gain, gains.gradient_gain):
        calls = with_each(gain, {"activation": "relu"})
        for foreign in FOREIGN:
            calls.pop(f"activation = object {foreign}")
        assert not complaints(calls)


@pytest.mark.parametrize("name", residual.__all__)
def test_residual_policies(name):
    policy = getattr(residual, name)
    options = {name: 4 if one.default is one.empty else one.default for name, one in inspect.signature(policy).parameters.items()}
    assert not complaints(with_each(policy, options))
    made = policy(**options)
    for one in made if isinstance(made, tuple) else (made,):
        assert not complaints(with_each(one.initializer, {"base": "he_normal", "last": False}))


THEORY = {
    "activation": "tanh", "q": 1.0, "weight_variance": 1.5, "bias_variance": 0.1, "c": 0.5, "start": 1.0, "keep": 1.0, "depth": 3,
    "width": 10, "batch": 2, "orthogonal": False, "tolerance": 1e-6, "weight_variances": [1.5], "bias_variances": [0.1],
    "after_activation": True, "blocks": 2, "alpha": 0.5, "branch_layers": 2, "linear_end": False, "second_moment_of_input": 1.0,
    "mean_of_input": 0.0, "stack": fastinit.Stack((2, 2), "tanh", weights=[np.eye(2)]), "x": np.ones(2),
    "kernel": np.eye(2),
}  # fmt: skip
IN_TWO_DIMENSIONS = {"correlation_map", "correlation_slope", "fixed_correlation", "length_scale", "trainable_depth"}
WIDE = ("q = ", "weight_variance = ", "bias_variance = ")
SLOW = ("1e200", "1e308", "2**2000")  # these take seconds each
CALLS = [
    (name, activation)
    for name in theory.__all__
    for activation in ("tanh", "relu", "sin", "softplus")
    if name != "expectation" and not isinstance(getattr(theory, name), type)
    if activation == "tanh" or name not in IN_TWO_DIMENSIONS
]


@pytest.mark.parametrize(("name", "activation"), CALLS)
def test_theory(name, activation):
    function = getattr(theory, name)
    good = {argument: THEORY[argument] for argument in inspect.signature(function).parameters}
    if "activation" in good:
        good["activation"] = activation
    if name == "fixed_correlation":
        good["q"] = theory.fixed_point(activation, 1.5, 0.1)
    calls = with_each(function, good)
    for foreign in FOREIGN:
        calls.pop(f"activation = object {foreign}", None)
    if "kernel" in name and "x" in good:
        calls["x"] = lambda: function(**{**good, "x": np.eye(2)})
    if name in IN_TWO_DIMENSIONS:
        calls = {call: made for call, made in calls.items() if not (call.startswith(WIDE) and call.endswith(SLOW))}
    assert not complaints(calls)


def test_expectations():
    calls = with_each(theory.expectation, {"f": np.cos, "variance": 1.0})
    for foreign in FOREIGN[:3]:
        calls.pop(f"f = object {foreign}")
    assert not complaints(calls)


def test_activations():
    options = {"function": np.tanh, "derivative": None, "kinks": (0.0,)}
    calls = with_each(lambda **options: theory.chi_1(theory.Activation(**options), 1.0, 1.0), options)
    for foreign in FOREIGN:
        calls.pop(f"function = object {foreign}")
        calls.pop(f"derivative = object {foreign}")
    assert not complaints(calls)
    assert not complaints(with_each(theory.Activation(np.tanh), {"z": 1.0}))
    assert not complaints(with_each(theory.Activation(np.tanh).slope, {"z": 1.0}))


# ---- the words of single errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: fastinit.Icnr(["zeros", "ones"], 2), TypeError,
         r"initializer: expected one initializer, got \['zeros', 'ones'\]"),
        (lambda: fastinit.GlorotNormal(gain=1e308), ValueError,
         r"gain: expected 0 or a number of magnitude 1e-150 to 1e150, got 1e\+308"),
        (lambda: fastinit.GlorotUniform(gain=1e-200), ValueError, "gain: expected 0 or a number of magnitude"),
        (lambda: fastinit.SirenHidden(1e-200), ValueError, "omega: expected 0 or a number of magnitude"),
        (lambda: fastinit.lora_scaling(2**2000, 3), ValueError,
         "alpha: expected a finite number, got an int beyond float64"),
        (lambda: fastinit.lora_scaling(3, 2**2000), ValueError, r"rank: expected an int < 2\*\*63, got"),
        (lambda: fastinit.lora_scaling(3, 4, rank_stabilized="no"), TypeError,
         "rank_stabilized: expected a bool, got str 'no'"),
        (lambda: theory.critical_pair(3, 3.0), TypeError, "activation: expected a str or a function, got int 3"),
        (lambda: theory.fixed_point(10**5000, 3.0), TypeError, "activation: expected a str or a function, got int an int"),
        (lambda: theory.expectation(3), TypeError, "f: expected a function of an array, got int 3"),
        (lambda: theory.expectation(lambda z: z[:3]), ValueError, "f: expected an elementwise function"),
        (lambda: theory.variance_map("relu", np.timedelta64(3), 1), TypeError, "q: expected a real number, got timedelta64"),
        (lambda: fastinit.HeNormal()((2, 2), "\ud800"), ValueError, r"dtype: expected one of float32.* got '\\ud800'"),
        (lambda: fastinit.HeNormal()((2, 2), {"names": 3}), TypeError, "dtype: expected one of float32.* got {'names': 3}"),
        (lambda: fastinit.get({"class_name": "HeNormal", "config": 3}), TypeError,
         "config: expected a dict of options of HeNormal, .*; got int 3"),
        (lambda: fastinit.get({"class_name": "Ones", "config": {"a": 1}}), TypeError, "options of Ones, seed; got {'a': 1}"),
        (lambda: fastinit.fill_many(None), TypeError,
         r"jobs: expected an iterable of \(out, initializer, key\), got NoneType"),
        (lambda: fastinit.Zeros()((0, 2**100)), ValueError,
         r"shape: expected at most 2\*\*58 elements, got 1267650600228229401496703205376 in"),
        (lambda: fastinit.HeNormal().shard((0, 2**62), ...), ValueError, r"shape: expected at most 2\*\*58 elements"),
        (lambda: fastinit.uniform((10**5000, 0), key=KEY), ValueError,
         "elements, got an int of 16610 bits in a tuple without a repr"),
        (lambda: fastinit.Zeros().shard((3,), slice(None, None, 0)), ValueError,
         "index: expected slices of ints with a step other than 0"),
        (lambda: fastinit.HeNormal(fans={3, 4}), TypeError, "fans: expected a FanRule or two ints"),
        (lambda: fastinit.HeNormal(fans=(3, 2**63)), ValueError, r"fans: expected two ints >= 1 and < 2\*\*63"),
        (lambda: fastinit.FanRule(batch_axes=None), TypeError,
         "batch_axes: expected an int or a sequence of ints, got None"),
        (lambda: fastinit.ResidualNormal(2**2000), ValueError, r"layers: expected an int < 2\*\*63"),
        (lambda: residual.fixup(2**2000), ValueError, r"branches: expected an int < 2\*\*63"),
        (lambda: residual.ResidualPolicy(weights="a"), TypeError, "weights: expected a real number, got str 'a'"),
        (lambda: fastinit.Key("x" * 10**6), TypeError, r"seed: expected an int in \[0, 2\*\*64\), got str 'x{159}\.\.\.$"),
    ],
)  # fmt: skip
def test_errors_name_what_was_expected_and_what_came(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_only_variances_beyond_float64_are_infinite():
    """A representable product of representable numbers does not overflow or underflow in between."""
    assert fastinit.RandomNormal(0.0, 1e200).variance((3,)) == np.inf
    assert fastinit.RandomNormal(0.0, 1e150).variance((3,)) == pytest.approx(1e300, rel=1e-12)
    assert fastinit.Times(fastinit.RandomNormal(0.0, 1e-200), 1e200).variance((3,)) == 0  # that of the inner one is 0
    assert fastinit.Times("zeros", 1e200).variance((3,)) == 0
    assert fastinit.Identity(1e308).variance((30, 20)) == np.inf
    assert fastinit.Identity(1e308)._mean((30, 20)) == pytest.approx(1e308 / 30, rel=1e-12)
    assert fastinit.Constant([1e150, -1e150]).variance((2,)) == pytest.approx(1e300, rel=1e-12)
    halves = fastinit.PerGate((fastinit.Constant(1e150), fastinit.Constant(-1e150)))
    assert halves.variance((4,)) == pytest.approx(1e300, rel=1e-12)
    assert theory.variance_map("relu", 1.5e308, 1.0) == pytest.approx(7.5e307, rel=1e-12)
    assert theory.stability("relu", 1.5e308, 2.0) == pytest.approx(1, rel=1e-12)
    assert theory.stability("relu", 1e-300, 2.0) == pytest.approx(1, rel=1e-12)


def test_values_at_the_limits_of_an_option():
    assert fastinit.PriorBias(5e-324)((1,), "float64")[0] == pytest.approx(np.log(5e-324), rel=1e-15)
    wide = fastinit.MambaDtBias(1.0, 1e300)((100,), "float64", key=KEY)
    u = fastinit.uniform((100,), key=KEY, dtype="float64")
    far = wide > 40  # where softplus is the identity
    np.testing.assert_allclose(np.log(wide[far]), u[far] * np.log(1e300), rtol=1e-12)
    assert fastinit.Hadamard()((0, 1)).shape == (0, 1)
    assert fastinit.Hadamard()((1, 0)).shape == (1, 0)
