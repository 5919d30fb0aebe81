# SPDX-License-Identifier: Apache-2.0
"""Writes the golden files of the room `io` with the reference writers of each format.

Needs numpy, gguf and safetensors:  python make_golden.py [folder]
"""

import pathlib
import sys

import gguf
import numpy as np
from safetensors.numpy import save_file

folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)


def ramp(*shape):
    """Values that every format here stores exactly: i/8 - 3."""
    return (np.arange(np.prod(shape), dtype=np.float32) / 8 - 3).reshape(shape)


def write_gguf():
    out = gguf.GGUFWriter(folder / "tiny.gguf", "llama")
    out.add_uint8("test.uint8", 250)
    out.add_int8("test.int8", -100)
    out.add_uint16("test.uint16", 65000)
    out.add_int16("test.int16", -30000)
    out.add_uint32("test.uint32", 4_000_000_000)
    out.add_int32("test.int32", -2_000_000_000)
    out.add_float32("test.float32", 0.15625)
    out.add_bool("test.bool", True)
    out.add_string("test.string", "größer")
    out.add_uint64("test.uint64", 2**63)
    out.add_int64("test.int64", -(2**62))
    out.add_float64("test.float64", 1e-300)
    out.add_array("test.strings", ["a", "", "Straße", "x" * 40])
    out.add_array("test.ints", [1, -2, 3])
    out.add_array("test.floats", [0.5, -0.25])
    out.add_array("test.bools", [True, False, True])
    out.add_tensor("scalar.f32", np.array([1.5], dtype=np.float32))
    out.add_tensor("matrix.f32", ramp(3, 4))
    out.add_tensor("cube.f16", ramp(2, 3, 4).astype(np.float16))
    for name in ("Q8_0", "Q4_0", "Q4_1"):
        kind = gguf.GGMLQuantizationType[name]
        out.add_tensor("matrix." + name.lower(), gguf.quantize(ramp(2, 64), kind), raw_dtype=kind)
    out.add_tensor("matrix.bf16", gguf.quantize(ramp(2, 4), gguf.GGMLQuantizationType.BF16),
                   raw_dtype=gguf.GGMLQuantizationType.BF16)
    out.add_tensor("matrix.iq4_xs", np.zeros((2, 136), dtype=np.uint8), raw_dtype=gguf.GGMLQuantizationType.IQ4_XS)
    out.add_tensor("vector.i64", np.array([1, -2, 3], dtype=np.int64))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def write_safetensors():
    tensors = {
        "matrix.f32": ramp(3, 4),
        "cube.f16": ramp(2, 3, 4).astype(np.float16),
        "empty": np.zeros((0, 5), dtype=np.float32),
        "scalar": np.array(1.5, dtype=np.float32),
        "vector.i64": np.array([1, -2, 3], dtype=np.int64),
        "flags": np.array([True, False, True]),
    }
    save_file(tensors, folder / "tiny.safetensors", metadata={"format": "np", "größe": "klein"})


def write_npy():
    np.save(folder / "matrix_f4.npy", ramp(3, 4))
    np.save(folder / "scalar_f8.npy", np.array(1e-300))
    np.save(folder / "vector_i4.npy", np.array([1, -2, 3], dtype=np.int32))
    np.save(folder / "empty_i8.npy", np.zeros((2, 0, 3), dtype=np.int64))
    np.save(folder / "fortran_f4.npy", np.asfortranarray(ramp(3, 4)))


write_gguf()
write_safetensors()
write_npy()
