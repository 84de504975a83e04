"""Cost-sensitive softmax cross-entropy for PyTorch tensors and NumPy arrays, on the CPU.

    import torch, rwwce
    weights = rwwce.class_weights(labels, classes=10, scheme="inverse_frequency")
    loss = rwwce.cross_entropy(logits, labels, weight=weights)
    loss.backward()

Arguments have the names of those in `torch.nn.functional`, but not all of the positions: the functions have no
`size_average` and `reduce`. Pass what comes after `weight` by keyword. `rwwce.nn` has the modules. Logits are
float32, float16 or bfloat16, or int8 or uint8 with a `scale`, which are dequantised to scale·(q − zero_point).
Contiguous logits are read without a copy; the kernel computes in float32. A float64 tensor is an error, since its
precision would be lost. NumPy arrays of other types and lists are rounded to float32, as are weights and costs of any
type. The result is a tensor if the input is one, of the input's dtype if that is floating (float32 under autocast),
else float32 in NumPy.

Invalid arguments raise ValueError, a label out of range IndexError, with the message of the library.
"""

from ._losses import (
    backend,
    backends,
    binary_cross_entropy_with_logits,
    class_weights,
    cross_entropy,
    curvature,
    decide,
    force_backend,
    log_softmax,
    log_sum_exp,
    nll_loss,
    real_world_weight_cross_entropy,
    set_threads,
    threads,
    value_and_grad,
    version,
    weigh,
)
from ._numpy import Weights

__all__ = [
    "Weights",
    "backend",
    "backends",
    "binary_cross_entropy_with_logits",
    "class_weights",
    "cross_entropy",
    "curvature",
    "decide",
    "force_backend",
    "log_softmax",
    "log_sum_exp",
    "nll_loss",
    "real_world_weight_cross_entropy",
    "set_threads",
    "threads",
    "value_and_grad",
    "version",
    "weigh",
]
