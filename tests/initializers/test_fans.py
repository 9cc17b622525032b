"""Fans, against a table that was worked out by hand."""

import math
import pickle

import numpy as np
import pytest

from fastinit import FanRule, Fans, HeNormal, Key, compute_fans

# (shape, options, fan_in, fan_out): inputs of one output unit, output units that one input reaches.
TABLE = [
    # Dense, both orientations.
    ((784, 256), {}, 784, 256),
    ((256, 784), {"layout": "oi"}, 784, 256),
    ((784, 256), {"kind": "dense"}, 784, 256),
    ((0, 7), {}, 0, 7),
    # Convolutions of rank 1, 2, 3, without a field, and in both orientations: 16 to 32 channels.
    ((5, 16, 32), {}, 80, 160),
    ((3, 3, 16, 32), {}, 144, 288),
    ((2, 3, 4, 16, 32), {"kind": "conv"}, 384, 768),
    ((16, 32), {"kind": "conv"}, 16, 32),
    ((32, 16, 5), {"layout": "oi"}, 80, 160),
    ((32, 16, 3, 3), {"layout": "oi"}, 144, 288),
    ((32, 16, 2, 3, 4), {"layout": "oi", "kind": "conv"}, 384, 768),
    # Grouped: 16 to 32 channels in 4 groups, so 4 inputs to 8 outputs in each.
    ((3, 3, 4, 32), {"groups": 4}, 36, 72),
    ((32, 4, 3, 3), {"layout": "oi", "groups": 4}, 36, 72),
    # Transposed, 16 to 64 channels.
    ((3, 3, 64, 16), {"kind": "transposed"}, 144, 576),
    ((16, 64, 3, 3), {"kind": "transposed", "layout": "oi"}, 144, 576),
    ((16, 16, 3, 3), {"kind": "transposed", "layout": "oi", "groups": 4}, 36, 144),
    # Depthwise, 16 channels, each to 2.
    ((3, 3, 16, 2), {"kind": "depthwise"}, 9, 18),
    ((3, 3, 16, 2), {"kind": "depthwise", "groups": 16}, 9, 18),
    ((32, 1, 3, 3), {"kind": "depthwise", "layout": "oi", "groups": 16}, 9, 18),
    ((16, 1, 5), {"kind": "depthwise", "layout": "oi", "groups": 16}, 5, 5),
    ((3, 3, 1, 32), {"groups": 16}, 9, 18),
    # Attention: 512 features to 8 heads of 64, and back.
    ((512, 8, 64), {"in_axes": 0, "out_axes": (1, 2)}, 512, 512),
    ((8, 64, 512), {"in_axes": (0, 1), "out_axes": -1}, 512, 512),
    ((3, 512, 8, 64), {"in_axes": [1], "out_axes": [2, 3], "batch_axes": [0]}, 512, 512),
    # All other axes are the receptive field.
    ((7, 10, 3, 20), {"in_axes": 1, "out_axes": 3}, 210, 420),
    # Stacked experts and layers.
    ((8, 64, 32), {"batch_axes": 0}, 64, 32),
    ((8, 64, 32), {"batch_axes": (0,), "kind": "dense"}, 64, 32),
    ((2, 8, 64, 32), {"batch_axes": (0, 1), "layout": "oi"}, 32, 64),
    ((3, 3, 16, 32, 4), {"batch_axes": -1}, 144, 288),
    # An embedding reads one row, in either order of axes.
    ((50_000, 512), {"kind": "embedding"}, 1, 512),
    ((50_000, 512), {"kind": "embedding", "layout": "oi"}, 1, 512),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "options", "fan_in", "fan_out"), TABLE)
def test_fans_of_the_table(shape, options, fan_in, fan_out):
    assert compute_fans(shape, **options) == Fans(fan_in, fan_out)
    rule = FanRule(**options)
    assert compute_fans(shape, rule) == (fan_in, fan_out)
    assert pickle.loads(pickle.dumps(rule)) == rule == eval(repr(rule))
    assert hash(rule) == hash(eval(repr(rule)))


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((), {}, "at least two axes"),
        (10, {}, r"fans=\(fan_in, fan_out\)"),
        ((8, 10), {"batch_axes": 0}, "at least two axes"),
        ((8, 64, 32), {"kind": "dense"}, "give in_axes and out_axes, or batch_axes"),
        ((8, 64, 32), {"kind": "embedding"}, "expected two axes"),
        ((32, 1, 3, 3), {"kind": "depthwise", "layout": "oi"}, "groups: expected the number of input channels"),
        ((32, 2, 3, 3), {"kind": "depthwise", "layout": "oi", "groups": 16}, "one input channel per group"),
        ((3, 3, 16, 2), {"kind": "depthwise", "groups": 8}, "expected 1 or the 16 input channels"),
        ((3, 3, 4, 30), {"groups": 4}, "groups: expected a divisor of the 30 channels"),
        ((3, 4), {"in_axes": 0, "out_axes": 2}, r"out_axes: expected axes of shape \(3, 4\), got 2"),
        ((3, 4), {"in_axes": 0, "out_axes": -2}, "every axis at most once"),
        ((3, 4, 5), {"in_axes": 0, "out_axes": 1, "batch_axes": 0}, "every axis at most once"),
    ],
)
def test_fans_that_cannot_be_known_name_the_argument(shape, options, words):
    with pytest.raises(ValueError, match=words):
        compute_fans(shape, **options)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"layout": "hwio"}, ValueError, "layout: expected one of io, oi"),
        ({"kind": "linear"}, ValueError, "kind: expected one of dense"),
        ({"groups": 0}, ValueError, "groups: expected an int >= 1"),
        ({"groups": 2.0}, TypeError, "groups: expected an int"),
        ({"groups": 2, "kind": "dense"}, ValueError, "groups: expected 1 for kind 'dense'"),
        ({"in_axes": 0}, ValueError, "expected both or neither"),
        ({"in_axes": 0, "out_axes": 1, "kind": "conv"}, ValueError, "neither kind nor groups"),
        ({"batch_axes": "0"}, TypeError, "batch_axes: expected an int or a sequence"),
        ({"batch_axes": True}, TypeError, "batch_axes: expected an int or a sequence"),
    ],
)
def test_rules_are_checked_at_construction(options, error, words):
    with pytest.raises(error, match=words):
        FanRule(**options)


def test_initializers_take_a_rule_or_the_fans():
    experts = HeNormal(fans=FanRule(batch_axes=0))
    assert experts.variance((8, 64, 32)) == pytest.approx(2 / 64)
    assert experts.variance((8, 64, 32)) == HeNormal().variance((64, 32))
    assert HeNormal().variance((8, 64, 32)) == pytest.approx(2 / 512)  # a convolution of width 8
    assert HeNormal(fans=(50, 70)).variance((70,)) == pytest.approx(2 / 50)
    assert experts == HeNormal(fans={"batch_axes": [0]})
    shape = (8, 64, 32)
    assert np.array_equal(
        experts.shard(shape, np.s_[3:5, ::2], key=Key(0)), experts(shape, key=Key(0))[3:5, ::2]
    )
    z = experts((8, 64, 320), "float64", key=Key(1))
    # Mean square within five standard errors: sqrt(2 / n) of it.
    assert abs(np.mean(z**2) * 32 - 1) < 5 * math.sqrt(2 / z.size)


@pytest.mark.parametrize(
    ("fans", "error", "words"),
    [
        ("oi", TypeError, "fans: expected a FanRule or two ints"),
        ((3,), TypeError, "fans: expected a FanRule or two ints"),
        ((3, 0), ValueError, "fans: expected two ints >= 1"),
        ({"layouts": "oi"}, TypeError, "layouts"),
    ],
)
def test_fans_of_an_initializer_are_checked(fans, error, words):
    with pytest.raises(error, match=words):
        HeNormal(fans=fans)
    with pytest.raises(TypeError, match="either fans or options"):
        compute_fans((2, 3), (2, 3), layout="oi")
