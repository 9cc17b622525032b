"""The deep stack: passes forward and backward through all layers in one call, with statistics of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._common.arithmetic import ieee
from .._common.checks import boolean, real_number, shown
from .._common.dtypes import new_array, resolve
from .._stream.keys import Key, check_key
from .._stream.sampling import normal
from ..initializers import Zeros, get
from .arguments import check_batch, check_pairs, check_representable, check_widths, residual_sources
from .passes import Passes
from .recording import Recording
from .results import Gradients, Propagation
from .sources import activations_of, check_unseeded, first_parameters, initializers_of
from .traces import LayerValues, check_bins, check_percentiles, new_trace, norm_of, summaries
from .virtual_weights import DrawnWeights, check_stored

__all__ = ["Stack"]

_SET_ONCE = ("widths", "activations", "dtype", "key")  # the attributes that a stack keeps
_FIXED = (*_SET_ONCE, "activation", "output_activation", "residual", "alpha", "virtual", "depth")


class Stack:
    """A stack of dense layers a' = phi(a W + b).

    Parameters
    ----------
    widths : sequence of int
        ``(n_0, n_1, ..., n_L)``, each >= 1: layer i maps n_i numbers to n_{i+1}.
    activation : str or sequence of str
        phi of every layer, or one a layer, by name, such as ``"tanh"``, ``"relu"`` or ``"gelu"``: docs/activations.md defines
        them all, and the error for another name lists them. ``"leaky_relu(0.2)"`` has another slope than 0.01.
    output_activation : str, optional
        phi of the last layer; by default it is like the others.
    weights : initializer, str or list, default "glorot_uniform"
        An initializer (anything `fastinit.get` takes) draws layer i from ``key / f"{i}.weight"``. A list holds one entry a
        layer: an initializer, or an array of shape ``(n_i, n_{i+1})``, which is copied. An array is, here and below,
        whatever NumPy takes for one, bfloat16 and float8 included, or a PyTorch tensor.
    biases : initializer, str or list, default "zeros"
        As for `weights`, of shapes ``(n_{i+1},)``, from ``key / f"{i}.bias"``.
    residual : int, optional
        Layers of a residual block: from the first layer on, every `residual` layers f whose input x and output have
        the same width become x + `alpha` f(x). Other layers stay as they are.
    alpha : float, default 1.0
        Weight of the residual branches f(x).
    virtual : bool, default False
        Never store the weights: each panel of them is drawn from the stream when a product reads it, forward and
        again backward. Activations are kept at about sqrt(L) checkpoints and computed again between them
        (no checkpoint lies within a residual block).
        The bits are those of stored weights. `weights` must draw its elements independently, and there
        are no gradients of weights.
    key : Key, optional
        Names the network: the same key gives the same weights, whatever seed an initializer has. Without one they differ on
        every call, and an initializer with a seed is refused.
    dtype : {"float32", "float64"}, default "float32"

    Attributes
    ----------
    widths, activations, dtype, key
        As given, `activations` one a layer; they stay what they are.
    weights, biases : list of ndarray
        The parameters themselves; assigning into them changes the network. Those of a virtual stack are drawn when somebody
        looks at them, and biases of zeros are None there.
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
    in the statistics. Where it makes a NaN, every machine has one; its sign and payload are the processor's.

    The shape and dtype of an array in `weights` or `biases` must not change while it is there, but its numbers may, and another
    array may take its place.

    A stack keeps the working memory of its calls for the next ones. Several threads may call one stack at once: no two calls
    share memory that they write to.

    Signals are answered during a call from the main thread. Where the handler of one raises, as that of Ctrl-C does, the call
    is given up within some 0.1 s, and the stack is as it was before.

    Examples
    --------
    >>> stack = Stack((784, 256, 256, 10), "tanh", weights="lecun_normal", key=Key(0))
    >>> report = stack.propagate(fastinit.normal((64, 784), key=Key(1)))
    >>> [layer.activation.variance for layer in report.layers]    # doctest: +SKIP
    """

    @ieee
    def __init__(
        self,
        widths: Sequence[int],
        activation: str | Sequence[str],
        *,
        output_activation: str | None = None,
        weights: Any = "glorot_uniform",
        biases: Any = "zeros",
        residual: int | None = None,
        alpha: float = 1.0,
        virtual: bool = False,
        key: Key | None = None,
        dtype: Any = "float32",
    ) -> None:
        self.widths = check_widths(widths)
        self.dtype = resolve(dtype)
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"dtype: expected float32 or float64, got {self.dtype}")
        self.key = Key.from_entropy() if key is None else check_key(key)
        depth = len(self.widths) - 1
        self.activations, of_layers = activations_of(activation, output_activation, depth, self.dtype)
        # A list is kept as a copy: whoever made it may change it.
        self._activation = activation if isinstance(activation, str) else list(self.activations)
        self._residual = residual
        self._sources = () if residual is None else residual_sources(self.widths, residual)
        self._alpha = check_representable("alpha", real_number("alpha", alpha), self.dtype)
        if residual is None and self._alpha != 1:
            raise ValueError(f"alpha: expected residual=, whose blocks it is for, with it, got alpha={shown(alpha)} alone")
        boolean("virtual", virtual)
        if key is None:
            for what, source in (("weights", weights), ("biases", biases)):
                check_unseeded(what, source)
        self._passes = Passes(self.widths, self.dtype, of_layers, self._sources, self._alpha)
        shapes = list(zip(self.widths, self.widths[1:], strict=False))
        if virtual:
            self.weights: Any = DrawnWeights(initializers_of("weights", weights, depth), self.key, shapes, self.dtype)
        else:
            self.weights = first_parameters("weights", weights, shapes, self.widths, self.dtype, self.key)
        if virtual and not isinstance(biases, (list, tuple)) and get(biases) == Zeros():
            self.biases: list[Any] = [None] * depth
        else:
            self.biases = first_parameters(
                "biases", biases, [shape[1:] for shape in shapes], self.widths, self.dtype, self.key, none=virtual
            )

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.activations)

    @property
    def alpha(self) -> float:
        """Weight of the branches of residual blocks."""
        return self._alpha

    @property
    def residual_blocks(self) -> tuple[tuple[int, int], ...]:
        """Of each residual block the layer that begins it and the layer that ends it."""
        return tuple((source, end) for end, source in enumerate(self._sources) if source >= 0)

    def __setattr__(self, name: str, value: Any) -> None:
        # The options are read once, at construction. Another name would be a misspelling that nothing reads.
        if name in _FIXED and not (name in _SET_ONCE and name not in self.__dict__):
            raise AttributeError(f"{name}: expected no change after construction; make another Stack")
        if type(self) is Stack and not (name.startswith("_") or name in (*_SET_ONCE, "weights", "biases")):
            raise AttributeError(f"Stack: expected one of its attributes weights and biases to be set, got {name!r}")
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        widths = self.widths if len(self.widths) <= 8 else f"<{self.depth} layers>"
        options = {"dtype": self.dtype, "key": self.key}
        activation = self._activation
        if isinstance(activation, list):
            activation = activation if len(self.widths) <= 8 else f"<{', '.join(dict.fromkeys(activation))}>"
        elif self.activations and self.activations[-1] != activation:
            options = {"output_activation": self.activations[-1], **options}
        if self._residual is not None:
            options |= {"residual": self._residual, "alpha": self._alpha}
        if isinstance(self.weights, DrawnWeights):
            options["virtual"] = True
        shown = ", ".join(f"{name}={value!r}" for name, value in options.items())
        return f"Stack({widths}, {activation!r}, {shown})"

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
        x = self._batch(x)
        y = new_array((len(x), self.widths[-1]), self.dtype)
        self._passes.run(self._opened(), x, y=y)
        return y

    def __call__(self, x: Any) -> NDArray[Any]:
        """`forward`."""
        return self.forward(x)

    def backward(self, x: Any, dy: Any) -> Gradients:
        """Gradients of a loss whose gradient with respect to the output is `dy`.

        Parameters
        ----------
        x : array_like of shape (batch, n_0)
        dy : array_like of shape (batch, n_L)
            May hold NaN, as a loss's gradient does after an overflow.

        Returns
        -------
        Gradients
            ``weights`` and ``biases``, summed over the batch, and ``input`` of the shape of `x`.

        Raises
        ------
        ValueError, TypeError
            As for `forward`.
        """
        check_stored(self.weights)
        x = self._batch(x)
        dy = self._cotangent(dy, len(x))
        buffer = self._passes.gradients.new_buffer(len(x))
        self._passes.run(self._opened(), x, dy=dy, gradients=buffer)
        return self._passes.gradients.arrays(buffer, len(x))

    def record(self, x: Any) -> Recording:
        """The output for a batch, keeping what a backward pass needs: for a loss that is computed from the output.

        Parameters
        ----------
        x : array_like of shape (batch, n_0)

        Returns
        -------
        Recording

        Raises
        ------
        ValueError, TypeError
            As for `forward`.
        """
        return Recording(self, x)

    def layers_of(self, x: Any) -> list[LayerValues]:
        """Every layer's pre-activations and values for a batch, in one pass forward.

        Parameters
        ----------
        x : array_like of shape (batch, n_0)

        Returns
        -------
        list of L LayerValues
            Pairs ``(pre_activation, activation)`` of new arrays of shape ``(batch, n_{i+1})``; the last layer's `activation` is
            what `forward` returns, to the bit.

        Raises
        ------
        ValueError, TypeError
            As for `forward`.

        Examples
        --------
        >>> stack = Stack((3, 4, 2), "relu", key=Key(0))
        >>> [values.activation.shape for values in stack.layers_of([[1.0, 2.0, 3.0]])]
        [(1, 4), (1, 2)]
        """
        x = self._batch(x)
        trace: list[Any] = new_trace(self.widths, len(x), self.dtype, 2)
        self._passes.run(self._opened(), x, trace=trace)
        return [LayerValues(*pair) for pair in zip(trace[: self.depth], trace[self.depth : 2 * self.depth], strict=True)]

    def propagate(
        self,
        x: Any,
        dy: Any = None,
        *,
        gradients: bool = False,
        norms: bool = False,
        pairs: Sequence[tuple[int, int]] | None = None,
        histograms: int | Sequence[float] | None = None,
        percentiles: Sequence[float] | None = None,
    ) -> Propagation:
        """Forward and backward in one pass, with statistics of every layer.

        Parameters
        ----------
        x : array_like of shape (batch, n_0)
        dy : array_like of shape (batch, n_L), optional
            Gradient of a loss with respect to the output; standard normals from ``key / "cotangent"``
            if not given. May hold NaN, as it does after an overflow: it shows in the statistics of the gradients.
        gradients : bool, default False
            Return the gradients of weights, biases and input too.
        norms : bool, default False
            Return the Euclidean norm of each weight gradient and of each stored weight; with `gradients` that of the gradient
            is always there. Without `gradients` none of them is stored, and a norm costs at most one more product a layer. Where
            the batch is smaller than the layer, the norm of A^T D comes from two Gram matrices of shape (batch, batch):
            \\|A^T D\\|^2 is the sum of the elements of (A A^T) * (D D^T). They are of the stack's dtype, so the error of the
            squared norm is some units of rounding of \\|A\\|^2 \\|D\\|^2.
        pairs : sequence of (i, j), optional
            Samples of the batch, 0 <= i, j < batch, whose pre-activations, activations and gradients are compared in each layer.
        histograms : int or sequence of float, optional
            Count each layer's pre-activations, activations and gradients: in so many equal bins from its least number to its
            largest, or between these edges, which rise.
        percentiles : sequence of float in [0, 100], optional
            Return these percentiles of them. Both options keep all these numbers in memory at once.

        Returns
        -------
        Propagation

        Raises
        ------
        ValueError, TypeError
            As for `forward`; also if `pairs` holds anything but such pairs, if `gradients` or `norms` is not a bool, or if
            `histograms` or `percentiles` holds no such numbers.

        References
        ----------
        Poole, Lahiri, Raghu, Sohl-Dickstein & Ganguli, "Exponential expressivity in deep neural networks through
        transient chaos", 2016: what the cosines of wide random networks do (`fastinit.theory.correlation_map`).
        """
        boolean("gradients", gradients)
        boolean("norms", norms)
        if gradients:
            check_stored(self.weights)
        x = self._batch(x)
        rows, passes = len(x), self._passes
        shape = (rows, self.widths[-1])
        if dy is None:
            dy = normal(shape, key=self.key / "cotangent", dtype=self.dtype)
        else:
            dy = self._cotangent(dy, rows)
        chosen = None if pairs is None else check_pairs(pairs, rows)
        bins = None if histograms is None else check_bins(histograms)
        points = None if percentiles is None else check_percentiles(percentiles)
        trace: list[Any] | None = None
        if bins is not None or points is not None:
            trace = new_trace(self.widths, rows, self.dtype, 3)
        output = new_array(shape, self.dtype)
        statistics = np.empty(self.depth, _core.LAYER_STATISTICS)
        lengths = np.empty(self.depth) if norms or gradients else None
        cosines = None if chosen is None else np.empty((self.depth, 2, len(chosen)))
        of_pre_activations = None if chosen is None else np.empty((self.depth, len(chosen)))
        buffer = passes.gradients.new_buffer(rows) if gradients else None
        passes.run(
            self._opened(), x, dy=dy, y=output, gradients=buffer, statistics=statistics, norms=lengths, pairs=chosen,
            cosines=cosines, pre_activation_cosines=of_pre_activations, trace=trace,
        )  # fmt: skip
        found: dict[str, Any] = {"weight_gradient_norms": lengths}
        if norms and not isinstance(self.weights, DrawnWeights):  # a twelfth of the time of a pass with gradients
            found["weight_norms"] = np.array([norm_of(weight) for weight in self.weights])
        if cosines is not None:
            found |= {
                "pre_activation_cosines": of_pre_activations, "activation_cosines": cosines[:, 0],
                "gradient_cosines": cosines[:, 1],
            }  # fmt: skip
        if trace is not None:
            found |= summaries(trace, bins, points)
        if buffer is not None:
            made = passes.gradients.arrays(buffer, rows)
            found |= {"weight_gradients": made.weights, "bias_gradients": made.biases, "input_gradient": made.input}
        return Propagation(output, statistics, **found)

    def _batch(self, x: Any) -> NDArray[Any]:
        return check_batch("x", x, self.widths[0], self.dtype)

    def _cotangent(self, dy: Any, rows: int) -> NDArray[Any]:
        return check_batch("dy", dy, self.widths[-1], self.dtype, rows=rows, nan=True)

    def _opened(self) -> _core.StackParameters:
        return self._passes.opened(self.weights, self.biases)
