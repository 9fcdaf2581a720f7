"""Build a C file of this directory once and load it."""
import ctypes
import os
import subprocess

from work import path

_HERE = os.path.dirname(os.path.abspath(__file__))


def load(name):
    source, library = os.path.join(_HERE, name + ".c"), path(f"kernels/{name}.so")
    newest = max(os.path.getmtime(os.path.join(_HERE, f)) for f in (name + ".c", "bfloat16.h"))
    if not os.path.exists(library) or os.path.getmtime(library) < newest:
        # Two processes may come here at once: build aside, then put in place.
        aside = f"{library}.{os.getpid()}"
        subprocess.run(["gcc", "-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math",
                        "-shared", "-fPIC", source, "-o", aside, "-lm"], check=True)
        os.replace(aside, library)
    return ctypes.CDLL(os.path.abspath(library))


def pointer(tensor):
    return None if tensor is None else ctypes.c_void_p(tensor.data_ptr())


long, real = ctypes.c_long, ctypes.c_float
