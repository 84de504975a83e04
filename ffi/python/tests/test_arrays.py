"""NumPy arrays without PyTorch: gradients, curvature, weights, threads."""

import os
import subprocess
import sys
import unittest

import numpy
import rwwce


def softmax(x):
    e = numpy.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class Arrays(unittest.TestCase):
    def setUp(self):
        rng = numpy.random.default_rng(0)
        self.x = rng.standard_normal((6, 4)).astype(numpy.float32) * 2
        self.y = numpy.array([0, 1, 2, 3, -100, 1])
        self.weight = rng.random(4).astype(numpy.float32) + 0.2
        self.costs = rng.random((4, 4)).astype(numpy.float32)
        numpy.fill_diagonal(self.costs, 0)
        self.counts = self.y >= 0
        # Any class for the rows that do not count.
        self.classes = self.y * self.counts

    def close(self, found, expected, tolerance=1e-5):
        numpy.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)

    def test_value_and_gradient_of_labels(self):
        own = self.weight.astype(float)[self.classes] * self.counts
        gradient = own[:, None] * (softmax(self.x.astype(float)) - numpy.eye(4)[self.classes])
        losses = own * -numpy.log(softmax(self.x.astype(float)))[numpy.arange(6), self.classes]
        value, found = rwwce.value_and_grad(rwwce.cross_entropy, self.x, self.y, weight=self.weight, upstream=3.0)
        self.close(value, losses.sum() / own.sum())
        self.close(found, 3 * gradient / own.sum())
        self.assertEqual((value.dtype, found.dtype), (numpy.float32, numpy.float32))
        factors = numpy.arange(6.0)
        rows, found = rwwce.value_and_grad(
            rwwce.cross_entropy, self.x, self.y, self.weight, reduction="none", upstream=factors
        )
        self.close(rows, losses)
        self.close(found, factors[:, None] * gradient)
        with self.assertRaisesRegex(ValueError, r"upstream: expected shape \(6,\), found \(5,\)"):
            rwwce.value_and_grad(rwwce.cross_entropy, self.x, self.y, reduction="none", upstream=factors[1:])

    def test_log_probabilities_of_any_type(self):
        logs = numpy.log(softmax(self.x[:4])).astype(numpy.float16)
        y = numpy.array([0, 1, 2, 3])
        for kind in (numpy.float16, numpy.float32, numpy.float64):
            value, gradient = rwwce.value_and_grad(rwwce.nll_loss, logs.astype(kind), y, reduction="sum")
            self.close(value, -logs[y, y].astype(float).sum())
            self.close(gradient, -numpy.eye(4))

    def test_gradients_against_differences(self):
        q = softmax(self.x[::-1]).astype(numpy.float32)
        for loss, target, options in [
            (rwwce.cross_entropy, q, {"label_smoothing": 0.1}),
            (rwwce.cross_entropy, self.y, {"focal": 2.0, "z_loss": 0.1, "temperature": 2.0, "class_bias": self.weight}),
            (rwwce.nll_loss, self.y, {"weight": self.weight}),
            (rwwce.binary_cross_entropy_with_logits, q, {"pos_weight": self.weight}),
            (rwwce.real_world_weight_cross_entropy, self.y, {"miss_costs": self.weight, "mislabel_costs": self.costs}),
        ]:
            with self.subTest(loss.__name__):
                _, gradient = rwwce.value_and_grad(loss, self.x, target, reduction="sum", **options)
                step = numpy.zeros_like(self.x)
                step[2, 1] = 2.0**-6
                above, below = (loss(x, target, reduction="none", **options) for x in (self.x + step, self.x - step))
                self.close(gradient[2, 1], (above.astype(float) - below).sum() * 2**5, 1e-3)

    def test_curvature(self):
        p = softmax(self.x.astype(float))
        own = self.weight.astype(float)[self.classes] * self.counts
        found = rwwce.curvature(rwwce.cross_entropy, self.x, self.y, weight=self.weight, upstream=2.0)
        self.close(found, 2 * (own[:, None] * p * (1 - p)) / own.sum())
        arguments = (self.x, self.y, self.weight, self.costs)
        diagonal, bound = (
            rwwce.curvature(rwwce.real_world_weight_cross_entropy, *arguments, reduction="sum", bound=bound)
            for bound in (False, True)
        )
        self.assertTrue((bound >= diagonal).all())
        own, costs = (self.weight[self.classes] * self.counts)[:, None], self.costs[self.classes] * self.counts[:, None]
        of_others = (costs * p).sum(1, keepdims=True) - costs * p
        self.close(bound, 2 * p * ((own + costs) * (1 - p) + of_others))
        t, s = numpy.ones((6, 4), numpy.float32), 1 / (1 + numpy.exp(-self.x.astype(float)))
        found = rwwce.curvature(rwwce.binary_cross_entropy_with_logits, self.x, t, reduction="sum")
        self.close(found, s * (1 - s))
        for loss, options in [(rwwce.nll_loss, {}), (rwwce.cross_entropy, {"focal": 1.0})]:
            with self.assertRaises(ValueError):
                rwwce.curvature(loss, self.x, self.y, **options)

    def test_parts_of_a_batch_have_its_gradient(self):
        whole = rwwce.weigh(rwwce.cross_entropy, self.x.shape, self.y, self.weight)
        self.close(whole.weight_sum, (self.weight[self.classes] * self.counts).sum())
        self.assertEqual((whole.sample_weight_sum, whole.rows, whole.rows_times_classes), (5.0, 5, 20))
        value, gradient = rwwce.value_and_grad(rwwce.cross_entropy, self.x, self.y, self.weight)
        parts = [
            rwwce.value_and_grad(
                rwwce.cross_entropy, self.x[rows], self.y[rows], self.weight, denominator=whole.weight_sum
            )
            for rows in (slice(0, 2), slice(2, 6))
        ]
        self.close(sum(loss for loss, _ in parts), value)
        self.assertTrue((numpy.concatenate([of_part for _, of_part in parts]) == gradient).all())
        binary = rwwce.weigh(rwwce.binary_cross_entropy_with_logits, (2,), [1.0, 0.0], pos_weight=3.0)
        self.assertEqual(binary, (4.0, 2.0, 2, 2))

    def test_functions_that_are_no_losses_are_refused(self):
        for function in (print, rwwce.class_weights):
            with self.assertRaisesRegex(ValueError, "loss: expected a loss of this package"):
                rwwce.value_and_grad(function, self.x, self.y)
        with self.assertRaisesRegex(ValueError, "loss: there is no gradient of log_softmax here"):
            rwwce.value_and_grad(rwwce.log_softmax, self.x, 1)


class Threads(unittest.TestCase):
    def tearDown(self):
        rwwce.set_threads(1)

    def test_any_number_returns_the_same_bits(self):
        rng = numpy.random.default_rng(1)
        x, y = rng.standard_normal((40_000, 10)).astype(numpy.float32), rng.integers(0, 10, 40_000)
        alone = rwwce.value_and_grad(rwwce.cross_entropy, x, y)
        rwwce.set_threads(2)
        self.assertEqual(rwwce.threads(), 2)
        both = rwwce.value_and_grad(rwwce.cross_entropy, x, y)
        self.assertEqual(alone[0], both[0])
        self.assertTrue((alone[1] == both[1]).all())
        with self.assertRaisesRegex(ValueError, "threads: expected at least 1"):
            rwwce.set_threads(0)
        y[39_999] = 10
        with self.assertRaisesRegex(IndexError, "row 39999 has label 10"):
            rwwce.cross_entropy(x, y)

    @unittest.skipUnless(hasattr(os, "fork"), "processes do not fork here")
    def test_a_forked_process_computes(self):
        x, y = numpy.zeros((40_000, 10), numpy.float32), numpy.zeros(40_000, numpy.int64)
        rwwce.set_threads(2)
        rwwce.cross_entropy(x, y)
        child = os.fork()
        if child == 0:
            computed = rwwce.threads() == 1 and abs(rwwce.cross_entropy(x, y) - numpy.log(10)) < 1e-5
            os._exit(0 if computed else 1)
        self.assertEqual(os.waitpid(child, 0)[1], 0)


class Alone(unittest.TestCase):
    def test_other_packages_are_not_imported(self):
        program = (
            "import sys, rwwce, rwwce.boosting; rwwce.cross_entropy([[0.0, 1.0]], [0]); "
            "sys.exit(not {'torch', 'jax', 'sklearn', 'xgboost', 'lightgbm', 'scipy'}.isdisjoint(sys.modules))"
        )
        self.assertEqual(subprocess.run([sys.executable, "-c", program]).returncode, 0)


if __name__ == "__main__":
    unittest.main()
