"""Residual policies and gains, against the formulas of the papers and independent quadrature."""

import math

import numpy as np
import pytest

from fastinit import GlorotNormal, HeNormal, Key, Times, Zeros, gains, residual
from fastinit.residual import ResidualPolicy


def test_factors_of_the_policies():
    fixup = residual.fixup(16, 3)
    assert fixup.weights == pytest.approx(16 ** (-1 / 4), rel=1e-15)
    assert (fixup.last, fixup.trained, fixup.gate) == (0.0, True, 1.0)
    assert residual.fixup(9).weights == pytest.approx(1 / 3, rel=1e-15)
    assert residual.t_fixup(6).weights == pytest.approx(0.67 * 6**-0.25, rel=1e-15)
    assert residual.t_fixup(6, decoder=True).last == pytest.approx((9 * 6) ** -0.25, rel=1e-15)
    alone = residual.deepnorm_encoder(100)
    assert (alone.skip, alone.weights) == (pytest.approx(200**0.25), pytest.approx(800**-0.25))
    encoder, decoder = residual.deepnorm_encoder_decoder(12, 6)
    assert encoder.skip == pytest.approx(0.81 * (12**4 * 6) ** (1 / 16), rel=1e-14)
    assert encoder.weights == pytest.approx(0.87 * (12**4 * 6) ** (-1 / 16), rel=1e-14)
    assert decoder.skip == pytest.approx(18**0.25, rel=1e-15)
    assert decoder.last == pytest.approx(72**-0.25, rel=1e-15)
    assert residual.gpt2(12) == ResidualPolicy(last=1 / math.sqrt(24))
    assert [residual.layer_scale(n).gate for n in (1, 18, 19, 24, 25)] == [0.1, 0.1, 1e-5, 1e-5, 1e-6]
    assert residual.rezero().gate == residual.skip_init().gate == 0
    assert residual.zero_last().last == 0
    assert residual.depth_mup(64).gate == 1 / 8
    assert residual.complete_p(64).gate == 1 / 64


def test_policies_make_initializers():
    policy = residual.fixup(16)
    assert policy.initializer("he_normal") == Times(HeNormal(), 0.25)
    assert policy.initializer("he_normal", last=True) == Zeros()
    assert residual.rezero().initializer("glorot_normal") == GlorotNormal()


def test_the_sum_of_gpt2s_branches_keeps_one_branchs_variance():
    layers = 18
    last = residual.gpt2(layers).initializer("lecun_normal", last=True)
    total = sum(last((64, 4000), "float64", key=Key(0) / i).var() for i in range(2 * layers))
    assert total * 64 == pytest.approx(1, rel=5 * math.sqrt(2 / (64 * 4000 * 2 * layers)))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: residual.fixup(0), ValueError, "branches: expected an int >= 1"),
        (lambda: residual.fixup(3, 1), ValueError, "layers: expected an int >= 2"),
        (lambda: residual.layer_scale(1.5), TypeError, "layers: expected an int"),
        (lambda: residual.depth_mup(True), TypeError, "branches: expected an int"),
    ],
)
def test_depths_out_of_range_are_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_the_table_of_gains():
    names = ["linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "sigmoid"]
    assert [gains.calculate_gain(name) for name in names] == [1] * 8
    assert gains.calculate_gain("tanh") == 5 / 3
    assert gains.calculate_gain("relu") == math.sqrt(2)
    assert gains.calculate_gain("selu") == 0.75
    assert gains.calculate_gain("leaky_relu") == pytest.approx(math.sqrt(2 / 1.0001))
    assert gains.calculate_gain("leaky_relu", 0.2) == pytest.approx(math.sqrt(2 / 1.04))
    with pytest.raises(ValueError, match="nonlinearity: expected one of linear"):
        gains.calculate_gain("gelu")
    with pytest.raises(TypeError, match="param: expected a real number"):
        gains.calculate_gain("leaky_relu", "a")


def test_gains_by_quadrature():
    assert gains.preactivation_gain("relu") == pytest.approx(math.sqrt(2), rel=1e-12)
    assert gains.activation_gain("relu") == pytest.approx(math.sqrt(2), rel=1e-12)
    assert gains.gradient_gain("relu") == pytest.approx(math.sqrt(2), rel=1e-12)
    assert gains.preactivation_gain("tanh") == pytest.approx(0.3942944904**-0.5, rel=1e-9)
    assert gains.gradient_gain("tanh") == pytest.approx(1.46741359, rel=1e-8)
    assert gains.gradient_gain("sigmoid") == pytest.approx(4.72264609, rel=1e-8)
    assert gains.preactivation_gain("sigmoid") == pytest.approx(0.2933790359**-0.5, rel=1e-9)
    assert gains.activation_gain("linear") == pytest.approx(1, rel=1e-12)
    with pytest.raises(ValueError, match="reaches a mean square of 1"):
        gains.activation_gain("tanh")
    with pytest.raises(ValueError, match="activation: expected one of"):
        gains.preactivation_gain("nothing")
    # He's gain keeps the mean square of a wide ReLU layer, to five standard errors.
    z = np.random.default_rng(0).standard_normal(400_000)
    kept = (gains.preactivation_gain("relu") * np.maximum(z, 0)) ** 2
    assert abs(kept.mean() - 1) < 5 * kept.std() / math.sqrt(z.size)
