"""Native functions, which take addresses and element counts and write losses and gradients; see `src/lib.rs`.

`usual` takes PyTorch tensors, and answers with the loss, with loss and gradient, or with None.
"""

from typing import Any, Optional, Union

Array = tuple[int, int]
LogitArray = tuple[int, int, int, float, int]
TargetArray = tuple[int, int, int]
Options = tuple[
    int,
    int,
    Optional[Array],
    Optional[Array],
    Optional[Array],
    Optional[Array],
    Optional[int],
    float,
    float,
    float,
    float,
]
BinaryOptions = tuple[int, Optional[Array], Optional[Array], Optional[Array]]
Reduced = tuple[int, Optional[float]]
Upstream = Union[float, Array]
Weighed = tuple[float, float, int, int]

version: str

def softmax(
    work: int,
    options: Options,
    input: LogitArray,
    target: TargetArray,
    reduced: Reduced,
    upstream: Upstream,
    out: Optional[Array],
    loss_out: int,
) -> tuple[float, float]: ...
def usual(
    exchange: Any, input: Any, target: Any, weight: Any, ignored: int, mean: bool, is_gradient_wanted: bool
) -> Any: ...
def decide(given: bool, options: Options, input: LogitArray, decisions: Array, costs: Array) -> None: ...
def log_probability_loss(
    work: int,
    options: Options,
    input: LogitArray,
    target: TargetArray,
    reduced: Reduced,
    upstream: Upstream,
    out: Optional[Array],
    loss_out: int,
) -> tuple[float, float]: ...
def binary(
    work: int,
    options: BinaryOptions,
    input: LogitArray,
    target: TargetArray,
    reduced: Reduced,
    upstream: Upstream,
    out: Optional[Array],
    loss_out: int,
) -> tuple[float, float]: ...
def logs(sums: bool, options: Options, input: LogitArray, out: Array) -> None: ...
def log_probabilities_gradient(options: Options, input: LogitArray, minus_upstream: Array, out: Array) -> None: ...
def weigh(options: Options, target: TargetArray) -> Weighed: ...
def weigh_binary(options: BinaryOptions, target: Array) -> Weighed: ...
def class_weights(
    labels: TargetArray,
    ignore_index: Optional[int],
    how: tuple[str, float, Optional[str], Optional[float]],
    out: Array,
) -> None: ...
def backend() -> str: ...
def backends() -> list[str]: ...
def force_backend(name: Optional[str]) -> None: ...
def set_threads(threads: int) -> None: ...
def threads() -> int: ...
def forget_threads() -> None: ...
