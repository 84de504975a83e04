"""Softmax cross-entropy whose mistakes carry the costs that they have in the world, for PyTorch and NumPy.

    import torch, rwwce
    weights = rwwce.class_weights(labels, classes=10, scheme="inverse_frequency")
    loss = rwwce.cross_entropy(logits, labels, weight=weights)
    loss.backward()

The functions take what their namesakes of `torch.nn.functional` take, and `rwwce.nn` has the modules. Logits are float32,
float16 or bfloat16 on the CPU, or int8 or uint8, which stand for scale·(q − zero_point) where a `scale` is given. They are
read where they are, without a copy, if they are contiguous, and computed with in float32. A float64 tensor is refused,
since it promises digits that a float32 kernel does not have. Weights and costs may be anything that holds numbers; so may
logits that are not tensors: other NumPy arrays and lists are rounded to float32. The result is a tensor where the input is
one, of its type if that is floating (of float32 under autocast), else a NumPy array.

Bad arguments raise ValueError, and IndexError for a label out of range, with the message of the library.
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
