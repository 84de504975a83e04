"""PyTorch's sample inputs for its own losses, functions and modules."""

import importlib.util
import unittest
import warnings
from collections import Counter

import rwwce
import rwwce.nn
import torch

FUNCTIONS = {
    "nn.functional.cross_entropy": rwwce.cross_entropy,
    "nn.functional.nll_loss": rwwce.nll_loss,
    "nn.functional.binary_cross_entropy_with_logits": rwwce.binary_cross_entropy_with_logits,
    "log_softmax": rwwce.log_softmax,
}
MODULES = ("CrossEntropyLoss", "NLLLoss", "BCEWithLogitsLoss")
# Errors for samples that the package does not support: other dtypes, zero classes, scalar input.
REFUSED = (
    "input: expected float32, found torch.float64",
    "the number of classes is 0, expected at least 1",
    "input: expected at least 1 dimension, found 0",
)


def wide(value):
    is_float = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.detach().double().requires_grad_(value.requires_grad) if is_float else value


def leaves(sample):
    tensors = (sample.input, *sample.args)
    return [tensor for tensor in tensors if isinstance(tensor, torch.Tensor) and tensor.requires_grad]


# PyTorch's test utilities import expecttest, on which PyTorch itself does not depend.
@unittest.skipUnless(importlib.util.find_spec("expecttest"), "expecttest is not installed")
class Samples(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db
        from torch.testing._internal.common_modules import module_db

        # Without the variant of `log_softmax` with `dtype=`.
        cls.functions = {op.name: op for op in op_db if op.name in FUNCTIONS and not op.variant_test_name}
        cls.modules = {info.module_cls.__name__: info for info in module_db if info.module_cls.__name__ in MODULES}
        cls.seen = Counter()

    @classmethod
    def tearDownClass(cls):
        print(", ".join(f"{count} {what}" for what, count in sorted(cls.seen.items())))

    def close(self, found, expected, dtype):
        self.assertEqual((found.dtype, found.shape), (dtype, expected.shape))
        # The reference is float64: in half precision PyTorch's own error is larger.
        scale = expected.abs().nan_to_num(0.0, 0.0, 0.0).max().item() if expected.numel() else 0.0
        tolerance = 4 * torch.finfo(dtype).eps
        torch.testing.assert_close(
            found.double(), expected.to(dtype).double(), rtol=tolerance, atol=tolerance * (1 + scale), equal_nan=True
        )

    def refused(self, error):
        self.assertTrue(str(error).startswith(REFUSED), repr(error))
        self.seen["samples refused"] += 1

    def compare(self, ours, theirs, sample, dtype):
        try:
            found = ours(sample.input, *sample.args, **sample.kwargs)
        except ValueError as error:
            return self.refused(error)
        arguments = [wide(value) for value in (sample.input, *sample.args)]
        expected = theirs(*arguments, **{name: wide(value) for name, value in sample.kwargs.items()})
        self.close(found.detach(), expected.detach(), dtype)
        upstream = torch.rand(found.shape, dtype=dtype) + 0.5
        mine = torch.autograd.grad(found, leaves(sample), upstream)
        wanted = [value for value in arguments if isinstance(value, torch.Tensor) and value.requires_grad]
        for gradient, other in zip(mine, torch.autograd.grad(expected, wanted, upstream.double()), strict=True):
            self.close(gradient, other, dtype)
        self.seen["samples equal"] += 1

    def test_functions(self):
        torch.manual_seed(0)
        self.assertEqual(set(self.functions), set(FUNCTIONS))
        for name, ours in FUNCTIONS.items():
            op = self.functions[name]
            for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
                for number, sample in enumerate(op.sample_inputs("cpu", dtype, requires_grad=True)):
                    with self.subTest(name, dtype=dtype, number=number):
                        self.compare(ours, op.op, sample, dtype)
        self.assertGreater(self.seen["samples equal"], 300)

    def test_modules(self):
        for name in MODULES:
            for dtype in (torch.float32, torch.float64):
                info = self.modules[name]
                inputs = info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=True, training=True)
                for number, sample in enumerate(inputs):
                    made, given = sample.constructor_input, sample.forward_input
                    with self.subTest(name, dtype=dtype, number=number):
                        try:
                            found = getattr(rwwce.nn, name)(*made.args, **made.kwargs)(*given.args, **given.kwargs)
                        except ValueError as error:
                            self.refused(error)
                            continue
                        expected = info.module_cls(*made.args, **made.kwargs)(*given.args, **given.kwargs)
                        torch.testing.assert_close(found, expected, equal_nan=True)
                        self.seen["samples of modules equal"] += 1
        self.assertGreater(self.seen["samples of modules equal"], 100)


if __name__ == "__main__":
    unittest.main()
