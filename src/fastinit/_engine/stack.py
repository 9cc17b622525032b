"""The deep stack: forward and backward through all layers in one call, with statistics on the way."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from sys import getrefcount
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._common.activations import parse
from .._common.arithmetic import ieee
from .._common.checks import boolean, is_masked, real_array, real_number, shown
from .._common.dtypes import new_array, resolve
from .._common.threads import get_num_threads
from .._stream.keys import Key
from .._stream.sampling import check_key, normal
from ..initializers import Initializer, Zeros, get
from .arguments import check_pairs, check_parameter, check_widths, in_order, in_range, residual_blocks
from .gradient_memory import offsets_in_block, views_of_block
from .results import Gradients, Propagation
from .virtual_weights import DrawnWeights

__all__ = ["Recording", "Stack"]

_LARGEST = 1 << 44  # of a batch's numbers in all layers: beyond any memory, and far below where its size would not fit 64 bits
_OPTIONS = ("widths", "activations", "dtype", "key")  # that are attributes
_FIXED = (*_OPTIONS, "activation", "output_activation", "residual", "alpha", "virtual", "depth")


class Stack:
    """A stack of dense layers a' = phi(a W + b).

    Parameters
    ----------
    widths : sequence of int
        ``(n_0, n_1, ..., n_L)``, each >= 1: layer i maps n_i numbers to n_{i+1}.
    activation : str
        phi of every layer: linear, tanh, sigmoid, relu, leaky_relu, hard_tanh, elu, selu, softplus, softsign,
        gelu, gelu_tanh, silu, mish or sin; ``"leaky_relu(0.2)"`` has another slope than 0.01.
    output_activation : str, optional
        phi of the last layer; by default it is like the others.
    weights : initializer, str or list of arrays, default "glorot_uniform"
        An initializer (anything `fastinit.get` takes) draws layer i from ``key / f"{i}.weight"``. A
        list holds one array of shape ``(n_i, n_{i+1})`` a layer; arrays are copied. An array is, here and below, whatever NumPy
        takes for one, bfloat16 and float8 among it, or a PyTorch tensor.
    biases : initializer, str or list of arrays, default "zeros"
        As for `weights`, of shapes ``(n_{i+1},)``, from ``key / f"{i}.bias"``.
    residual : int, optional
        Layers of a residual block: from the first layer on, every `residual` layers whose input and output have
        the same width become x + `alpha` f(x). Other layers stay as they are.
    alpha : float, default 1.0
        Weight of the branches.
    virtual : bool, default False
        Never store the weights: each panel is drawn from the stream when a product reads it, forward and
        again backward, and activations are kept at some sqrt(L) checkpoints and computed again between them
        (a residual block lies between two of them).
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
        The parameters themselves; assigning into them changes the network. Of a virtual stack the weights
        are drawn when one is looked at, and a bias that is 0 is None.
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

    An array's shape and dtype are looked at when it is put into `weights` or `biases`: change its numbers, or put another there.

    A stack keeps the working memory of its calls, and that of its last gradients, which the next call
    takes again once nobody holds one of those arrays, or a view of one (not on a free-threaded Python). Several threads
    may call one stack at once: no two calls share memory that they write to.

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
        activation: str,
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
        self._units = sum(self.widths)
        inner = last = parse("activation", activation)
        if output_activation is not None:
            last = parse("output_activation", output_activation)
        names = (activation, output_activation or activation)
        self._activation, self._residual = activation, residual
        self.activations = names[:1] * (depth - 1) + names[1:] * (depth > 0)
        for parsed in (inner, last):
            in_range("activation: slope", parsed[1], self.dtype)
        self._codes = (inner[0],) * (depth - 1) + (last[0],) * (depth > 0)
        self._slopes = (inner[1],) * (depth - 1) + (last[1],) * (depth > 0)
        self._real = np.dtype(self.dtype)
        pairs = list(zip(self.widths, self.widths[1:], strict=False))
        self._offsets = offsets_in_block(self.widths, self._real.itemsize)
        self._views = views_of_block(self.widths, self._offsets, self._real.itemsize)
        # Workspaces of finished calls, and the last block of gradients: fresh memory costs as much as a pass.
        self._spare: list[Any] = []
        self._blocks: list[Any] = []
        self._layout: _core.StackParameters | None = None
        self._skips = () if residual is None else residual_blocks(self.widths, residual)
        self._alpha = in_range("alpha", real_number("alpha", alpha), self.dtype)
        if residual is None and self._alpha != 1:
            raise ValueError(f"alpha: expected residual=, whose blocks it is for, with it, got alpha={shown(alpha)} alone")
        boolean("virtual", virtual)
        if key is None:
            for what, source in (("weights", weights), ("biases", biases)):
                _check_unseeded(what, source)
        self.weights: Any = (
            DrawnWeights(get(weights), self.key, pairs, self.dtype)
            if virtual
            else self._parameters("weights", "weight", weights, pairs)
        )
        shapes = [(out,) for _, out in pairs]
        self.biases: list[Any] = (
            [None] * depth
            if virtual and get(biases) == Zeros()
            else self._parameters("biases", "bias", biases, shapes)
        )

    def _parameters(
        self, what: str, name: str, source: Any, shapes: Sequence[tuple[int, ...]]
    ) -> list[Any]:
        if isinstance(source, (list, tuple)):
            for i, entry in enumerate(source):
                if isinstance(entry, (str, dict, Initializer)) or callable(entry):
                    raise TypeError(
                        f"{what}[{i}]: expected an array, one a layer, got {shown(entry)}; an initializer is for all layers, "
                        "and stands in no list"
                    )
            return [array if array is None else array.copy() for array in self._checked(what, source)]
        initializer = get(source)
        arrays = [
            initializer(shape, dtype=self.dtype, key=self.key / f"{i}.{name}")
            for i, shape in enumerate(shapes)
        ]
        return self._checked(what, arrays)  # an initializer of the user's own may return anything

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.activations)

    def __setattr__(self, name: str, value: Any) -> None:
        # The engine's memory is laid out by the options when a stack is made; a name that nothing reads is a slip.
        if name in _FIXED and not (name in _OPTIONS and name not in self.__dict__):
            raise AttributeError(f"{name}: expected no change after construction; make another Stack")
        if type(self) is Stack and not (name.startswith("_") or name in (*_OPTIONS, "weights", "biases")):
            raise AttributeError(f"Stack: expected one of its attributes weights and biases to be set, got {name!r}")
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_spare": [], "_blocks": [], "_layout": None}

    def __repr__(self) -> str:
        widths = self.widths if len(self.widths) <= 8 else f"<{self.depth} layers>"
        options = {"dtype": self.dtype, "key": self.key}
        if self.activations and self.activations[-1] != self._activation:
            options = {"output_activation": self.activations[-1], **options}
        if self._skips:
            options |= {"residual": self._residual, "alpha": self._alpha}
        if isinstance(self.weights, DrawnWeights):
            options["virtual"] = True
        shown = ", ".join(f"{name}={value!r}" for name, value in options.items())
        return f"Stack({widths}, {self._activation!r}, {shown})"

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
        self._spare.append(self._run(x, y=y))
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
        self._check_stored()
        x = self._input("x", x, self.widths[0])
        dy = self._cotangent(dy, len(x))
        block = self._new_gradients(len(x))
        self._spare.append(self._run(x, dy, gradients=block))
        return self._gradients(block, len(x))

    def record(self, x: Any) -> Recording:
        """The output for a batch, with all that a backward pass needs kept: for a loss that looks at the output.

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

    def propagate(
        self,
        x: Any,
        dy: Any = None,
        *,
        gradients: bool = False,
        norms: bool = False,
        pairs: Sequence[tuple[int, int]] | None = None,
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
            Return the norm of each weight gradient; with `gradients` it is always there. Without, it costs a third product
            a layer at most, and no gradient is formed: where the batch is smaller than the layer, the norm comes from
            two batch x batch Gram matrices, \\|A^T D\\|^2 = sum of (A A^T) o (D D^T). These are of the stack's
            dtype, so its square is right to some rounding errors of \\|A\\|^2 \\|D\\|^2.
        pairs : sequence of (i, j), optional
            Samples of the batch, 0 <= i, j < batch, whose activations and gradients are compared in each layer.

        Returns
        -------
        Propagation

        Raises
        ------
        ValueError, TypeError
            As for `forward`, if `pairs` holds anything but pairs of such numbers, and if `gradients` or `norms` is no bool.

        References
        ----------
        Poole, Lahiri, Raghu, Sohl-Dickstein & Ganguli, "Exponential expressivity in deep neural networks through
        transient chaos", 2016: what the cosines of wide random networks do (`fastinit.theory.correlation_map`).
        """
        boolean("gradients", gradients)
        boolean("norms", norms)
        if gradients:
            self._check_stored()
        x = self._input("x", x, self.widths[0])
        shape = (x.shape[0], self.widths[-1])
        if dy is None:
            dy = normal(shape, key=self.key / "cotangent", dtype=self.dtype)
        else:
            dy = self._cotangent(dy, len(x))
        y = new_array(shape, self.dtype)
        statistics = np.empty((self.depth, _core.STATISTICS))
        chosen = None if pairs is None else check_pairs(pairs, len(x))
        cosines = None if chosen is None else np.empty((self.depth, 2, len(chosen)))
        length = np.empty(self.depth) if norms or gradients else None
        block = self._new_gradients(len(x)) if gradients else None
        self._spare.append(self._run(x, dy, y, block, statistics, (length, chosen, cosines)))
        beside: dict[str, Any] = {"weight_gradient_norms": length}
        if cosines is not None:
            beside |= {"activation_cosines": cosines[:, 0], "gradient_cosines": cosines[:, 1]}
        if block is None:
            return Propagation(y, statistics, **beside)
        found = self._gradients(block, len(x))
        return Propagation(y, statistics, found.weights, found.biases, found.input, **beside)

    def _check_rows(self, what: str, rows: int) -> None:
        if rows * self._units > _LARGEST:
            raise ValueError(
                f"{what}: expected at most 2**44 numbers in all layers, got a batch of {shown(rows)} in {self._units} units"
            )

    def _check_stored(self) -> None:
        if isinstance(self.weights, DrawnWeights):
            raise ValueError("gradients: expected stored weights, got a virtual stack")

    def _new_gradients(self, batch: int) -> NDArray[Any]:
        """One block for all gradients: the last one, if nobody holds an array of it any more."""
        size = self._offsets[-1] // self._real.itemsize + batch * self.widths[0]
        last: list[NDArray[Any]] = []
        if _COUNTED:
            with contextlib.suppress(IndexError):  # another thread may have taken it
                last = [self._blocks.pop()]
        if not last or len(last[0]) != size or _references(last) != _UNSHARED:
            last = [new_array((size,), self.dtype)]
        if _COUNTED:
            self._blocks[:] = last  # one, however many threads work with the stack
        return last[0]

    def _gradients(self, block: NDArray[Any], batch: int) -> Gradients:
        arrays: list[NDArray[Any]] = []
        for start, shape, strides in self._views:
            arrays.extend(np.ndarray(shape, self._real, block, start, strides))
        depth = self.depth
        return Gradients(
            arrays[:depth], arrays[depth:], np.ndarray((batch, self.widths[0]), self._real, block, self._offsets[-1])
        )

    def _input(self, what: str, array: Any, width: int, rows: int | None = None, *, nan: bool = False) -> NDArray[Any]:
        """A batch of rows of a width, in the stack's dtype, without NaN unless allowed."""
        found = real_array(what, array)
        if found.ndim != 2 or found.shape[1] != width or rows not in (None, found.shape[0]):
            batch = "batch" if rows is None else rows
            raise ValueError(f"{what}: expected shape ({batch}, {width}), got {found.shape}")
        return in_order(what, found, self.dtype, nan=nan)

    def _cotangent(self, dy: Any, rows: int) -> NDArray[Any]:
        """A loss's gradient with respect to the output. It may be NaN: after an overflow it is, and that is no exception."""
        return self._input("dy", dy, self.widths[-1], rows, nan=True)

    def _run(
        self,
        x: Any,
        dy: Any = None,
        y: Any = None,
        gradients: Any = None,
        statistics: Any = None,
        beside: tuple[Any, Any, Any] = (None, None, None),
    ) -> Any:
        """One call of the engine, forward and, for a dy, back; returns the workspace that it used."""
        run = self._lay_out(x, dy, y, gradients, statistics, beside, backward=dy is not None, spare=self._spare)
        run.run(_core.FORWARD if dy is None else _core.FORWARD | _core.BACKWARD)
        return run.workspace

    def _lay_out(
        self,
        x: Any,
        dy: Any,
        y: Any,
        gradients: Any,
        statistics: Any = None,
        beside: tuple[Any, Any, Any] = (None, None, None),
        *,
        backward: bool,
        threads: int | None = None,
        spare: list[Any],
    ) -> _core.StackRun:
        """Everything that the engine reads and writes, for one run or many."""
        self._check_rows("x", len(x))
        return _core.StackRun(
            self._held(), x.shape[0], x, dy, y, gradients, statistics, threads or get_num_threads(), backward, spare,
            *beside,
        )  # fmt: skip

    def _held(self) -> _core.StackParameters:
        """The parameters, open for the engine: those of the last call, or what the user has put there since."""
        weights, biases, laws = self.weights, self.biases, None
        if isinstance(self.weights, DrawnWeights):
            weights, laws = None, self.weights.laws
        held = self._layout
        if held is not None and held.hold(weights, biases, laws):
            return held
        fixed = (
            _core.DTYPES.index(self.dtype), self.widths, self._codes, self._slopes, self._skips, self._alpha, self._offsets,
        )  # fmt: skip
        lists = (biases, weights) if laws is None else (biases,)
        plain = all(type(arrays) is list and len(arrays) == self.depth for arrays in lists)
        if plain and not any(is_masked(a) or (a is None and laws is None) for arrays in lists for a in arrays):
            with contextlib.suppress(LookupError):
                held = self._layout = _core.StackParameters(*fixed, weights, biases, laws)
                return held
        # What the engine does not read is taken if it can be. A NaN that got into it shows in the statistics.
        if laws is None:
            weights = self._checked("weights", self.weights, nan=True)
        return _core.StackParameters(*fixed, weights, self._checked("biases", self.biases, nan=True), laws)

    def _checked(self, what: str, arrays: Sequence[Any], *, nan: bool = False) -> list[Any]:
        """Parameters of the shapes that the widths want."""
        if not isinstance(arrays, (list, tuple)):
            raise TypeError(f"{what}: expected a list of arrays, one a layer, got {type(arrays).__name__}")
        if len(arrays) != self.depth:
            raise ValueError(f"{what}: expected {self.depth} arrays, one a layer, got {len(arrays)}")
        virtual = what == "biases" and isinstance(self.weights, DrawnWeights)
        shapes = [pair if what == "weights" else pair[1:] for pair in itertools.pairwise(self.widths)]
        return [
            array if array is None and virtual else  # a bias that is 0
            check_parameter(f"{what}[{i}]", array, shape, self.dtype, nan=nan)
            for i, (array, shape) in enumerate(zip(arrays, shapes, strict=True))
        ]


class Recording:
    """A forward pass that can be gone back through: see `Stack.record`.

    The parameters must not change between the two passes. It can be neither copied nor pickled.

    Attributes
    ----------
    output : ndarray of shape (batch, n_L)
    """

    def __init__(self, stack: Stack, x: Any) -> None:
        if not isinstance(stack, Stack):
            raise TypeError(f"stack: expected a fastinit.Stack, got {type(stack).__name__}")
        stack._check_stored()
        x = stack._input("x", x, stack.widths[0])
        self.output = new_array((len(x), stack.widths[-1]), stack.dtype)
        self._stack, self._rows = stack, len(x)
        self._block = stack._new_gradients(len(x))
        run = stack._lay_out(x, None, self.output, self._block, backward=True, spare=stack._spare)
        run.run(_core.FORWARD)
        self._runs = [run]  # taken out by the backward pass: one thread gets it

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and "output" in self.__dict__:
            raise AttributeError(f"{name}: expected no change of a Recording; record again")
        super().__setattr__(name, value)

    def __reduce__(self) -> Any:
        # A copy of the workspace would begin elsewhere within a cache line, and be read at other places.
        raise TypeError("Recording: expected no copy or pickle of a pass that is under way; record again")

    def backward(self, dy: Any) -> Gradients:
        """Gradients of a loss whose gradient with respect to the output is `dy`; once for a recording.

        Parameters
        ----------
        dy : array_like of shape (batch, n_L)

        Returns
        -------
        Gradients
            As of `Stack.backward`.

        Raises
        ------
        ValueError, TypeError
            As for `Stack.backward`.
        RuntimeError
            If it is called a second time.
        """
        stack, batch = self._stack, self._rows
        dy = stack._cotangent(dy, batch)
        try:
            run = self._runs.pop()
        except IndexError:
            raise RuntimeError("backward: expected one call for a recording, got a second") from None
        run.run(_core.BACKWARD, dy)
        stack._spare.append(run.workspace)
        return stack._gradients(self._block, batch)


def _references(box: list[NDArray[Any]]) -> tuple[int, int]:
    """To the array in the box, and to its base, which is what every array made of it refers to."""
    return getrefcount(box[0]), getrefcount(box[0].base)


_UNSHARED = _references([new_array((1,), "float32")])
# A free-threaded Python counts the references of an object's own thread apart from all others', and the two are not read
# at one moment: there no count says that nobody holds an array, and every call has a block of its own.
_COUNTED = not _core.FREE_THREADED


def _check_unseeded(what: str, source: Any) -> None:
    """A seed that no tensor would be drawn from is not taken without a word."""
    seed = None if isinstance(source, (list, tuple)) else get(source).seed
    if seed is not None:
        raise ValueError(
            f"{what}: expected key= beside an initializer with a seed, as a key names a network's tensors; got seed={seed} alone"
        )
