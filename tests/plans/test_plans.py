"""Plans: rules by name, parts of fused and stacked parameters, and the same bits whatever the memory looks like."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from fastinit import Key
from fastinit.initializers import ChronoBias, Constant, FanRule, HeNormal, Icnr, PerGate, RandomNormal, Sparse
from fastinit.plans import Parameter, Plan, Rule, Spelling
from fastinit.plans.fill import Target, fill, whole_box

NORMAL = RandomNormal(0.0, 0.02)
KEY = Key(3)


def filled(plan: Plan, model: Any, key: Key = KEY) -> dict[str, Any]:
    arrays, targets = {}, []
    for planned in plan.resolve(model):
        array = arrays[planned.parameter.name] = np.empty(planned.parameter.shape, planned.parameter.dtype)
        targets.append(Target(planned, array, planned.parameter.dtype, whole_box(array.shape)))
    fill(targets, key)
    return arrays


# ---- rules ------------------------------------------------------------------------------------------


def test_the_first_rule_that_matches_is_used() -> None:
    plan = Plan([Rule("head.weight", "zeros"), Rule("**.weight", "he_normal")])
    table = plan.table({"head.weight": (3, 4), "body.weight": (5, 4)})
    assert [row.law for row in table] == ["Zeros()", "normal(0, 0.707107)"]


def test_all_faults_of_a_plan_are_named_before_anything_is_drawn() -> None:
    plan = Plan([Rule("**.weight", "he_normal"), Rule("head.weight", "zeros"), Rule("**.scale", "ones")])
    with pytest.raises(ValueError, match=r"no rule matches head\.bias") as caught:
        plan.resolve({"head.weight": (3, 4), "head.bias": (3,)})
    assert "rule 1, 'head.weight', is never used: all that it matches is taken by '**.weight'" in str(caught.value)
    assert "rule 2, '**.scale', matches nothing" in str(caught.value)


def test_a_shape_that_an_initializer_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match=r"norm.weight, rule '\*\*': shape: expected at least two axes"):
        Plan([Rule("**", "he_normal")]).resolve({"norm.weight": (4,)})


@pytest.mark.parametrize(
    ("initializer", "shape"),
    [("orthogonal", (4,)), ("delta_orthogonal", (4, 4)), ("dirac", (4,)), (Sparse(sparsity=0.5), (4,)), ("identity", ()),
     (Icnr("he_normal"), (3, 3, 3)), (ChronoBias(9.0), (5,)), (Constant([1.0, 2.0]), (3,)), (PerGate(["ones", "zeros"]), (3,))],
)  # fmt: skip
def test_so_is_one_of_an_initializer_without_a_law(initializer: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"w, rule '\*\*': (shape|axis): expected"):
        Plan([Rule("**", initializer)]).resolve({"w": shape})


def test_a_long_list_of_faults_is_cut() -> None:
    with pytest.raises(ValueError, match="80 more of this kind") as caught:
        Plan([Rule("**", "he_normal")]).resolve({f"{i}.bias": (4,) for i in range(100)})
    assert "0.bias" in str(caught.value)


def test_kind_and_ndim() -> None:
    plan = Plan([Rule("**.weight", "ones", kind="LayerNorm"), Rule("**", "he_normal", ndim=2), Rule("**", "zeros")])
    model = [Parameter("n.weight", (4,), kind="LayerNorm"), Parameter("l.weight", (4, 4)), Parameter("l.bias", (4,))]
    assert [row.rule for row in plan.table(model)] == ["**.weight", "**", "**"]
    assert [row.std == 0 for row in plan.table(model)] == [True, False, True]


@pytest.mark.parametrize("rest", [[], [Rule("**", "zeros")]])
def test_a_kind_that_keeps_a_rule_from_matching_is_named(rest: list[Rule]) -> None:
    with pytest.raises(ValueError, match=r"rule 0, '\*\*\.weight', matches nothing of kind='linear' and ndim=2; "
                                         r"0\.weight has kind='Linear' and ndim=2"):  # fmt: skip
        Plan([Rule("**.weight", "ones", kind="linear", ndim=2), *rest]).resolve([Parameter("0.weight", (4, 4), kind="Linear")])


def test_fans_of_a_rule_are_those_of_shapes_with_outputs_first() -> None:
    rule = Rule("**", HeNormal(), fans=FanRule(groups=2))
    (row,) = Plan([rule]).table({"conv.weight": (64, 8, 3, 3)})
    assert row.fans == (72, 288)
    assert row.std == pytest.approx((2 / 72) ** 0.5)
    with pytest.raises(ValueError, match="fans: expected an initializer whose law depends on them"):
        Rule("**", NORMAL, fans=(3, 4))


def test_a_table_has_the_models_own_names_where_they_differ() -> None:
    plan = Plan([Rule("**", "he_normal")], [Spelling("h.*.qkv", ("layers.*.q", "layers.*.k"))])
    assert [line.split()[:3] for line in str(plan.table({"h.0.qkv": (8, 2), "h.1.qkv": (8, 2), "x": (3, 2)})).splitlines()] == [
        ["name", "parameter", "shape"], ["layers.0-1.q", "(2)", "h.0-1.qkv"], ["layers.0-1.k", "(2)", "h.0-1.qkv"],
        ["x", "3", "x"],
    ]  # fmt: skip
    assert str(plan.table({"h.2.qkv": (8, 2)})).count("h.2.qkv") == 2
    assert "parameter" not in str(Plan([Rule("**", "he_normal")]).table({"x": (3, 2)}))


# ---- aliases ----------------------------------------------------------------------------------------


def test_a_tied_parameter_has_the_first_of_its_mapped_names_and_any_alias_finds_the_rule() -> None:
    tied = [Parameter("lm_head.weight", (7, 3), aliases=("wte.weight",))]
    names = [Spelling("lm_head.weight", "head.weight"), Spelling("wte.weight", "embed.weight")]
    plan = Plan([Rule("head.weight", NORMAL)], names)
    (row,) = plan.table(tied)
    assert (row.name, row.parameter) == ("embed.weight", "lm_head.weight")
    with pytest.raises(ValueError, match="are one tensor, with two rules"):
        Plan([Rule("lm_head.weight", "zeros"), Rule("wte.weight", NORMAL)]).resolve(tied)


def test_two_parameters_must_not_have_one_name() -> None:
    plan = Plan([Rule("**", NORMAL)], [Spelling("a.*.weight", "x.*.weight"), Spelling("b.*.weight", "x.*.weight")])
    with pytest.raises(ValueError, match=r"a.0.weight and b.0.weight are both called x.0.weight"):
        plan.resolve({"a.0.weight": (3, 3), "b.0.weight": (3, 3)})


@pytest.mark.parametrize(
    ("spelling", "shape"), [(Spelling("f", ("x", "x")), (4, 3)), (Spelling("f", "x##", batch_axes=(0, 1)), (12, 12, 3))]
)
def test_two_tensors_in_a_parameter_must_not_have_one_name(spelling: Spelling, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"two tensors in f are called x"):
        Plan([Rule("**", NORMAL)], [spelling]).resolve({"f": shape})


@pytest.mark.parametrize(
    "spelling", [Spelling("f", ("a", "b")), Spelling("f", "a", layout="io"), Spelling("f", "a.#", batch_axes=0)]
)
def test_names_of_a_tied_tensor_must_agree_on_what_is_in_it(spelling: Spelling) -> None:
    with pytest.raises(ValueError, match=r"g: expected .* the same tensors of it as of f, which it is tied to"):
        Plan([Rule("**", NORMAL)], [spelling]).resolve([Parameter("g", (4, 3), aliases=("f",))])


def test_each_tensor_of_a_tied_fused_parameter_has_the_first_of_its_own_names() -> None:
    plan = Plan([Rule("**", NORMAL)], [Spelling("f", ("a", "z")), Spelling("g", ("b", "y"))])
    assert [row.name for row in plan.table([Parameter("f", (4, 3), aliases=("g",))])] == ["a", "y"]


def test_a_stack_of_no_layers_has_no_tensors() -> None:
    plan = Plan([Rule("**", NORMAL)], [Spelling("f", "layers.#.f", batch_axes=0)])
    assert [row.name for row in plan.table({"f": (0, 3, 4), "g": (2, 2)})] == ["g"]


# ---- the same bits ----------------------------------------------------------------------------------

SPELLINGS = [
    Spelling("h.*.qkv.weight", ("layers.*.q.weight", "layers.*.k.weight", "layers.*.v.weight"), sizes=(8, 4, 4)),
    Spelling("flax.*.qkv.kernel", ("layers.*.q.weight", "layers.*.k.weight", "layers.*.v.weight"), sizes=(8, 4, 4), layout="io"),
    Spelling("scan.{q,k,v}.kernel", "layers.#.q.weight", layout="io", batch_axes=0),
    Spelling("conv.kernel", "conv.weight", layout="io"),
    Spelling("heads.*", ("h.*.q", "h.*.k"), sizes=(3, 1), groups=4),
    Spelling("heads_io.*", ("h.*.q", "h.*.k"), sizes=(3, 1), groups=4, layout="io"),
]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_fused_stacked_and_transposed_weights_have_the_bits_of_separate_ones(dtype: str) -> None:
    plan = Plan([Rule("**", "lecun_normal")], SPELLINGS)
    separate = {f"layers.2.{one}.weight": np.empty((n, 12), dtype) for one, n in (("q", 8), ("k", 4), ("v", 4))}
    apart = filled(plan, separate)
    together = np.concatenate(list(apart.values()))
    assert np.array_equal(filled(plan, {"h.2.qkv.weight": np.empty((16, 12), dtype)})["h.2.qkv.weight"], together)
    assert np.array_equal(filled(plan, {"flax.2.qkv.kernel": np.empty((12, 16), dtype)})["flax.2.qkv.kernel"], together.T)
    stacked = filled(plan, {"scan.q.kernel": np.empty((3, 12, 8), dtype)})["scan.q.kernel"]
    assert np.array_equal(stacked[2], apart["layers.2.q.weight"].T)
    alone = Rule("x", "lecun_normal").initializer._outputs_first()((8, 12), dtype, key=KEY / "layers.2.q.weight")
    assert np.array_equal(apart["layers.2.q.weight"], alone)
    conv = filled(plan, {"conv.weight": np.empty((4, 5, 3, 2), dtype)})["conv.weight"]
    assert np.array_equal(filled(plan, {"conv.kernel": np.empty((3, 2, 5, 4), dtype)})["conv.kernel"], conv.transpose(2, 3, 1, 0))


def test_parts_that_lie_head_by_head_have_the_bits_of_separate_ones() -> None:
    plan = Plan([Rule("**", "lecun_normal")], SPELLINGS)
    apart = filled(plan, {"h.0.q": (12, 5), "h.0.k": (4, 5)})
    together = np.concatenate([
        part for q, k in zip(np.split(apart["h.0.q"], 4), np.split(apart["h.0.k"], 4), strict=True) for part in (q, k)
    ])  # fmt: skip
    assert np.array_equal(filled(plan, {"heads.0": (16, 5)})["heads.0"], together)
    assert np.array_equal(filled(plan, {"heads_io.0": (5, 16)})["heads_io.0"], together.T)
    assert [row.name for row in plan.table({"heads.0": (16, 5)})] == ["h.0.q", "h.0.k"]
    with pytest.raises(ValueError, match="groups: expected a divisor of 14 outputs, got 4"):
        plan.resolve({"heads.0": (14, 5)})
    with pytest.raises(ValueError, match="sizes that add up to 5 outputs"):
        plan.resolve({"heads.0": (20, 5)})


def test_slices_and_batch_axes_of_a_rule_have_the_names_of_separate_tensors() -> None:
    plan = Plan([
        Rule("**.qkv.{weight,bias}", NORMAL, slices=("q", "k", "v")),
        Rule("**.in_proj_weight", NORMAL, slices={"q": 2, "k": 1}),
        Rule("**.experts.*", NORMAL, batch_axes=0, slices=("gate", "up")),
        Rule("stack.w.weight", NORMAL, batch_axes=(0, 1)),
    ])  # fmt: skip
    names = [row.name for row in plan.table({
        "l.3.qkv.weight": (6, 2), "l.3.qkv.bias": (6,), "a.in_proj_weight": (3, 2), "l.experts.gate_up": (2, 4, 3),
        "stack.w.weight": (1, 2, 3, 3),
    })]  # fmt: skip
    assert names == [
        "l.3.q.weight", "l.3.k.weight", "l.3.v.weight", "l.3.q.bias", "l.3.k.bias", "l.3.v.bias", "a.q.weight", "a.k.weight",
        "l.experts.0.gate", "l.experts.0.up", "l.experts.1.gate", "l.experts.1.up", "stack.0.0.w.weight", "stack.0.1.w.weight",
    ]  # fmt: skip


def test_slices_of_a_recurrent_layer_keep_the_names_of_its_parameters() -> None:
    gates = ("i", "f", "g", "o")
    shapes = {f"lstm.{name}_l0{end}": (8, 2) for name in ("weight_ih", "weight_hh") for end in ("", "_reverse")}
    plan = Plan([Rule("**.weight_hh*", "orthogonal", slices=gates), Rule("**.weight_ih*", "glorot_uniform", slices=gates)])
    assert {row.name for row in plan.table(shapes)} == {f"{name}.{gate}" for name in shapes for gate in gates}
    rows = Plan([Rule("**", NORMAL, slices=("i", "f"), batch_axes=0)]).table({"l.weight_hh": (2, 4, 3)})
    assert [row.name for row in rows] == ["l.0.weight_hh.i", "l.0.weight_hh.f", "l.1.weight_hh.i", "l.1.weight_hh.f"]
    with pytest.raises(ValueError, match=r"l\.ih and l\.hh are both called l\.i: slices with other names, or a Spelling"):
        Plan([Rule("**", NORMAL, slices=gates)]).resolve({"l.ih": (8, 2), "l.hh": (8, 2)})


@pytest.mark.parametrize("initializer", [NORMAL, HeNormal(), "orthogonal", "zeros", "ones", "lecun_uniform"])
def test_any_box_of_a_parameter_has_the_bits_of_the_whole(initializer: Any) -> None:
    plan = Plan([Rule("**", initializer)], SPELLINGS)
    for name, shape in (("w", (9, 7)), ("flax.0.qkv.kernel", (5, 16)), ("scan.q.kernel", (3, 4, 6)),
                        ("heads.0", (16, 5)), ("heads_io.0", (5, 16))):  # fmt: skip
        planned = plan.resolve({name: shape})
        whole = filled(plan, {name: shape})[name]
        cuts = [[(0, n), (1, n - 1), (n // 2, n), (2, 2), (n - 1, n)] for n in shape]
        for box in itertools.product(*cuts):
            for order in ("C", "F"):
                piece = np.full([high - low for low, high in box], 7, np.float32, order=order)
                fill([Target(planned[0], piece, "float32", box)], KEY)
                assert np.array_equal(piece, whole[tuple(slice(*ends) for ends in box)]), (name, box, order)


def test_large_transposed_tensors_pass_through_the_stage_in_several_launches() -> None:
    plan = Plan([Rule("**", NORMAL)], [Spelling("t.kernel", "w.weight", layout="io")])
    values = filled(plan, {"t.kernel": (1500, 3001)})["t.kernel"]
    assert np.array_equal(values, filled(plan, {"w.weight": (3001, 1500)})["w.weight"].T)
