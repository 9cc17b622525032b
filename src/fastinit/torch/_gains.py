"""Gains and fans as PyTorch has them."""

from __future__ import annotations

import math

import torch

from .. import gains

__all__ = ["calculate_correct_fan", "calculate_fan_in_and_fan_out", "calculate_gain"]


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that PyTorch gives the standard deviation before a nonlinearity.

    Parameters
    ----------
    nonlinearity : str
        linear, conv1d .. conv_transpose3d and sigmoid: 1; tanh: 5/3; relu: sqrt(2); leaky_relu:
        sqrt(2 / (1 + param^2)); selu: 3/4.
    param : float, optional
        Negative slope of leaky_relu, 0.01 if not given; nothing to the others.

    Raises
    ------
    ValueError
        If the nonlinearity is another, or the slope of leaky_relu no number.
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
