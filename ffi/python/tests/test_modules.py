"""Modules against those of PyTorch, and doctests of the package."""

import doctest
import io
import unittest
import warnings

import rwwce
import rwwce._losses
import rwwce.nn
import torch


class Modules(unittest.TestCase):
    def close(self, found, expected):
        self.assertEqual(found.shape, expected.shape)
        self.assertTrue(torch.allclose(found, expected, atol=1e-6))

    def test_the_modules_of_pytorch(self):
        torch.manual_seed(0)
        x, y, w, t = torch.randn(5, 3), torch.randint(0, 3, (5,)), torch.rand(3), torch.rand(5, 3)
        for options in [
            {},
            {"weight": w},
            {"reduction": "sum"},
            {"reduction": "none"},
            {"size_average": False},
            {"reduce": False},
            {"size_average": True, "reduction": "none"},
        ]:
            with self.subTest(options):
                for name, input, target, more in [
                    ("CrossEntropyLoss", x, y, {"label_smoothing": 0.1, "ignore_index": 1}),
                    ("CrossEntropyLoss", x, t, {}),
                    ("NLLLoss", x.log_softmax(1), y, {"ignore_index": 2}),
                    ("BCEWithLogitsLoss", x, t, {"pos_weight": w * 2}),
                ]:
                    with warnings.catch_warnings():
                        warnings.filterwarnings("ignore", "size_average and reduce args")
                        mine, theirs = (getattr(module, name)(**options, **more) for module in (rwwce.nn, torch.nn))
                    self.close(mine(input, target), theirs(input, target))

    def test_costs_of_mislabelling(self):
        x, y, miss = torch.randn(5, 3), torch.randint(0, 3, (5,)), torch.rand(3)
        costs = torch.rand(3, 3).fill_diagonal_(0)
        loss = rwwce.nn.RealWorldWeightCrossEntropyLoss(miss, costs, ignore_index=1, reduction="sum", label_smoothing=0.1)
        expected = rwwce.real_world_weight_cross_entropy(
            x, y, miss, costs, reduction="sum", ignore_index=1, label_smoothing=0.1
        )
        self.close(loss(x, y), expected)

    def test_costs_are_saved_with_a_model(self):
        loss = rwwce.nn.CrossEntropyLoss([1, 2, 3])
        self.assertEqual(list(loss.state_dict()), ["weight"])
        kept = io.BytesIO()
        torch.save(loss.state_dict(), kept)
        kept.seek(0)
        other = rwwce.nn.CrossEntropyLoss(torch.ones(3))
        other.load_state_dict(torch.load(kept))
        self.assertEqual(other.weight.tolist(), [1.0, 2.0, 3.0])
        self.assertEqual(str(loss), "CrossEntropyLoss(ignore_index=-100, label_smoothing=0.0, reduction='mean')")


def load_tests(loader, tests, pattern):
    for module in (rwwce._losses, rwwce.nn):
        tests.addTests(doctest.DocTestSuite(module))
    return tests


if __name__ == "__main__":
    unittest.main()
