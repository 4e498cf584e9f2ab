"""A safetensors file as parts that are written one after another, so that a large model is not copied for it.

The format and its order (the widest numbers first, so that all lie aligned, then by name) are those of
https://github.com/huggingface/safetensors. The library's `save` holds the whole file in memory, and its `save_file` (of
0.8) writes under a name that nobody sweeps after a kill, has no errno for a full disk, gives the file another mode, and
writes an array that does not lie in order as another one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from fl_core.errors import JobError
from fl_core.weights import Array, little_endian

ALIGNED = 8
DTYPES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "int16": "I16", "uint16": "U16", "float16": "F16",
    "int32": "I32", "uint32": "U32", "float32": "F32", "float64": "F64", "int64": "I64", "uint64": "U64",
}  # fmt: skip
"""The format's word for each of NumPy's, in the format's order."""
_PLACES = {name: place for place, name in enumerate(DTYPES)}


def parts(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> list[bytes | memoryview]:
    """The file's head and then its arrays, uncopied where they lie in order; JobError for numbers it cannot hold."""
    for name, array in arrays.items():
        if array.dtype.name not in DTYPES:
            raise JobError(f"the array {name} is of {array.dtype}; a model's file holds {', '.join(DTYPES)}")
    ordered = sorted(arrays, key=lambda name: (-_PLACES[arrays[name].dtype.name], name))
    head: dict[str, object] = {"__metadata__": dict(metadata)}
    position = 0
    for name in ordered:
        array, begin = arrays[name], position
        position += array.nbytes
        kind = DTYPES[array.dtype.name]
        head[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [begin, position]}
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNED)
    return [len(text).to_bytes(8, "little") + text, *(_bytes(arrays[name]) for name in ordered)]


def _bytes(array: Array) -> memoryview:
    ordered = np.ascontiguousarray(array, little_endian(array.dtype.name))
    return ordered.reshape(-1).view(np.uint8).data
