# SPDX-License-Identifier: BSD-3-Clause
"""Odd values, by name, that somebody may pass as any argument by accident or on purpose."""

import numpy as np

import fastinit

HUGE = 10**5000  # Python refuses to write it in decimal digits

NUMBERS = {
    "0": 0, "1": 1, "-1": -1, "2**63": 2**63, "2**64": 2**64, "-2**64": -(2**64), "2**2000": 2**2000,
    "10**5000": HUGE, "-10**5000": -HUGE, "True": True, "0.5": 0.5, "-0.0": -0.0, "nan": float("nan"), "inf": float("inf"),
    "-inf": float("-inf"), "5e-324": 5e-324, "1e-200": 1e-200, "1e200": 1e200, "1e308": 1e308, "-1e308": -1e308, "3j": 3j,
    "float64": np.float64(2.0), "float32 nan": np.float32("nan"), "int8": np.int8(3), "numpy bool": np.bool_(True),
    "longdouble": np.longdouble("1e4000"), "date": np.datetime64("2020-01-01"), "time": np.timedelta64(3),
}  # fmt: skip
TEXTS = {
    "empty": "", "activation": "relu", "name": "he_normal", "surrogate": "\ud800", "NUL": "float32\0", "long": "x" * 10_000,
    "number in words": "3", "bytes": b"relu", "bytearray": bytearray(16), "memoryview": memoryview(b"abcd"), "fields": "f4,f4",
}  # fmt: skip
COLLECTIONS = {
    "empty list": [], "ints": [1, 2], "huge ints": [2**70, HUGE], "ragged": [[1], [2, 3]], "list of nan": [float("nan")],
    "names": ["zeros", "ones"], "Nones": [None], "pairs": [("a", "f4")], "empty tuple": (), "(3, -1)": (3, -1),
    "(2, 3.0)": (2, 3.0), "(0, 2**100)": (0, 2**100), "(2**40, 2**40)": (2**40, 2**40), "(0, 10**5000)": (0, HUGE),
    "(10**5000,)": (HUGE,), "(True, 2)": (True, 2), "70 axes": (1,) * 70, "set": {1, 2}, "frozenset": frozenset((2,)),
    "empty dict": {}, "odd name": {"class_name": 3}, "odd config": {"class_name": "HeNormal", "config": 3},
    "odd option": {"class_name": "HeNormal", "config": {"a": 1}}, "odd key": {"class_name": "HeNormal", "config": {1: 1}},
    "structure": {"names": ["a"], "formats": ["f4"]},
}  # fmt: skip
OBJECTS = {
    "None": None, "Ellipsis": ..., "object": object(), "class": fastinit.HeNormal, "class with options": fastinit.Times,
    "initializer": fastinit.HeNormal(), "Key": fastinit.Key(3), "module": np, "range": range(3), "slice": slice(None),
    "slice of text": slice("a", None), "slice of huge": slice(HUGE), "step of 0": slice(None, None, 0),
}  # fmt: skip
ARRAYS = {
    "number": np.array(3.0), "whole number": np.array(3), "nan": np.array(float("nan")), "None": np.array(None),
    "empty": np.zeros(0), "vector": np.zeros(3), "matrix": np.ones((2, 3)), "float16": np.ones(2, "f2"),
    "swapped": np.zeros(2, ">f4"), "strided": np.zeros((4, 4))[::2, ::2], "complex": np.zeros(2, "c8"),
    "bools": np.zeros(2, bool),
    "texts": np.array(["a", "b"]), "objects": np.array([None, 1], dtype=object), "huge": np.array([HUGE, 1], dtype=object),
    "fields": np.zeros(2, "f4,f4"), "dates": np.zeros(2, "M8[s]"), "masked": np.ma.masked_array([1.0, 2.0], [True, False]),
    "masked number": np.ma.masked_array(2.0, True), "mask": np.ma.masked, "records": np.ones((2, 2)).view(np.recarray),
}  # fmt: skip

ODD = {
    f"{kind} {name}": value
    for kind, values in (
        ("number", NUMBERS), ("text", TEXTS), ("collection", COLLECTIONS), ("object", OBJECTS), ("array", ARRAYS),
    )
    for name, value in values.items()
}  # fmt: skip
