# SPDX-License-Identifier: BSD-3-Clause
"""What several test files share."""

import sys

import pytest
from floating_point import control, mode  # noqa: F401

from fastinit import _core


def pytest_addoption(parser):
    parser.addoption(
        "--update-golden", metavar="REASON",
        help="write the golden files of tests/vectors and the tables of docs/ anew, for a reason, and stop",
    )  # fmt: skip


def pytest_configure(config):
    reason = config.getoption("--update-golden")
    if reason is not None:
        import made_documents
        from update_golden import update

        try:
            changes = update(reason) + made_documents.update()
        except ValueError as error:
            raise pytest.UsageError(str(error)) from None
        pytest.exit("\n".join(changes) or "no golden line changed", returncode=0)


@pytest.fixture(scope="module")
def hasty_jax():
    """JAX compiles with few optimizations: in tests that run many small operations once, compiling takes most of the time."""
    jax = sys.modules.get("jax")
    if jax is None:
        yield
        return
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def restored_isa():
    """The instruction set of before, after a test that chooses others."""
    before = _core.isa()
    yield
    _core.set_isa(before)


@pytest.fixture(params=_core.available_isas())
def each_isa(request, restored_isa):
    """Every instruction set of this CPU, one after the other in this process."""
    _core.set_isa(request.param)
    return request.param


@pytest.fixture
def choose_isas(restored_isa):
    """A function that walks the instruction sets inside one test: expected values may be dear."""

    def choose():
        for name in _core.available_isas():
            _core.set_isa(name)
            yield name

    return choose
