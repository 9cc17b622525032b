"""The deep stack: forward and backward through all layers in one call, with statistics on the way."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core
from .dtypes import new_array, resolve
from .initializers import get
from .keys import Key
from .sampling import check_key, normal
from .threads import get_num_threads

__all__ = ["Gradients", "LayerReport", "Moments", "Propagation", "Stack"]


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean, population variance and mean square of a layer's numbers over batch and units."""

    mean: float
    variance: float
    second_moment: float


@dataclass(frozen=True, slots=True)
class LayerReport:
    """What one layer did to the signal.

    Attributes
    ----------
    pre_activation, activation : Moments
        Of z = a W + b and of phi(z).
    gradient : Moments
        Of the loss's gradient with respect to z.
    saturated : float
        Share in [0, 1] of the elements on a flat part of the activation: \\|tanh\\| > 0.97, and the same of
        2 sigmoid - 1; 0 for activations that do not saturate.
    dead : float
        Share of the units whose derivative is exactly 0 for every sample of the batch.
    """

    pre_activation: Moments
    activation: Moments
    gradient: Moments
    saturated: float
    dead: float


@dataclass(frozen=True, slots=True)
class Gradients:
    """Gradients of a loss: a list of arrays like the weights, one like the biases, and the input's."""

    weights: list[NDArray[Any]]
    biases: list[NDArray[Any]]
    input: NDArray[Any]

    def __iter__(self) -> Iterator[Any]:
        return iter((self.weights, self.biases, self.input))


@dataclass(frozen=True, slots=True)
class Propagation:
    """One forward and backward pass: the output, a report for each layer, and gradients if asked for.

    ``str()`` of it is a table with one line a layer.
    """

    output: NDArray[Any]
    layers: tuple[LayerReport, ...]
    weight_gradients: list[NDArray[Any]] | None = None
    bias_gradients: list[NDArray[Any]] | None = None
    input_gradient: NDArray[Any] | None = None

    def __str__(self) -> str:
        head = (
            "layer   pre-activation          activation              gradient             saturated   dead\n"
            "        mean        std         mean        std         mean        std"
        )
        rows = [head]
        for i, layer in enumerate(self.layers):
            cells = "".join(
                f"{m.mean:<+12.3e}{max(m.variance, 0.0) ** 0.5:<12.3e}"
                for m in (layer.pre_activation, layer.activation, layer.gradient)
            )
            rows.append(f"{i:<8}{cells}{layer.saturated:8.1%} {layer.dead:7.1%}")
        return "\n".join(rows)


class Stack:
    """A stack of dense layers a' = phi(a W + b).

    Parameters
    ----------
    widths : sequence of int
        ``(n_0, n_1, ..., n_L)``, each >= 1: layer i maps n_i numbers to n_{i+1}.
    activation : {"linear", "tanh", "sigmoid", "relu"}
        phi of every layer.
    output_activation : str, optional
        phi of the last layer; by default it is like the others.
    weights : initializer, str or list of arrays, default "glorot_uniform"
        An initializer (anything `fastinit.get` takes) draws layer i from ``key / f"{i}.weight"``. A
        list holds one array of shape ``(n_i, n_{i+1})`` a layer; arrays are copied.
    biases : initializer, str or list of arrays, default "zeros"
        As for `weights`, of shapes ``(n_{i+1},)``, from ``key / f"{i}.bias"``.
    key : Key, optional
        Names the network: the same key gives the same weights. Without one they differ on every call.
    dtype : {"float32", "float64"}, default "float32"

    Attributes
    ----------
    widths : tuple of int
    activations : tuple of str
        One a layer.
    weights, biases : list of ndarray
        The parameters themselves; assigning into them changes the network.
    dtype : str
    key : Key
    depth : int
        L.

    Raises
    ------
    ValueError, TypeError
        For unknown names, widths < 1, arrays that do not fit the widths or the dtype, or that hold a NaN.

    Notes
    -----
    Every element of a product is one sum in index order by fused multiply-adds, so results have the same
    bits on every CPU and for every number of threads. An overflow is never an exception: it shows
    in the statistics.

    Examples
    --------
    >>> stack = Stack((784, 256, 256, 10), "tanh", weights="lecun_normal", key=Key(0))
    >>> report = stack.propagate(fastinit.normal((64, 784), key=Key(1)))
    >>> [layer.activation.variance for layer in report.layers]    # doctest: +SKIP
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: str,
        *,
        output_activation: str | None = None,
        weights: Any = "glorot_uniform",
        biases: Any = "zeros",
        key: Key | None = None,
        dtype: Any = "float32",
    ) -> None:
        self.widths = _check_widths(widths)
        self.dtype = resolve(dtype)
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"dtype: expected float32 or float64, got {self.dtype}")
        self.key = Key.from_entropy() if key is None else check_key(key)
        depth = len(self.widths) - 1
        inner = _check_activation("activation", activation)
        last = inner if output_activation is None else _check_activation(
            "output_activation", output_activation
        )
        self.activations = (inner,) * (depth - 1) + (last,) * (depth > 0)
        pairs = list(zip(self.widths, self.widths[1:], strict=False))
        self.weights = self._parameters("weights", "weight", weights, pairs)
        self.biases = self._parameters("biases", "bias", biases, [(out,) for _, out in pairs])

    def _parameters(
        self, what: str, name: str, source: Any, shapes: Sequence[tuple[int, ...]]
    ) -> list[NDArray[Any]]:
        if isinstance(source, (list, tuple)):
            if len(source) != len(shapes):
                raise ValueError(
                    f"{what}: expected {len(shapes)} arrays, one a layer, got {len(source)}"
                )
            return [
                _check_array(f"{what}[{i}]", array, shape, self.dtype).copy()
                for i, (array, shape) in enumerate(zip(source, shapes, strict=True))
            ]
        initializer = get(source)
        arrays = [
            np.asarray(initializer(shape, dtype=self.dtype, key=self.key / f"{i}.{name}"))
            for i, shape in enumerate(shapes)
        ]
        # An initializer of the user's own may return anything.
        return [
            _check_array(f"{what}[{i}]", array, shape, self.dtype)
            for i, (array, shape) in enumerate(zip(arrays, shapes, strict=True))
        ]

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.activations)

    def __repr__(self) -> str:
        names = sorted(set(self.activations[:-1])) or list(self.activations)
        widths = self.widths if len(self.widths) <= 8 else f"<{self.depth} layers>"
        return f"Stack({widths}, {'/'.join(names)!r}, dtype={self.dtype!r}, key={self.key!r})"

    def forward(self, x: Any) -> NDArray[Any]:
        """The output for a batch.

        Parameters
        ----------
        x : array_like of shape (batch, n_0)

        Returns
        -------
        ndarray of shape (batch, n_L)

        Raises
        ------
        ValueError, TypeError
            If `x` is not of that shape, not of real numbers, or holds a NaN.
        """
        x = self._input("x", x, self.widths[0])
        y = new_array((x.shape[0], self.widths[-1]), self.dtype)
        self._run(x, None, y, None, None, None, statistics=False)
        return y

    __call__ = forward

    def backward(self, x: Any, dy: Any) -> Gradients:
        """Gradients of a loss whose gradient with respect to the output is `dy`.

        Parameters
        ----------
        x : array_like of shape (batch, n_0)
        dy : array_like of shape (batch, n_L)

        Returns
        -------
        Gradients
            ``weights`` and ``biases``, summed over the batch, and ``input`` of the shape of `x`.

        Raises
        ------
        ValueError, TypeError
            As for `forward`.
        """
        x = self._input("x", x, self.widths[0])
        dy = self._input("dy", dy, self.widths[-1], rows=x.shape[0])
        gradients = self._new_gradients(x)
        self._run(x, dy, None, *gradients, statistics=False)
        return gradients

    def propagate(self, x: Any, dy: Any = None, *, gradients: bool = False) -> Propagation:
        """Forward and backward in one pass, with statistics of every layer.

        Parameters
        ----------
        x : array_like of shape (batch, n_0)
        dy : array_like of shape (batch, n_L), optional
            Gradient of a loss with respect to the output; standard normals from ``key / "cotangent"``
            if not given.
        gradients : bool, default False
            Return the gradients of weights, biases and input too.

        Returns
        -------
        Propagation

        Raises
        ------
        ValueError, TypeError
            As for `forward`.
        """
        x = self._input("x", x, self.widths[0])
        shape = (x.shape[0], self.widths[-1])
        if dy is None:
            dy = normal(shape, key=self.key / "cotangent", dtype=self.dtype)
        else:
            dy = self._input("dy", dy, self.widths[-1], rows=x.shape[0])
        y = new_array(shape, self.dtype)
        found = self._new_gradients(x) if gradients else None
        rows = self._run(x, dy, y, *(found or (None, None, None)), statistics=True)
        layers = tuple(
            LayerReport(Moments(*z), Moments(*a), Moments(*d), saturated, dead)
            for z, a, d, saturated, dead in rows or ()
        )
        if found is None:
            return Propagation(y, layers)
        return Propagation(y, layers, found.weights, found.biases, found.input)

    def _new_gradients(self, x: NDArray[Any]) -> Gradients:
        return Gradients(
            [new_array(w.shape, self.dtype) for w in self.weights],
            [new_array(b.shape, self.dtype) for b in self.biases],
            new_array(x.shape, self.dtype),
        )

    def _input(self, what: str, array: Any, width: int, rows: int | None = None) -> NDArray[Any]:
        """A batch of rows of a width, in the stack's dtype, without NaN."""
        found = np.asarray(array)
        if found.ndim != 2 or found.shape[1] != width or rows not in (None, found.shape[0]):
            batch = "batch" if rows is None else rows
            raise ValueError(f"{what}: expected shape ({batch}, {width}), got {found.shape}")
        return _real(what, found, self.dtype)

    def _run(
        self, x: Any, dy: Any, y: Any, dw: Any, db: Any, dx: Any, *, statistics: bool
    ) -> list[Any] | None:
        # The parameters are the user's to change, so their shapes are looked at on every call; a NaN
        # that got into them shows in the statistics.
        shapes = list(zip(self.widths, self.widths[1:], strict=False))
        weights = [
            _check_array(f"weights[{i}]", w, shape, self.dtype, nan=True)
            for i, (w, shape) in enumerate(zip(self.weights, shapes, strict=True))
        ]
        biases = [
            _check_array(f"biases[{i}]", b, (out,), self.dtype, nan=True)
            for i, (b, (_, out)) in enumerate(zip(self.biases, shapes, strict=True))
        ]
        rows: list[Any] | None = _core.stack_propagate(
            _core.DTYPES.index(self.dtype),
            self.widths,
            tuple(_core.ACTIVATIONS.index(name) for name in self.activations),
            weights, biases, x.shape[0], x, dy, y, dx, dw, db, statistics, get_num_threads(),
        )  # fmt: skip
        return rows


def _check_widths(widths: Any) -> tuple[int, ...]:
    try:
        sizes = tuple(operator.index(n) for n in widths)
    except TypeError:
        raise TypeError(f"widths: expected a sequence of ints, got {widths!r}") from None
    if not sizes or any(n < 1 for n in sizes):
        raise ValueError(f"widths: expected at least one int, each >= 1, got {sizes}")
    return sizes


def _check_activation(what: str, name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"{what}: expected a str, got {type(name).__name__} {name!r}")
    if name not in _core.ACTIVATIONS:
        raise ValueError(f"{what}: expected one of {', '.join(_core.ACTIVATIONS)}, got {name!r}")
    return name


def _real(what: str, array: NDArray[Any], dtype: str, *, nan: bool = False) -> NDArray[Any]:
    """`array` in C order and `dtype`, refused if its numbers are not real, or one is NaN unless allowed."""
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{what}: expected an array of real numbers, got dtype {array.dtype}")
    with np.errstate(over="ignore"):  # float64 to float32 may give inf, which the statistics show
        array = np.ascontiguousarray(array, dtype=dtype)
    if not nan and np.isnan(array).any():
        raise ValueError(f"{what}: expected no NaN, got {int(np.isnan(array).sum())}")
    return array


def _check_array(
    what: str, array: Any, shape: tuple[int, ...], dtype: str, *, nan: bool = False
) -> NDArray[Any]:
    """A parameter of the shape that the widths want."""
    found = np.asarray(array)
    if found.shape != shape:
        raise ValueError(f"{what}: expected shape {shape}, got {found.shape}")
    return _real(what, found, dtype, nan=nan)
