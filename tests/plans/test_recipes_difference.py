"""Which tensors begin otherwise in two plans, and in two sources of one architecture."""

from __future__ import annotations

import pytest

from fastinit.plans import RECIPES, difference, llama, recipe_difference

ALIKE = (
    {"transformers", "nanogpt"}, {"transformers", "megatron"}, {"megatron", "nanogpt"}, {"transformers", "torchvision"},
    {"selu", "linear"},
)  # fmt: skip


def test_the_difference_of_two_sources_as_printed() -> None:
    assert str(recipe_difference("llama", "transformers", "torchtitan")) == """\
name                  transformers     torchtitan                         ratio
embedding.weight      normal(0, 0.02)  normal(0, 1)                       50
layers.0.o.weight     normal(0, 0.02)  normal(0, 0.0141421)               0.7071
layers.0.up.weight    normal(0, 0.02)  normal(0, 0.0141421)               0.7071
layers.0.down.weight  normal(0, 0.02)  normal(0, 0.0141421)               0.7071
layers.1.o.weight     normal(0, 0.02)  normal(0, 0.01)                    0.5
layers.1.up.weight    normal(0, 0.02)  normal(0, 0.01)                    0.5
layers.1.down.weight  normal(0, 0.02)  normal(0, 0.01)                    0.5
head.weight           normal(0, 0.02)  truncated_normal(0, 0.125, -3, 3)  6.166
13 others begin alike."""


def test_differences() -> None:
    found = recipe_difference("gpt2", "nanogpt", "transformers")
    assert not found
    assert found.same == len(RECIPES["gpt2"].shapes)
    assert str(found) == "nanogpt and transformers begin alike."
    found = recipe_difference("llama", "transformers", "nanochat")
    assert found.without[0][0] == "nanochat"
    assert "layers.1.gate.weight" in found.without[0][1]
    assert found[0].stds == (0.02, 0.8)
    assert "Not compared, as nanochat does not know them: layers.0.norm1.weight" in str(found)
    for architecture, recipe in RECIPES.items():
        for first in recipe.sources:
            for second in recipe.sources:
                found = recipe_difference(architecture, first, second)
                alike = first == second or {first, second} in ALIKE
                assert (not found) == alike, (architecture, first, second)


def test_differences_of_a_model_and_its_options() -> None:
    shapes = RECIPES["llama"].shapes
    with pytest.raises(ValueError, match="heads: expected the number of heads"):
        recipe_difference("llama", "transformers", "maxtext", shapes)
    found = recipe_difference("llama", "transformers", "maxtext", shapes, heads=8)
    (query,) = [change for change in found if change.name == "layers.0.q.weight"]
    assert query.ratio == pytest.approx(64**-0.5 / 8**0.5 / 0.02)
    same = difference(shapes, llama(shapes), llama(shapes, std=0.01))
    assert same.titles == ("llama, transformers", "llama, transformers")
    assert {change.ratio for change in same} == {0.5}
    with pytest.raises(ValueError, match="architecture: expected"):
        recipe_difference("x", "a", "b")
    with pytest.raises(ValueError, match="source: expected"):
        recipe_difference("llama", "transformers", "b")
