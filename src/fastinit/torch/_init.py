"""The random functions of torch.nn.init."""

from __future__ import annotations

import functools
import math
import sys
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch

from .._stream.keys import Key
from ..initializers import Orthogonal
from ..initializers.structured import chosen
from ._fixed import constant_, dirac_, eye_, ones_, zeros_
from ._gains import calculate_correct_fan, calculate_fan_in_and_fan_out, calculate_gain
from ._memory import drawn_key, fill, names_of, write
from ._shards import shard_of
from ._traced import draws

__all__ = [
    "calculate_gain", "constant", "constant_", "dirac", "dirac_", "eye", "eye_", "kaiming_normal",
    "kaiming_normal_", "kaiming_uniform", "kaiming_uniform_", "normal", "normal_", "ones_", "orthogonal",
    "orthogonal_", "sparse", "sparse_", "trunc_normal_", "uniform", "uniform_", "xavier_normal",
    "xavier_normal_", "xavier_uniform", "xavier_uniform_", "zeros_",
]  # fmt: skip

_OWN = (__name__.rpartition(".")[0], "torch.nn.init", "torch.overrides", "torch.library", "torch._library", "torch._ops")
Function = Callable[..., Any]
Generator: TypeAlias = "torch.Generator | None"


def _real(value: Any, what: str) -> float:
    if isinstance(value, (str, bytes, complex)):
        raise TypeError(f"{what}: expected a float, got {value!r}")
    return float(value)


def _warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn with the line of the caller, who may have called PyTorch's function of the same name."""
    level, frame = 2, sys._getframe().f_back
    while frame is not None and str(frame.f_globals.get("__name__")).startswith(_OWN):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


# ---- independent elements ---------------------------------------------------------------------


def _uniform(tensor: Any, a: Any, b: Any, generator: Generator, key: Key | None, what: str) -> Any:
    low, high = _real(a, "a"), _real(b, "b")
    if low > high:
        raise RuntimeError(
            f"uniform_ expects to return a [from, to) range, but found from={low:g} > to={high:g}"
        )
    return fill(tensor, "uniform", (low, high), generator, key, what)


def _normal(tensor: Any, mean: Any, std: Any, generator: Generator, key: Key | None, what: str) -> Any:
    mean, std = _real(mean, "mean"), _real(std, "std")
    if std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
    return fill(tensor, "normal", (mean, std), generator, key, what)


@draws
def uniform_(
    tensor: torch.Tensor, a: float = 0.0, b: float = 1.0, generator: Generator = None, *, key: Key | None = None
) -> torch.Tensor:
    """Fill with uniform random numbers in the half-open interval [a, b), in place.

    Parameters
    ----------
    tensor : torch.Tensor
        Of any shape and strided layout; float32, float64, float16, bfloat16, or complex, with both parts in [a, b).
    a, b : float, defaults 0 and 1
        a <= b. If the dtype rounds both to the same number, the tensor is filled with it.
    generator : torch.Generator, optional
        The seed is one 64-bit number drawn from it; by default from the generator of the CPU.
    key : fastinit.Key, optional
        Used instead of a generator: the values are those of ``fastinit.uniform(tensor.shape, a, b, key=key)``.

    Returns
    -------
    torch.Tensor
        `tensor` itself.

    Raises
    ------
    RuntimeError
        If a > b.
    ValueError
        If a bound is not finite in the dtype, or the tensor is on the meta device.
    NotImplementedError
        If the dtype or layout is not one of these.

    Examples
    --------
    >>> tensor = uniform_(torch.empty(3), key=Key(0))
    """
    return _uniform(tensor, a, b, generator, key, "uniform_")


@draws
def normal_(
    tensor: torch.Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator = None, *, key: Key | None = None
) -> torch.Tensor:
    """Fill with normal random numbers, in place.

    Parameters
    ----------
    tensor : torch.Tensor
        As for `uniform_`; complex numbers z have E |z - mean|^2 = std^2.
    mean, std : float, defaults 0 and 1
        std >= 0.
    generator, key
        As for `uniform_`.

    Returns
    -------
    torch.Tensor
        `tensor` itself.

    Raises
    ------
    RuntimeError
        If std < 0.
    ValueError, NotImplementedError
        As for `uniform_`.
    """
    return _normal(tensor, mean, std, generator, key, "normal_")


def _deviations(bound: float, mean: float, std: float, kind: type[np.floating[Any]], inward: float) -> float:
    """A bound in standard deviations: the z nearest to it for which mean + std * z, in the dtype, is inside the bound."""
    z = kind((bound - mean) / std)
    limit, mean_, std_ = kind(bound), kind(mean), kind(std)
    for _ in range(4):
        reached = mean_ + std_ * z
        if not math.isfinite(z) or (reached >= limit if inward > 0 else reached <= limit):
            break
        z = np.nextafter(z, kind(inward))
    return float(z)


@draws
def trunc_normal_(
    tensor: torch.Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator = None,
    *,
    key: Key | None = None,
) -> torch.Tensor:
    """Fill with the normal distribution of `mean` and `std` truncated to [a, b], in place.

    Each value is the quantile of a uniform number: nothing is redrawn, and values far in a tail are correct.

    Parameters
    ----------
    tensor : torch.Tensor
        As for `uniform_`, but not complex.
    mean, std : float, defaults 0 and 1
        Of the normal distribution before truncation.
    a, b : float, defaults -2 and 2
        **Absolute** bounds, not in standard deviations: std=0.02 with the default bounds truncates at 100 deviations.
    generator, key
        As for `uniform_`.

    Returns
    -------
    torch.Tensor
        `tensor` itself.

    Raises
    ------
    RuntimeError
        If a > b or std < 0.
    ValueError
        As for `uniform_`; if std is 0 and the mean is outside [a, b]; or if both bounds are more than 36 standard
        deviations from the mean, on the same side.
    NotImplementedError
        As for `uniform_`.

    Warns
    -----
    UserWarning
        If the mean is more than two standard deviations outside [a, b].
    """
    mean, std = _real(mean, "mean"), _real(std, "std")
    low, high = _real(a, "a"), _real(b, "b")
    if low > high:
        raise RuntimeError(f"trunc_normal_ expects a <= b, but found a={low:g} > b={high:g}")
    if std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
    if mean < low - 2 * std or mean > high + 2 * std:
        _warn(
            "mean is more than 2 std from [a, b] in nn.init.trunc_normal_: "
            "the values are the truncated normal's, which is a tail there"
        )
    if tensor.is_complex():
        raise NotImplementedError(f'"trunc_normal_": expected a real dtype, got {tensor.dtype}')
    if low == high:
        return _uniform(tensor, low, high, generator, key, "trunc_normal_")
    if std == 0:
        if not low <= mean <= high:
            raise ValueError(f"mean: expected a number in [{low}, {high}] where std is 0, got {mean}")
        return _normal(tensor, mean, 0.0, generator, key, "trunc_normal_")
    kind = np.float64 if tensor.dtype is torch.float64 else np.float32
    bounds = _deviations(low, mean, std, kind, math.inf), _deviations(high, mean, std, kind, -math.inf)
    if not bounds[0] < bounds[1]:
        # The bounds are closer than neighbouring values of mean + std z, so the density is constant between them up to 1e-3.
        reached = abs(low - mean) / std
        if reached >= 36:
            raise ValueError(f"a, b: expected bounds less than 36 std from the mean, got {reached:g} of them")
        return _uniform(tensor, low, high, generator, key, "trunc_normal_")
    return fill(tensor, "truncated_normal", (mean, std, *bounds), generator, key, "trunc_normal_")


@draws
def xavier_uniform_(
    tensor: torch.Tensor, gain: float = 1.0, generator: Generator = None, *, key: Key | None = None
) -> torch.Tensor:
    """Fill with U(-r, r), r = gain sqrt(6 / (fan_in + fan_out)), in place: Glorot & Bengio (2010).

    Parameters
    ----------
    tensor : torch.Tensor
        Of shape (out, in, *receptive field).
    gain : float, default 1
        See `calculate_gain`.
    generator, key
        As for `uniform_`.

    Returns
    -------
    torch.Tensor
        `tensor` itself.

    Raises
    ------
    ValueError
        If the tensor has fewer than two dimensions; otherwise as for `uniform_`.
    """
    r = math.sqrt(3.0) * _xavier_std(tensor, gain)
    return _uniform(tensor, -r, r, generator, key, "xavier_uniform_")


@draws
def xavier_normal_(
    tensor: torch.Tensor, gain: float = 1.0, generator: Generator = None, *, key: Key | None = None
) -> torch.Tensor:
    """Fill with N(0, gain^2 2 / (fan_in + fan_out)), not truncated, in place: Glorot & Bengio (2010).

    Parameters
    ----------
    tensor, gain, generator, key
        As for `xavier_uniform_`.

    Returns
    -------
    torch.Tensor
        `tensor` itself; errors and warnings are those of `xavier_uniform_`.
    """
    return _normal(tensor, 0.0, _xavier_std(tensor, gain), generator, key, "xavier_normal_")


def _xavier_std(tensor: torch.Tensor, gain: float) -> float:
    # The fans of an empty tensor may be 0; max avoids a division by 0.
    return gain * math.sqrt(2.0 / max(1, sum(calculate_fan_in_and_fan_out(tensor))))


@draws
def kaiming_uniform_(
    tensor: torch.Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator = None,
    *,
    key: Key | None = None,
) -> torch.Tensor:
    """Fill with U(-r, r), r = gain sqrt(3 / fan), in place: He, Zhang, Ren & Sun (2015).

    Parameters
    ----------
    tensor : torch.Tensor
        Of shape (out, in, *receptive field).
    a : float, default 0
        Negative slope of the leaky ReLU (not a gain); ignored for other nonlinearities.
    mode : {"fan_in", "fan_out"}, default "fan_in"
        Which variance stays constant: of the activations (fan_in) or of the gradients (fan_out).
    nonlinearity : str, default "leaky_relu"
        See `calculate_gain`; leaky_relu with a = 0 is relu.
    generator, key
        As for `uniform_`.

    Returns
    -------
    torch.Tensor
        `tensor` itself.

    Raises
    ------
    ValueError
        If the mode or nonlinearity is unknown, or the tensor has fewer than two dimensions; otherwise as for `uniform_`.

    Warns
    -----
    UserWarning
        If the tensor has no elements.
    """
    if _warn_if_empty(tensor):
        return tensor
    r = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return _uniform(tensor, -r, r, generator, key, "kaiming_uniform_")


@draws
def kaiming_normal_(
    tensor: torch.Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator = None,
    *,
    key: Key | None = None,
) -> torch.Tensor:
    """Fill with N(0, gain^2 / fan), not truncated, in place: He, Zhang, Ren & Sun (2015).

    Parameters
    ----------
    tensor, a, mode, nonlinearity, generator, key
        As for `kaiming_uniform_`.

    Returns
    -------
    torch.Tensor
        `tensor` itself; errors and warnings are those of `kaiming_uniform_`.
    """
    if _warn_if_empty(tensor):
        return tensor
    std = _kaiming_std(tensor, a, mode, nonlinearity)
    return _normal(tensor, 0.0, std, generator, key, "kaiming_normal_")


def _warn_if_empty(tensor: torch.Tensor) -> bool:
    if tensor.numel() == 0:
        _warn("Initializing zero-element tensors is a no-op")
    return tensor.numel() == 0


def _kaiming_std(tensor: torch.Tensor, a: float, mode: str, nonlinearity: str) -> float:
    fan = calculate_correct_fan(tensor, mode)
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


# ---- matrices ---------------------------------------------------------------------------------


@draws
def orthogonal_(
    tensor: torch.Tensor, gain: float = 1, generator: Generator = None, *, key: Key | None = None
) -> torch.Tensor:
    """Fill with a random matrix of orthonormal rows or columns times `gain`, exactly Haar distributed, in place.

    Parameters
    ----------
    tensor : torch.Tensor
        Of two or more dimensions; filled as a matrix of shape (first, product of the others). A complex one is unitary.
    gain : float, default 1
        Factor on the matrix.
    generator, key
        As for `uniform_`.

    Returns
    -------
    torch.Tensor
        `tensor` itself.

    Raises
    ------
    ValueError
        If the tensor has fewer than two dimensions; otherwise as for `uniform_`.

    References
    ----------
    Saxe, McClelland & Ganguli (2014).
    """
    if tensor.dim() < 2:
        raise ValueError("Only tensors with 2 or more dimensions are supported")
    initializer = Orthogonal(gain=_real(gain, "gain"))

    def make(shape: tuple[int, ...], dtype: str, key: Key, index: Any, out: Any) -> None:
        # Matrix and tensor have their elements in the same order. For a shard the whole matrix is made and cut.
        matrix = (shape[0], math.prod(shape[1:]))
        if index is None:
            initializer(matrix, dtype, key=key, out=out.reshape(matrix))
        else:
            whole = np.empty(shape, dtype=out.dtype)
            initializer(matrix, dtype, key=key, out=whole.reshape(matrix))
            out[...] = whole[index]

    return write(tensor, make, generator, key, "orthogonal_", names=names_of(complex_too=True))


@draws
def sparse_(
    tensor: torch.Tensor,
    sparsity: float,
    std: float = 0.01,
    generator: Generator = None,
    *,
    key: Key | None = None,
) -> torch.Tensor:
    """Fill with N(0, std^2) and exactly ceil(sparsity * rows) zeros in each column, in place: Martens (2010).

    Parameters
    ----------
    tensor : torch.Tensor
        Of shape (rows, columns). Complex numbers have E |z|^2 = std^2.
    sparsity : float
        Fraction of zeros in each column, in [0, 1].
    std : float, default 0.01
        Standard deviation of the other elements.
    generator, key
        As for `uniform_`; they determine the positions of the zeros, too.

    Returns
    -------
    torch.Tensor
        `tensor` itself.

    Raises
    ------
    ValueError
        If the tensor does not have two dimensions, or sparsity is not in [0, 1]; otherwise as for `normal_`.
    """
    if tensor.dim() != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    sparsity, std = _real(sparsity, "sparsity"), _real(std, "std")
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparsity: expected a number in [0, 1], got {sparsity}")
    if std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
    zeros = math.ceil(sparsity * tensor.shape[0])
    if tensor.numel() == 0:
        return tensor
    memory, index = shard_of(tensor) or (tensor, ...)
    key = drawn_key(generator, key)
    _normal(tensor, 0.0, std, None, key, "sparse_")
    rows, columns = tensor.shape
    zero = torch.from_numpy(~chosen((rows, columns), rows - zeros, key)[index])
    with torch.no_grad():
        memory.masked_fill_(zero.to(memory.device), 0)
    return tensor


# ---- the names without underscore -------------------------------------------------------------


def _deprecated(function: Function) -> Function:
    new = function.__name__
    old = new[:-1]

    @functools.wraps(function)
    def renamed(*args: Any, **options: Any) -> Any:
        _warn(f"`nn.init.{old}` is now deprecated in favor of `nn.init.{new}`.", FutureWarning)
        return function(*args, **options)

    renamed.__name__ = renamed.__qualname__ = old
    renamed.__doc__ = f"The old name of `{new}`, which PyTorch has deprecated."
    return renamed


uniform = _deprecated(uniform_)
normal = _deprecated(normal_)
constant = _deprecated(constant_)
eye = _deprecated(eye_)
dirac = _deprecated(dirac_)
xavier_uniform = _deprecated(xavier_uniform_)
xavier_normal = _deprecated(xavier_normal_)
kaiming_uniform = _deprecated(kaiming_uniform_)
kaiming_normal = _deprecated(kaiming_normal_)
orthogonal = _deprecated(orthogonal_)
sparse = _deprecated(sparse_)
