"""Gains and fans as PyTorch defines them."""

from __future__ import annotations

import math

import torch

from .. import gains

__all__ = ["calculate_correct_fan", "calculate_fan_in_and_fan_out", "calculate_gain"]


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that PyTorch gives the standard deviation before a nonlinearity.

    Parameters
    ----------
    nonlinearity, param
        As in `fastinit.gains.calculate_gain`, which has the table of gains.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the nonlinearity is unknown, or the slope of leaky_relu is not a number.

    Examples
    --------
    >>> calculate_gain("leaky_relu", 1.0)
    1.0
    """
    try:
        return gains.calculate_gain(nonlinearity, param)
    except TypeError:
        raise ValueError(f"negative_slope {param} not a valid number") from None
    except ValueError:
        raise ValueError(f"Unsupported nonlinearity {nonlinearity}") from None


def calculate_fan_in_and_fan_out(tensor: torch.Tensor) -> tuple[int, int]:
    """Fans of ``(out, in, *receptive field)``."""
    if tensor.dim() < 2:
        raise ValueError("Fan in and fan out can not be computed for tensor with fewer than 2 dimensions")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def calculate_correct_fan(tensor: torch.Tensor, mode: str) -> int:
    mode = mode.lower()
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    return calculate_fan_in_and_fan_out(tensor)[mode == "fan_out"]
