"""The table of docs/initializers.md agrees with the code: names, variances and papers."""

import dataclasses
import math
import re
from pathlib import Path

import pytest
from catalogue_cases import FIXED, RANDOM

from fastinit import GainNormal, Orthogonal, Times, compute_fans, gains
from fastinit.initializers import CATALOGUE, DeltaOrthogonal, Sparse

DOCUMENT = Path(__file__).parents[2] / "docs" / "initializers.md"

pytestmark = pytest.mark.skipif(not DOCUMENT.exists(), reason="the documents are not installed with the tests")


def rows():
    if not DOCUMENT.exists():
        return {}
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("| initializer |"))
    table = {}
    for line in lines[begin + 2 :]:
        if not line.startswith("|"):
            break
        name, _, variance, paper = (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
        assert name.strip("`") not in table, f"{name} twice"
        table[name.strip("`")] = (variance, paper)
    return table


def test_every_initializer_has_a_row():
    assert sorted(rows()) == sorted(one.__name__ for one in CATALOGUE)


@pytest.mark.parametrize("kind", CATALOGUE, ids=lambda kind: kind.__name__)
def test_papers_are_those_of_the_docstring(kind):
    for author, year in re.findall(r"(\w+) \((\d{4})\)", rows()[kind.__name__][1]):
        assert author in kind.__doc__
        assert year in kind.__doc__


def test_a_dash_stands_where_nothing_is_drawn_and_there_alone():
    drawn = {type(one).__name__ for one, *_ in RANDOM}
    fixed = {type(one).__name__ for one, _ in FIXED} - drawn
    assert {name for name, (variance, _) in rows().items() if variance == "–"} == fixed


# Cases whose formula the table gives; rows with words instead are left out.
CHECKED = [case for case in RANDOM if rows().get(type(case[0]).__name__, "-")[0].startswith("`")]


@pytest.mark.parametrize(("initializer", "shape"), [case[:2] for case in CHECKED], ids=repr)
def test_the_variance_is_that_of_the_code(initializer, shape):
    formula = rows()[type(initializer).__name__][0].strip("`")
    scope = {field.name: getattr(initializer, field.name) for field in dataclasses.fields(initializer)}
    scope |= {"log": math.log, "min": min, "max": max}
    if isinstance(initializer, (Orthogonal, DeltaOrthogonal, Sparse)):
        scope |= {"rows": shape[-2], "columns": shape[-1], "field": math.prod(shape[:-2])}
        if isinstance(initializer, Sparse) and initializer.nonzero is None:
            scope["nonzero"] = shape[0] - math.ceil(initializer.sparsity * shape[0])
    elif isinstance(initializer, Times):
        scope["inner"] = initializer.initializer.variance(shape)
    elif "max_time" in scope:
        scope["T"] = scope["max_time"]
    elif len(shape) > 1:
        fans = compute_fans(shape, scope.get("fans"))
        scope |= {"fan_in": fans.fan_in, "fan_out": fans.fan_out}
        if isinstance(initializer, GainNormal):
            scope["gain"] = getattr(gains, f"{initializer.keep}_gain")(initializer.activation)
        mode = scope.get("mode", "fan_in")
        assert mode == "fan_in", "the table shows the default"
    if scope.get("low") is not None and scope.get("high") is not None and "corrected" in scope:
        return  # absolute bounds determine the variance, see test_catalogue
    assert eval(formula, {"__builtins__": {}}, scope) == pytest.approx(initializer.variance(shape), rel=1e-3)
