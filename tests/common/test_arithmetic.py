# SPDX-License-Identifier: BSD-3-Clause
"""What Python and NumPy compute around the kernels has the same bits in every rounding mode and under flush-to-zero.

The kernels themselves are tested in test_environment.py.
"""

import functools
import inspect
import math
import pickle
import warnings

import numpy as np
import pytest
from all_initializers import ALL, DTYPES, bits, named, small

import fastinit
from fastinit import Key, Stack, _core, gains, residual, theory
from fastinit._common.arithmetic import ieee
from fastinit.initializers import activation as of_activation

KEY = Key(5) / "w"
# Made at import, in the ordinary mode: flush-to-zero would make zeros of them.
TINY_F4 = np.float32(1e-40)
BATCH = np.array([[1e-40, 1.0, 3e-39], [2.0, 1e-310, -1e-40], [1.0, 1.0, 1.0]])
BATCHES = (BATCH, BATCH.astype("f4"))
TINY_BATCHES = (*BATCHES, BATCH.astype("f4") * np.float32(3e-39))
NARROW, WIDER = np.full((3, 3), TINY_F4), np.full((3, 3), 1e-40)
LISTED = [np.full((3, 7), TINY_F4), np.full((7, 2), 3e-39)]
POINTS = np.linspace(-1e-40, 3, 9, dtype="f4")
SMALL_ARRAY = np.array([1e-40, 3e-39, 1.0], "f4")


def tiny(shape, dtype):
    return np.full(shape, 1e-40, "f4")


# Numbers that are subnormal in a dtype, as options and as elements.
TINY = [
    (lambda: fastinit.Constant(1e-40), (5,)),
    (lambda: fastinit.Constant(TINY_F4), (5,)),
    (lambda: fastinit.Constant(SMALL_ARRAY), (3,)),
    (lambda: fastinit.Constant([1e-40, 1e-310]), (2,)),
    (lambda: fastinit.Identity(1e-40), (4, 4)),
    (lambda: fastinit.Identity(TINY_F4), (4, 4)),
    (lambda: fastinit.Dirac(1e-40), (3, 4, 4)),
    (lambda: fastinit.Bilinear(1e-39, 4), (4, 4, 1, 4)),
    (lambda: fastinit.ForgetGateBias(1e-40), (8,)),
    (lambda: fastinit.Orthogonal(1e-39), (8, 8)),
    (lambda: fastinit.DeltaOrthogonal(1e-39), (3, 8, 8)),
    (lambda: fastinit.Times("orthogonal", 1e-39), (8, 8)),
    (lambda: fastinit.Times("ones", TINY_F4), (8,)),
    (lambda: fastinit.Times("he_normal", 1e-38), (8, 8)),
    (lambda: fastinit.Times("he_normal", 1e-308), (8, 8)),
    (lambda: fastinit.Times(fastinit.LogUniform(), 1e-39), (8,)),
    (lambda: fastinit.PerGate((fastinit.Constant(1e-40), fastinit.Constant(1e-310))), (8,)),
    (lambda: fastinit.RandomNormal(1e-40, 1e-41), (9,)),
    (lambda: fastinit.RandomNormal(TINY_F4, TINY_F4), (9,)),
    (lambda: fastinit.RandomUniform(0, 1e-310), (9,)),
    (lambda: fastinit.TruncatedNormal(0, 1e-40), (9,)),
    (lambda: fastinit.TruncatedNormal(0, 1e-40, corrected=True), (9,)),
    (lambda: fastinit.GlorotUniform(gain=1e-39), (8, 8)),
    (lambda: fastinit.get(tiny), (5,)),
]  # fmt: skip


def clear_caches():
    """So that cached values are computed again in the mode under test."""
    caches = [of_activation._gain, of_activation._critical_weight_variance]
    caches += [f for f in vars(theory).values() if hasattr(f, "cache_clear")]
    for cache in caches:
        cache.cache_clear()


def outcome(function, *arguments, **options):
    """Bytes of the result, or the error."""
    try:
        found = function(*arguments, **options)
    except (ValueError, TypeError) as error:
        return str(error)
    return bits(found) if isinstance(found, np.ndarray) else np.array(found, dtype=np.float64).tobytes()


def results_of(make, shape, dtype):
    """Bytes of everything that an initializer, constructed here, returns for a shape."""
    one = make()
    found = [outcome(one, shape, dtype, key=KEY), outcome(one.shard, shape, np.s_[1:3], key=KEY, dtype=dtype)]
    out = np.zeros(shape, named(dtype))
    if not isinstance(found[0], str):
        fastinit.fill_many([(out, one, KEY)])
        found.append(bits(out))
    if dtype == "float64":
        law = one.law(shape)
        found += [outcome(one.variance, shape), outcome(one.bounds, shape), law and outcome(lambda: law.times(0.7).parameters)]
        found += [outcome(one.multiplier, shape)] if isinstance(one, fastinit.UnitScaling) else []
        found += [outcome(one.learning_rate_multiplier, shape)] if isinstance(one, fastinit.MuP) else []
        found += [outcome(one.biases, shape, key=KEY)] if isinstance(one, fastinit.CriticalNormal) else []
    return found


def constructor_of(initializer):
    """A function that constructs the initializer again from its options."""
    return functools.partial(type(initializer).from_config, initializer.get_config())


WALK = [(constructor_of(one), small(shape)) for one, shape in ALL] + TINY


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_initializer_has_the_same_bits_in_every_mode(mode, dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a number without a variance
        expected = [results_of(make, shape, dtype) for make, shape in WALK]
        clear_caches()
        with mode():
            found = [results_of(make, shape, dtype) for make, shape in WALK]
    wrong = [make() for (make, _), a, b in zip(WALK, found, expected, strict=True) if a != b]
    assert not wrong


def test_the_tiny_numbers_are_subnormal():
    """In at least one dtype each, and not 0: if not, they would add nothing to the test above."""
    for make, shape in TINY:
        subnormal = False
        for dtype in ("float64", "float32"):
            try:
                values = np.abs(make()(shape, dtype, key=KEY))
            except ValueError:  # no number of the dtype lies between the bounds
                continue
            subnormal |= bool(((values > 0) & (values < np.finfo(dtype).tiny)).any())
        assert subnormal, make()


def test_standard_deviations_have_the_same_bits_in_every_mode(mode):
    """For most of these shapes, the square root of the quotient is rounded differently in another mode."""
    kinds = [
        fastinit.HeNormal(), fastinit.GlorotUniform(gain=0.7), fastinit.LeCunNormal(),
        fastinit.VarianceScaling(0.3, "fan_geo_avg"),
        fastinit.MuP("output", 64), fastinit.SirenHidden(), fastinit.TorchLinear(), fastinit.GainNormal("gelu"),
    ]  # fmt: skip

    def laws():
        return [kind.law((n, 3)) for kind in kinds for n in range(3, 400)]

    expected = laws()
    with mode():
        found = laws()
        plain = [math.sqrt(2 / n) for n in range(3, 400)]
    assert found == expected
    # This test can fail: unguarded computation differs, except under flush-to-zero, which leaves these numbers alone.
    assert (plain != [math.sqrt(2 / n) for n in range(3, 400)]) == ("flush" not in mode.name)


def numbers():
    """Results of theory, gains, residual policies and other functions."""
    found = []
    names = [name for name in _core.ACTIVATIONS if name not in ("linear", "sin")]
    for activation in names:
        for function in (gains.preactivation_gain, gains.gradient_gain, gains.activation_gain, theory.forward_gain):
            found.append(outcome(function, activation))
        found += [outcome(theory.function(activation), POINTS)]
        found += [outcome(theory.slope(activation), POINTS)]
        found += [outcome(theory.variance_map, activation, 0.7, 1.3, 0.1), outcome(theory.chi_1, activation, 0.7, 1.3)]
        found += [outcome(theory.stability, activation, 0.7, 1.3)]
    found += [outcome(gains.calculate_gain, name, 0.3) for name in ("leaky_relu", "tanh", "selu")]
    found += [outcome(theory.fixed_point, "tanh", 1.7, 0.05), outcome(theory.critical_pair, "tanh", 0.05)]
    found += [outcome(theory.length_scale, "relu", 0.3, 1.0, 1.9), outcome(theory.fixed_correlation, "tanh", 1.1, 2.0, 0.1)]
    found += [outcome(theory.correlation_map, "erf" if "erf" in names else "tanh", 0.3, 0.7, 1.3)]
    found += [outcome(theory.correlation_slope, "tanh", 0.3, 0.7, 1.3), outcome(theory.expectation, np.cos, 0.3)]
    found += [outcome(fastinit.lora_scaling, 0.3, r, rank_stabilized=s) for r in range(1, 40) for s in (False, True)]
    for n in range(1, 60):
        found += [vars(residual.fixup(n)), vars(residual.t_fixup(n)), vars(residual.t_fixup(n, decoder=True))]
        found += [vars(residual.deepnorm_encoder(n)), *map(vars, residual.deepnorm_encoder_decoder(n, 2 * n))]
        found += [vars(residual.gpt2(n)), vars(residual.depth_mup(n)), vars(residual.complete_p(n))]
    tiny = residual.ResidualPolicy(weights=1e-310)
    found += [vars(tiny.initializer("he_normal"))]
    found += [vars(fastinit.SGD(TINY_F4)), vars(fastinit.Adam(epsilon=TINY_F4))]
    return found


def test_theory_gains_and_policies_have_the_same_bits_in_every_mode(mode):
    expected = numbers()
    clear_caches()
    with mode():
        found = numbers()
    assert repr(found) == repr(expected)
    assert "1e-310" in repr(expected)


def samples():
    kinds = (
        (fastinit.uniform, (-1, 1)), (fastinit.normal, (0.1, 0.3)), (fastinit.truncated_normal, (0.1, 0.3, -1, 2.5)),
        (fastinit.uniform, (np.float32(0), TINY_F4)), (fastinit.normal, (0, TINY_F4)),
    )  # fmt: skip
    return [outcome(law, 50, *numbers, key=KEY, dtype=dtype) for law, numbers in kinds for dtype in DTYPES]


def test_samplers_have_the_same_bits_in_every_mode(mode):
    expected = samples()
    with mode():
        found = samples()
    assert found == expected


def stacks():
    """Weights of stacks, converted batches, losses, and a trained stack."""
    found = []
    for dtype in ("float32", "float64"):
        for options in ({}, {"virtual": True}, {"weights": LISTED}):
            stack = Stack((3, 7, 2), "tanh", **{"weights": "he_normal", **options}, key=KEY, dtype=dtype)
            found += [bits(w) for w in stack.weights]
            for batch in BATCHES:
                found += [bits(stack.forward(batch)), bits(fastinit.predict(stack, batch))]
                report = stack.propagate(batch, NARROW[:, :2])
                found += [bits(report.output), bits(report.statistics)]
        stack = Stack((3, 7, 2), "elu", weights="he_normal", key=KEY, dtype=dtype)
        history = fastinit.fit(stack, BATCH, BATCH[:, :2], loss=fastinit.mean_squared_error, epochs=3, batch_size=2)
        found += [bits(w) for w in stack.weights] + [history.loss]
        classes = fastinit.fit(stack, BATCH, np.array([0, 1, 1]), optimizer=fastinit.Adam(0.01), epochs=3, batch_size=2)
        found += [bits(w) for w in stack.weights] + [classes.loss, classes.accuracy]
    for outputs in TINY_BATCHES:
        for targets in (NARROW, WIDER):
            value, gradient = fastinit.mean_squared_error(outputs, targets)
            found += [value.hex(), bits(gradient)]
        value, gradient = fastinit.softmax_cross_entropy(outputs, np.array([0, 1, 2]))
        found += [value.hex(), bits(gradient)]
    return found


def test_stacks_and_losses_have_the_same_bits_in_every_mode(mode):
    expected = stacks()
    with mode():
        found = stacks()
    assert found == expected


# ---- the guard itself ----------------------------------------------------------------------------


def test_an_error_restores_the_mode_too(mode):
    with mode():  # which checks that the mode is unchanged at its end
        for wrong in (
            lambda: fastinit.normal(3, 0, -1, key=KEY),
            lambda: fastinit.HeNormal()((3,), key=KEY),
            lambda: fastinit.HeNormal().shard((3,), 0),
            lambda: fastinit.fill_many([3]),
            lambda: theory.variance_map("tanh", -1, 1),
        ):
            with pytest.raises((ValueError, TypeError)):
                wrong()


def test_nested_calls_restore_the_callers_mode(control):
    """Each of two nested calls restores the mode that it found."""
    _, read = control

    @ieee
    def inner():
        return read()

    @ieee
    def outer():
        before = read()
        return before, inner(), read()

    before = read()
    first, second, third = outer()
    assert (first & ~0x3F) == (second & ~0x3F) == (third & ~0x3F)
    assert read() == before


def test_decorated_functions_keep_their_metadata():
    """Names, signatures, docstrings and pickles."""
    assert pickle.loads(pickle.dumps(theory.chi_1)) is theory.chi_1
    assert list(inspect.signature(residual.t_fixup).parameters) == ["layers", "decoder"]
    assert fastinit.fit.__doc__.startswith("Train a stack")


def test_an_initializer_that_a_user_defines_is_decorated(mode):
    class Third(fastinit.Initializer):
        def _law(self, shape):
            return fastinit.HeNormal()._law(shape)

        def variance(self, shape):
            return 1 / 3

        def bounds(self, shape):
            return -math.sqrt(1 / 7), math.sqrt(1 / 7)

    def said():
        return [Third()((9, n), "float64", key=KEY).tobytes() for n in range(3, 40)] + [Third().bounds((n,)) for n in range(9)]

    expected = said()
    with mode():
        assert said() == expected
