"""Softmax cross-entropy whose mistakes carry the costs that they have in the world, for PyTorch and NumPy.

A bridge to the shared library of rwwce: `librwwce.so` (`.dylib`) beside this file, or where the environment variable
RWWCE_LIBRARY says. One file, nothing to compile.

    import torch, rwwce
    weights = rwwce.class_weights(labels, classes=10, scheme="inverse_frequency")
    loss = rwwce.cross_entropy(logits, labels, weight=weights)
    loss.backward()

The functions take what their namesakes of `torch.nn.functional` take. Logits are float32, float16 or bfloat16 on the CPU, or
int8 or uint8, which stand for scale·(q − zero_point) where a `scale` is given. They are read where they are, without a copy, if
they are contiguous, and computed with in float32. A float64 tensor is refused, since it promises digits that a float32 kernel
does not have. Weights and costs may be anything that holds numbers; so may logits that are not tensors: other NumPy arrays
and lists are rounded to float32. The result is a tensor where the input is one, of its type if that is floating, else a NumPy
array.

Bad arguments raise ValueError, and IndexError for a label out of range, with the message of the library.
"""

import ctypes
import operator
import os
import sys
from ctypes import POINTER, byref, c_char_p, c_double, c_float, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path

import numpy

try:
    import torch
except ImportError:
    torch = None

__all__ = [
    "backend",
    "binary_cross_entropy_with_logits",
    "class_weights",
    "cross_entropy",
    "decide",
    "force_backend",
    "log_softmax",
    "log_sum_exp",
    "nll_loss",
    "real_world_weight_cross_entropy",
    "version",
]


# ---- The library


class _Error(ctypes.Structure):
    _fields_ = [
        ("status", c_uint32),
        ("argument", c_uint32),
        ("other_argument", c_uint32),
        ("row", c_size_t),
        ("index", c_size_t),
        ("expected", c_size_t),
        ("found", c_size_t),
        ("label", c_int64),
    ]


class _Total(ctypes.Structure):
    _fields_ = [
        ("sum", c_double),
        ("weight_sum", c_double),
        ("sample_weight_sum", c_double),
        ("rows", c_uint64),
        ("rows_times_classes", c_uint64),
        ("non_finite", c_uint64),
    ]


class _Summary(ctypes.Structure):
    _fields_ = [
        ("loss", c_float),
        ("sum", c_double),
        ("denominator", c_double),
        ("rows", c_size_t),
        ("non_finite", c_size_t),
        ("total", _Total),
    ]


def _arrays(*names):
    """A pointer and a count for each array."""
    return [field for name in names for field in ((name, c_void_p), (name + "_count", c_size_t))]


class _Options(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("classes", c_size_t),
        ("positions", c_size_t),
        ("row_stride", c_size_t),
        *_arrays("class_weights", "sample_weights", "mislabel_costs", "class_bias", "row_upstream"),
        ("ignore_index", c_int64),
        ("has_ignore_index", c_uint32),
        ("reduction", c_uint32),
        ("zero_denominator", c_uint32),
        ("label_smoothing", c_float),
        ("focal", c_float),
        ("z_loss", c_float),
        ("temperature", c_float),
        ("upstream", c_float),
        ("logit_type", c_uint32),
        ("logit_scale", c_float),
        ("logit_zero_point", c_int32),
        ("backend", c_char_p),
        ("denominator", POINTER(c_double)),
        ("threads", c_size_t),
    ]


class _BinaryOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("labels", c_size_t),
        *_arrays("miss_costs", "false_alarm_costs", "sample_weights", "row_upstream"),
        ("reduction", c_uint32),
        ("zero_denominator", c_uint32),
        ("upstream", c_float),
        ("logit_type", c_uint32),
        ("logit_scale", c_float),
        ("logit_zero_point", c_int32),
        ("backend", c_char_p),
        ("denominator", POINTER(c_double)),
    ]


class _ClassWeightsOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("scheme", c_uint32),
        ("normalisation", c_uint32),
        ("empty_class", c_uint32),
        ("empty_class_weight", c_float),
        ("beta", c_double),
    ]


_LABEL_OUT_OF_RANGE = 4
_LOGIT_TYPES = {"int8": 1, "uint8": 2, "float16": 3, "bfloat16": 4}
_LABEL_TYPES = {"uint8": 1, "uint16": 2, "uint32": 3, "int32": 4, "int64": 5}
_SCHEMES = {
    "inverse_frequency": 1,
    "balanced": 2,
    "effective_number": 3,
    "inverse_square_root": 4,
    "median_frequency": 5,
}
_NORMALISATIONS = {None: 0, "sum": 1, "mean": 2}
_SUM, _MEAN_WEIGHT_SUM, _MEAN_ROWS = 1, 2, 3
# A loss of labels, and its gradient.
_LOGITS = ("rwwce_loss", "rwwce_loss_gradient")
_NLL = ("rwwce_loss_from_log_probabilities", "rwwce_gradient_from_log_probabilities")

_ARRAY, _LABELS = (c_void_p, c_size_t), (c_void_p, c_size_t, c_uint32)
_OUT = (POINTER(_Summary), POINTER(_Error))
# Decisions, their expected costs, and the number of rows without a decision.
_DECISIONS = (POINTER(_Options), *_ARRAY, *_ARRAY, *_ARRAY, POINTER(c_size_t), POINTER(_Error))
# Parameters after the options; each function returns a status.
_FUNCTIONS = {
    "rwwce_loss": (POINTER(_Options), *_ARRAY, *_LABELS, *_ARRAY, *_OUT),
    "rwwce_loss_gradient": (POINTER(_Options), *_ARRAY, *_LABELS, *_ARRAY, *_OUT),
    "rwwce_soft_loss": (POINTER(_Options), *_ARRAY, *_ARRAY, *_ARRAY, *_OUT),
    "rwwce_soft_gradient": (POINTER(_Options), *_ARRAY, *_ARRAY, *_ARRAY, *_OUT),
    "rwwce_loss_from_log_probabilities": (POINTER(_Options), *_ARRAY, *_LABELS, *_ARRAY, *_OUT),
    "rwwce_gradient_from_log_probabilities": (POINTER(_Options), *_LABELS, *_ARRAY, POINTER(_Error)),
    "rwwce_log_probabilities": (POINTER(_Options), *_ARRAY, *_ARRAY, POINTER(_Error)),
    "rwwce_decide": _DECISIONS,
    "rwwce_decide_from_probabilities": _DECISIONS,
    "rwwce_log_sum_exps": (POINTER(_Options), *_ARRAY, *_ARRAY, POINTER(_Error)),
    "rwwce_binary_loss": (POINTER(_BinaryOptions), *_ARRAY, *_ARRAY, *_ARRAY, *_OUT),
    "rwwce_binary_gradient": (POINTER(_BinaryOptions), *_ARRAY, *_ARRAY, *_ARRAY, *_OUT),
    "rwwce_count_labels": (*_LABELS, POINTER(c_int64), *_ARRAY, POINTER(c_uint64), POINTER(_Error)),
    "rwwce_class_weights": (POINTER(_ClassWeightsOptions), *_ARRAY, *_ARRAY, POINTER(_Error)),
}


def _load():
    named = os.environ.get("RWWCE_LIBRARY")
    name = "librwwce.dylib" if sys.platform == "darwin" else "librwwce.so"
    path = Path(named) if named else Path(__file__).resolve().parent / name
    if not path.exists():
        hint = "build it with `cargo build --release -p rwwce-capi` and set RWWCE_LIBRARY to target/release/" + name
        raise ImportError(f"the shared library of rwwce is not at {path}: {hint}, or copy it beside rwwce.py")
    library = ctypes.CDLL(str(path))
    for function, parameters in _FUNCTIONS.items():
        getattr(library, function).argtypes = parameters
        getattr(library, function).restype = c_uint32
    library.rwwce_error_message.argtypes = (POINTER(_Error), ctypes.c_char_p, c_size_t)
    library.rwwce_error_message.restype = c_size_t
    for function in ("rwwce_version", "rwwce_backend_name", "rwwce_backend_available"):
        getattr(library, function).restype = c_char_p
    library.rwwce_backend_available.argtypes = (c_size_t,)
    return library


_library = _load()
_forced = None


def _call(function, *arguments):
    """Calls a function of the library, whose last parameter is the error."""
    error = _Error()
    if getattr(_library, function)(*arguments, byref(error)) == 0:
        return
    size = _library.rwwce_error_message(byref(error), None, 0) + 1
    message = ctypes.create_string_buffer(size)
    _library.rwwce_error_message(byref(error), message, size)
    kind = IndexError if error.status == _LABEL_OUT_OF_RANGE else ValueError
    raise kind(message.value.decode())


def version():
    """The version of the library, such as "0.1.0"."""
    return _library.rwwce_version().decode()


def backend():
    """What computes: "avx512", "avx2", "neon", "sse2", "scalar" or "scalar-fma"."""
    return (_forced or _library.rwwce_backend_name()).decode()


def force_backend(name):
    """Computes with this backend from now on; with the best one again for None. For tests."""
    global _forced
    names = []
    while (found := _library.rwwce_backend_available(len(names))) is not None:
        names.append(found.decode())
    if name is not None and name not in names:
        raise ValueError(f"backend: expected one of {', '.join(names)}, found {name!r}")
    _forced = name.encode() if name is not None else None


# ---- Arrays of either kind


def _is_tensor(array):
    return torch is not None and isinstance(array, torch.Tensor)


def _on_cpu(name, tensor):
    if tensor.device.type != "cpu":
        raise ValueError(f"{name}: expected a tensor on the CPU, found one on {tensor.device}")


def _floats(name, array, exact=False):
    """The array in float32, contiguous, on the CPU: the same memory where that is so already."""
    if _is_tensor(array):
        _on_cpu(name, array)
        if array.is_complex() or exact and array.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise ValueError(f"{name}: expected float32, found {array.dtype}")
        return array.detach().to(torch.float32).contiguous()
    array = numpy.asarray(array)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name}: expected numbers, found {array.dtype}")
    return numpy.ascontiguousarray(array, dtype=numpy.float32).reshape(array.shape)


def _logits(array, scale=None, zero_point=0):
    """The logits as the library takes them, contiguous, on the CPU, and the options that say what they are."""
    _no_gradient(scale=scale)
    array = array if _is_tensor(array) else numpy.asarray(array)
    kind = str(array.dtype).removeprefix("torch.") if _is_tensor(array) else array.dtype.name
    zero_point = operator.index(zero_point)
    if scale is not None and kind not in ("int8", "uint8"):
        raise ValueError(f"scale: means nothing for input in {kind}")
    if scale is None and zero_point != 0:
        raise ValueError("zero_point: means nothing without a scale")
    if scale is None and kind not in ("float16", "bfloat16"):
        return _floats("input", array, exact=True), {}
    if _is_tensor(array):
        _on_cpu("input", array)
        array = array.detach().contiguous()
    else:
        array = numpy.ascontiguousarray(array, dtype=kind).reshape(array.shape)
    # What has no room in 32 bits is to be refused by the library as well.
    zero_point = min(max(zero_point, -(2**31)), 2**31 - 1)
    scale = 0.0 if scale is None else float(scale)
    return array, {"logit_type": _LOGIT_TYPES[kind], "logit_scale": scale, "logit_zero_point": zero_point}


def _labels(name, array):
    """The labels as the library takes them, contiguous, on the CPU."""
    if _is_tensor(array):
        _on_cpu(name, array)
        if array.is_floating_point() or array.is_complex() or array.dtype == torch.bool:
            raise ValueError(f"{name}: expected integers, found {array.dtype}")
        array = array.detach().contiguous()
        kind = str(array.dtype).removeprefix("torch.")
        return (array if kind in _LABEL_TYPES else array.to(torch.int64)), _LABEL_TYPES.get(kind, 5)
    array = numpy.asarray(array)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected integers, found {array.dtype}")
    if array.dtype == numpy.uint64 and array.size and array.max() > numpy.iinfo(numpy.int64).max:
        raise ValueError(f"{name}: the largest label does not fit in 64 bits with a sign")
    kind = array.dtype.name if array.dtype.name in _LABEL_TYPES and array.dtype.isnative else "int64"
    return numpy.ascontiguousarray(array, dtype=kind).reshape(array.shape), _LABEL_TYPES[kind]


def _count(array):
    return 0 if array is None else array.numel() if _is_tensor(array) else array.size


def _address(array):
    if array is None:
        return None
    return array.data_ptr() if _is_tensor(array) else array.ctypes.data


def _array(array):
    """Pointer and count, as arguments."""
    return _address(array), _count(array)


def _empty_like(array, shape=None):
    """A new float32 array of the same kind."""
    shape = tuple(array.shape) if shape is None else shape
    return torch.empty(shape, dtype=torch.float32) if _is_tensor(array) else numpy.empty(shape, numpy.float32)


def _scalar(like, number):
    return torch.tensor(number, dtype=torch.float32) if _is_tensor(like) else numpy.float32(number)


def _options(kind, **values):
    """A structure of options; arrays give pointer and count, and are kept alive with it."""
    options = kind(struct_size=ctypes.sizeof(kind), backend=_forced)
    options.arrays = [value for value in values.values() if hasattr(value, "shape")]
    for name, value in values.items():
        if hasattr(options, name + "_count"):
            setattr(options, name, _address(value))
            setattr(options, name + "_count", _count(value))
        else:
            setattr(options, name, value)
    return options


def _shapes(input, target, soft=False):
    """Classes and positions, and the shape of one loss a row."""
    shape = tuple(input.shape)
    if not shape:
        raise ValueError("input: expected at least 1 dimension, found 0")
    of_rows = () if len(shape) == 1 else (shape[0], *shape[2:])
    expected = shape if soft else of_rows
    if tuple(target.shape) != expected:
        raise ValueError(f"target: expected shape {expected} for input of shape {shape}, found {tuple(target.shape)}")
    positions = 1
    for size in of_rows[1:]:
        positions *= size
    return shape[0] if len(shape) == 1 else shape[1], positions, of_rows


def _reduction(name, mean):
    if name not in ("none", "mean", "sum"):
        raise ValueError(f"reduction: expected 'none', 'mean' or 'sum', found {name!r}")
    return {"none": _SUM, "sum": _SUM, "mean": mean}[name]


def _no_gradient(**arrays):
    for name, array in arrays.items():
        if _is_tensor(array) and array.requires_grad:
            raise ValueError(f"{name}: there is no gradient with respect to it; detach it")


# ---- Losses and their gradients
#
# A loss is an object, so that autograd and plain arrays take the same way: value(), and for an upstream factor
# gradient(factor) with respect to the input and, where the target is differentiable, target_gradient(factor).


class _Loss:
    """What all losses have: the input and the options for its type, the shape of one loss a row, and the way to a value."""

    def __init__(self, logits, of_rows, reduction):
        self.input, self.of_logits = logits
        self.of_rows, self.none = of_rows, reduction == "none"

    def value(self):
        rows = _empty_like(self.input, self.of_rows) if self.none else None
        summary = _Summary()
        self.losses(*_array(rows), byref(summary))
        self.denominator = summary.denominator
        return rows if self.none else _scalar(self.input, summary.loss)

    def upstream(self, factor):
        """The options for an upstream gradient."""
        if self.none:
            return {"row_upstream": _floats("upstream", factor)}
        return {"upstream": float(factor)}


class _Labelled(_Loss):
    def __init__(self, logits, target, reduction, mean, functions, **options):
        target, self.label_type = _labels("target", target)
        classes, positions, of_rows = _shapes(logits[0], target)
        super().__init__(logits, of_rows, reduction)
        self.target, self.functions = target, functions
        options |= self.of_logits
        self.of_options = dict(options, classes=classes, positions=max(positions, 1), temperature=1.0, upstream=1.0)
        self.of_options["reduction"] = _reduction(reduction, mean)

    def losses(self, *out):
        options = _options(_Options, **self.of_options)
        labels = (*_array(self.target), self.label_type)
        _call(self.functions[0], byref(options), *_array(self.input), *labels, *out)

    def gradient(self, factor):
        gradient = _empty_like(self.input)
        options = _options(_Options, **{**self.of_options, **self.upstream(factor)})
        labels = (*_array(self.target), self.label_type)
        if self.functions == _NLL:
            # It does not depend on the input.
            _call(self.functions[1], byref(options), *labels, *_array(gradient))
        else:
            _call(self.functions[1], byref(options), *_array(self.input), *labels, *_array(gradient), None)
        return gradient


class _Soft(_Loss):
    def __init__(self, logits, target, reduction, weight, label_smoothing):
        input, target = logits[0], _floats("target", target)
        if _is_tensor(input) != _is_tensor(target):
            target = torch.from_numpy(target) if _is_tensor(input) else target.numpy()
        classes, positions, of_rows = _shapes(input, target, soft=True)
        super().__init__(logits, of_rows, reduction)
        self.target, self.weight, self.label_smoothing = target, weight, label_smoothing
        self.of_options = {
            "classes": classes,
            "positions": max(positions, 1),
            "class_weights": weight,
            "label_smoothing": label_smoothing,
            "temperature": 1.0,
            "upstream": 1.0,
            "reduction": _reduction(reduction, _MEAN_ROWS),
            **self.of_logits,
        }

    def losses(self, *out):
        options = _options(_Options, **self.of_options)
        _call("rwwce_soft_loss", byref(options), *_array(self.input), *_array(self.target), *out)

    def gradient(self, factor):
        gradient = _empty_like(self.input)
        options = _options(_Options, **{**self.of_options, **self.upstream(factor)})
        arrays = (*_array(self.input), *_array(self.target), *_array(gradient))
        _call("rwwce_soft_gradient", byref(options), *arrays, None)
        return gradient

    def target_gradient(self, factor):
        """The loss is linear in the target: −w[c]·(1 − ε)·log p_c."""
        log_p = _empty_like(self.input)
        sizes = {name: self.of_options[name] for name in ("classes", "positions", "temperature")}
        options = _options(_Options, **sizes, **self.of_logits)
        _call("rwwce_log_probabilities", byref(options), *_array(self.input), *_array(log_p))
        axis = 0 if self.input.dim() == 1 else 1
        along = [1] * self.input.dim()
        along[axis] = -1
        if self.weight is not None:
            log_p = log_p * torch.as_tensor(self.weight).reshape(along)
        factor = factor.unsqueeze(axis) if self.none else factor / self.denominator
        return -(1.0 - self.label_smoothing) * factor * log_p


class _Binary(_Loss):
    def __init__(self, logits, target, reduction, weight, pos_weight):
        input, target = logits[0], _floats("target", target)
        if _is_tensor(input) != _is_tensor(target):
            target = torch.from_numpy(target) if _is_tensor(input) else target.numpy()
        shape = tuple(input.shape)
        if tuple(target.shape) != shape:
            raise ValueError(f"target: expected shape {shape} as the input has, found {tuple(target.shape)}")
        super().__init__(logits, shape, reduction)
        labels = shape[-1] if shape else 1
        if pos_weight is not None and pos_weight.size > (pos_weight.shape[-1] if pos_weight.ndim else 1):
            # It differs from row to row: every logit is a label of its own.
            labels = _count(input)
            pos_weight = _broadcast("pos_weight", pos_weight, shape).reshape(-1)
        elif pos_weight is not None:
            pos_weight = _broadcast("pos_weight", pos_weight.reshape(-1), (labels,))
        self.target = target
        self.of_options = {
            "labels": max(labels, 1),
            "miss_costs": pos_weight if _count(input) else None,
            "sample_weights": None if weight is None else _broadcast("weight", weight, shape),
            "upstream": 1.0,
            "reduction": _reduction(reduction, _MEAN_ROWS),
            **self.of_logits,
        }

    def losses(self, *out, target=None):
        options = _options(_BinaryOptions, **self.of_options)
        target = self.target if target is None else target
        _call("rwwce_binary_loss", byref(options), *_array(self.input), *_array(target), *out)

    def gradient(self, factor):
        gradient = _empty_like(self.input)
        options = _options(_BinaryOptions, **{**self.of_options, **self.upstream(factor)})
        arrays = (*_array(self.input), *_array(self.target), *_array(gradient))
        _call("rwwce_binary_gradient", byref(options), *arrays, None)
        return gradient

    def target_gradient(self, factor):
        """The loss is linear in the target: that of 1 less that of 0."""
        of_one, of_zero = _empty_like(self.input), _empty_like(self.input)
        self.losses(*_array(of_one), None, target=torch.ones_like(self.target))
        self.losses(*_array(of_zero), None, target=torch.zeros_like(self.target))
        return (of_one - of_zero) * (factor if self.none else factor / self.denominator)


class _LogSoftmax(_Loss):
    def __init__(self, logits):
        shape = tuple(logits[0].shape)
        if not shape:
            raise ValueError("input: expected at least 1 dimension, found 0")
        super().__init__(logits, shape, "none")
        self.of_options = {"classes": shape[-1], "positions": 1, "temperature": 1.0, **self.of_logits}

    def value(self):
        log_p = _empty_like(self.input)
        options = _options(_Options, **self.of_options)
        _call("rwwce_log_probabilities", byref(options), *_array(self.input), *_array(log_p))
        return log_p

    def gradient(self, factor):
        """That of the loss with target probabilities −upstream."""
        gradient = _empty_like(self.input)
        options = _options(_Options, **self.of_options, upstream=1.0, reduction=_SUM)
        targets = -_floats("upstream", factor)
        _call("rwwce_soft_gradient", byref(options), *_array(self.input), *_array(targets), *_array(gradient), None)
        return gradient


class _LogSumExp(_LogSoftmax):
    def value(self):
        sums = _empty_like(self.input, tuple(self.input.shape[:-1]))
        options = _options(_Options, **self.of_options)
        _call("rwwce_log_sum_exps", byref(options), *_array(self.input), *_array(sums))
        return sums

    def gradient(self, factor):
        return _LogSoftmax((self.input, self.of_logits)).value().exp_() * factor.unsqueeze(-1)


if torch is not None:

    class _Autograd(torch.autograd.Function):
        """A loss of the input, and of the target where that is differentiable."""

        @staticmethod
        def forward(context, input, target, loss):
            # Saved, so that autograd notices when they have been changed before the backward pass.
            context.save_for_backward(input, target)
            context.loss = loss
            value = loss.value()
            return value.to(input.dtype) if input.is_floating_point() else value

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(context, factor):
            input, target = context.saved_tensors
            loss, factor = context.loss, factor.to(torch.float32)
            of_input = loss.gradient(factor).to(input.dtype) if context.needs_input_grad[0] else None
            of_target = loss.target_gradient(factor).to(target.dtype) if context.needs_input_grad[1] else None
            return of_input, of_target, None


def _run(input, target, loss):
    if _is_tensor(input):
        return _Autograd.apply(input, target if _is_tensor(target) else None, loss)
    return loss.value()


def _broadcast(name, array, shape):
    try:
        return numpy.ascontiguousarray(numpy.broadcast_to(array, shape))
    except ValueError:
        raise ValueError(f"{name}: shape {tuple(array.shape)} does not broadcast to {tuple(shape)}") from None


def _weights(name, array):
    """Weights or costs in float32 as a NumPy array, in the same memory where they are float32."""
    if array is None:
        return None
    _no_gradient(**{name: array})
    array = _floats(name, array)
    return array.numpy() if _is_tensor(array) else array


def _class_weights(name, array):
    """Weights of the classes."""
    array = _weights(name, array)
    if array is not None and array.ndim != 1:
        raise ValueError(f"{name}: expected 1 dimension, found shape {array.shape}")
    return array


def _mislabel_costs(array):
    """What it costs to say j (column) where y (row) is true."""
    array = _weights("mislabel_costs", array)
    if array is not None and (array.ndim != 2 or array.shape[0] != array.shape[1]):
        raise ValueError(f"mislabel_costs: expected a square matrix, found shape {array.shape}")
    return array


def _is_soft(target):
    """Targets of a floating type are probabilities, as in PyTorch; never guessed from a shape."""
    if _is_tensor(target):
        return target.is_floating_point()
    return numpy.asarray(target).dtype.kind == "f"


def cross_entropy(
    input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0, *, scale=None, zero_point=0
):
    """The weighted loss −w[y]·log softmax(input)_y, as `torch.nn.functional.cross_entropy` has it.

    `input` is (C), (N, C) or (N, C, d1, …, dK). `target` holds class indices, of any integer type and without the dimension
    of the classes; or, of a floating type and shaped as the input, probabilities. "mean" divides by the sum of the
    weights of the rows that count, and by their number for probabilities. Differentiable with respect to the input, and to
    probabilities. `scale` and `zero_point` say what int8 or uint8 input stands for, as in every function that has them.
    """
    weight, logits = _class_weights("weight", weight), _logits(input, scale, zero_point)
    if _is_soft(target):
        if ignore_index >= 0:
            raise ValueError("ignore_index: means nothing together with target probabilities")
        return _run(input, target, _Soft(logits, target, reduction, weight, label_smoothing))
    options = {"class_weights": weight, "label_smoothing": label_smoothing}
    options |= {"ignore_index": ignore_index, "has_ignore_index": 1}
    return _run(input, target, _Labelled(logits, target, reduction, _MEAN_WEIGHT_SUM, _LOGITS, **options))


def nll_loss(input, target, weight=None, ignore_index=-100, reduction="mean"):
    """The loss −w[y]·input_y of log-probabilities, as `torch.nn.functional.nll_loss` has it; shapes as in `cross_entropy`."""
    options = {"class_weights": _class_weights("weight", weight), "ignore_index": ignore_index, "has_ignore_index": 1}
    log_probabilities = _floats("input", input, exact=True), {}
    return _run(input, target, _Labelled(log_probabilities, target, reduction, _MEAN_WEIGHT_SUM, _NLL, **options))


def real_world_weight_cross_entropy(
    input, target, miss_costs, mislabel_costs, reduction="mean", ignore_index=-100, *, scale=None, zero_point=0
):
    """The loss −fn[y]·log p_y − Σ_{j≠y} fp[y,j]·log(1 − p_j) of Ho & Wookey (2020).

    `miss_costs` (C) says what it costs to miss each class, `mislabel_costs` (C, C) what it costs to say j (column) where y
    (row) is true; both are at least 0, and the diagonal is 0. Shapes of `input` and `target` as in `cross_entropy`, with class
    indices; "mean" divides by the number of rows that count.
    """
    costs = {"mislabel_costs": _mislabel_costs(mislabel_costs)}
    options = {"class_weights": _class_weights("miss_costs", miss_costs), **costs}
    options |= {"ignore_index": ignore_index, "has_ignore_index": 1}
    logits = _logits(input, scale, zero_point)
    return _run(input, target, _Labelled(logits, target, reduction, _MEAN_ROWS, _LOGITS, **options))


def binary_cross_entropy_with_logits(
    input, target, weight=None, pos_weight=None, reduction="mean", *, scale=None, zero_point=0
):
    """The binary loss, as `torch.nn.functional.binary_cross_entropy_with_logits` has it, for targets in [0, 1].

    `weight` and `pos_weight` are at least 0 and broadcast to the input. Differentiable with respect to input and target.
    """
    weight, pos_weight = _weights("weight", weight), _weights("pos_weight", pos_weight)
    return _run(input, target, _Binary(_logits(input, scale, zero_point), target, reduction, weight, pos_weight))


def log_softmax(input, *, scale=None, zero_point=0):
    """log softmax over the last axis, exact also where the probability is near 1."""
    return _run(input, None, _LogSoftmax(_logits(input, scale, zero_point)))


def log_sum_exp(input, *, scale=None, zero_point=0):
    """log Σ exp over the last axis."""
    return _run(input, None, _LogSumExp(_logits(input, scale, zero_point)))


def decide(input, miss_costs=None, mislabel_costs=None, *, probabilities=False, scale=None, zero_point=0):
    """The class of least expected cost of each row, argmin_j Σ_{y≠j} p_y·(fn[y] + fp[y,j]), and that cost.

    `input` is (C), (N, C) or (N, C, d1, …, dK): logits, p = softmax(input), or with `probabilities` p itself. The miss costs fn
    are 1 where they are not given, the mislabel costs fp 0, so that without costs the largest logit decides; ties go to the
    lowest index. Returns the decisions in int64, without the dimension of the classes, and their expected costs in float32. A row
    that has no probabilities (a NaN, several +∞, −∞ throughout) gets −1 and NaN. There is no gradient.
    """
    if probabilities and scale is not None:
        raise ValueError("scale: means nothing for probabilities")
    array, of_logits = (_floats("input", input, exact=True), {}) if probabilities else _logits(input, scale, zero_point)
    shape = tuple(array.shape)
    of_rows = () if len(shape) == 1 else (*shape[:1], *shape[2:])
    classes, positions, _ = _shapes(array, numpy.empty(of_rows))
    decisions, costs = numpy.empty(of_rows, numpy.uint32), _empty_like(array, of_rows)
    options = _options(
        _Options,
        classes=classes,
        positions=max(positions, 1),
        class_weights=_class_weights("miss_costs", miss_costs),
        mislabel_costs=_mislabel_costs(mislabel_costs),
        temperature=1.0,
        **of_logits,
    )
    function = "rwwce_decide_from_probabilities" if probabilities else "rwwce_decide"
    _call(function, byref(options), *_array(array), *_array(decisions), *_array(costs), None)
    # The number that stands for none has every bit set.
    decisions = decisions.view(numpy.int32).astype(numpy.int64)
    return torch.from_numpy(decisions) if _is_tensor(array) else decisions, costs


def class_weights(labels, classes, scheme="balanced", beta=0.999, normalisation=None, empty_class=None, ignore_index=-100):
    """The weight of each class, (C), from the labels of a data set: n samples, n_c of them of class c.

    | scheme | weight |
    |---|---|
    | "balanced" | n / (C·n_c), as in scikit-learn |
    | "inverse_frequency" | n / n_c |
    | "inverse_square_root" | √(n / n_c) |
    | "median_frequency" | median of the counts / n_c |
    | "effective_number" | (1 − β) / (1 − β^n_c), `beta` in [0, 1) |

    `normalisation` is None, "sum" or "mean" of the classes with samples. A class without samples is an error unless
    `empty_class` is its weight. Labels that are `ignore_index` are left out.
    """
    if scheme not in _SCHEMES:
        raise ValueError(f"scheme: expected one of {', '.join(_SCHEMES)}, found {scheme!r}")
    if normalisation not in _NORMALISATIONS:
        raise ValueError(f"normalisation: expected None, 'sum' or 'mean', found {normalisation!r}")
    if classes < 0:
        raise ValueError(f"classes: expected at least 1, found {classes}")
    array, label_type = _labels("labels", labels)
    counts, ignored = numpy.empty(classes, numpy.uint64), c_int64(ignore_index)
    _call("rwwce_count_labels", *_array(array), label_type, byref(ignored), *_array(counts), None)
    options = _options(
        _ClassWeightsOptions,
        scheme=_SCHEMES[scheme],
        normalisation=_NORMALISATIONS[normalisation],
        empty_class=0 if empty_class is None else 1,
        empty_class_weight=0.0 if empty_class is None else empty_class,
        beta=beta,
    )
    weights = _empty_like(array, (classes,))
    _call("rwwce_class_weights", byref(options), *_array(counts), *_array(weights))
    return weights
