"""Losses for JAX against textbook formulas in JAX's operations, under jit, grad, value_and_grad and vmap."""

import doctest
import logging
import os
import unittest

import numpy
import rwwce

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compilation takes nearly all of the time of these tests.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

try:
    import jax
    import jax.numpy as jnp

    import rwwce.jax as ours
except ImportError as error:
    raise unittest.SkipTest("JAX is not installed") from error


def moved(x):
    return x if x.ndim == 1 else jnp.moveaxis(x, 1, -1)


def reduced(losses, weighs, reduction, denominator):
    if reduction == "none":
        return losses
    if denominator is not None or reduction == "sum":
        return losses.sum() / (1.0 if denominator is None else denominator)
    return losses.sum() / weighs.sum()


def textbook(
    x, y, weight=None, costs=None, reduction="mean", ignored=-100, smoothing=0.0, sample_weight=None, bias=None,
    temperature=1.0, focal=0.0, z_loss=0.0, denominator=None,
):  # fmt: skip
    """Softmax cross-entropy of class indices or target probabilities."""
    x = moved(x) / temperature
    x = x if bias is None else x + bias
    classes = x.shape[-1]
    w = jnp.ones(classes) if weight is None else weight
    log_p = jax.nn.log_softmax(x)
    soft = jnp.issubdtype(y.dtype, jnp.floating)
    if soft:
        q, rows = moved(y), jnp.ones(x.shape[:-1])
    else:
        rows = (y != ignored).astype(jnp.float32)
        y = jnp.where(y == ignored, 0, y)
        q = jax.nn.one_hot(y, classes)
    q = (1 - smoothing) * q
    hard = (w * q * -log_p * (1 - jnp.exp(log_p)) ** focal).sum(-1)
    spread = smoothing / classes * (w * -log_p).sum(-1)
    losses = hard + spread + z_loss * (w * (q + smoothing / classes)).sum(-1) * jax.nn.logsumexp(x, -1) ** 2
    if costs is not None:
        losses = losses - (costs[y] * jnp.log1p(-jnp.exp(log_p))).sum(-1)
    rows = rows if sample_weight is None else rows * sample_weight
    by_rows = soft or costs is not None
    counts = jnp.ones(rows.shape) if soft else (rows != 0)
    return reduced(rows * losses, counts if by_rows else rows * w[y], reduction, denominator)


def binary(x, t, weight=None, pos_weight=None, reduction="mean", denominator=None):
    one = 1.0 if weight is None else weight
    losses = -one * ((1.0 if pos_weight is None else pos_weight) * t * jax.nn.log_sigmoid(x) + (1 - t) * jax.nn.log_sigmoid(-x))
    return reduced(losses, jnp.ones(x.shape), reduction, denominator)


class OfJax(unittest.TestCase):
    def setUp(self):
        self.rng, self.is_eager = numpy.random.default_rng(0), True

    def floats(self, *shape):
        return jnp.asarray(self.rng.random(shape), jnp.float32)

    def close(self, found, expected, tolerance=2e-5):
        self.assertEqual(found.shape, expected.shape)
        numpy.testing.assert_allclose(
            numpy.asarray(found, numpy.float32), numpy.asarray(expected, numpy.float32), rtol=tolerance, atol=tolerance
        )

    def both(self, mine, theirs, *arguments):
        """Compares values and gradients with respect to each argument, compiled and eager."""
        of = tuple(range(len(arguments)))
        upstream = self.floats(*jax.eval_shape(mine, *arguments).shape) + 0.5

        def all_of(loss):
            weighed = lambda *arguments: (upstream * loss(*arguments)).sum()
            return lambda *arguments: (loss(*arguments), jax.value_and_grad(weighed, of)(*arguments))

        expected = jax.tree.leaves(jax.jit(all_of(theirs))(*arguments))
        # Eagerly for the first case only: compilation takes most of the time.
        for transform in (jax.jit, lambda f: f) if self.is_eager else (jax.jit,):
            for found, other in zip(jax.tree.leaves(transform(all_of(mine))(*arguments)), expected, strict=True):
                self.close(found, other)
        self.is_eager = False

    def cases(self):
        """Shapes of the input and of its rows, each with one reduction."""
        for trailing, reduction in (((), "mean"), ((2,), "sum"), ((2, 3), "none")):
            yield (5, 4, *trailing), (5, *trailing), reduction
        yield (4,), (), "none"


class Losses(OfJax):
    def test_cross_entropy_of_labels(self):
        for shape, rows, reduction in self.cases():
            x, y = self.floats(*shape) * 6 - 3, jnp.asarray(self.rng.integers(0, 4, rows))
            if rows:
                y = y.at[0].set(2)
            weight, sample, bias = self.floats(4) + 0.1, self.floats(*rows) + 0.1, self.floats(4)
            options = {"reduction": reduction, "temperature": 2.0, "z_loss": 0.1, "focal": 2.0}
            ignored = 2 if rows else -100
            self.both(
                lambda x: ours.cross_entropy(
                    x, y, weight, ignored, label_smoothing=0.2, sample_weight=sample, class_bias=bias, **options
                ),
                lambda x: textbook(
                    x, y, weight, None, ignored=ignored, smoothing=0.2, sample_weight=sample, bias=bias, **options
                ),
                x,
            )

    def test_cross_entropy_of_probabilities(self):
        for shape, rows, reduction in self.cases():
            x, weight, sample = self.floats(*shape) * 6 - 3, self.floats(4) + 0.1, self.floats(*rows) + 0.1
            q, bias = jax.nn.softmax(self.floats(*shape), 0 if len(shape) == 1 else 1), self.floats(4)
            options = {"reduction": reduction, "sample_weight": sample, "z_loss": 0.1, "temperature": 2.0}
            self.both(
                lambda x, q: ours.cross_entropy(x, q, weight, label_smoothing=0.2, class_bias=bias, **options),
                lambda x, q: textbook(x, q, weight, smoothing=0.2, bias=bias, **options),
                x,
                q,
            )

    def test_real_world_weight_cross_entropy(self):
        costs = (self.floats(4, 4) * 5) * (1 - jnp.eye(4))
        for shape, rows, reduction in self.cases():
            x, y, miss = self.floats(*shape) * 4 - 2, jnp.asarray(self.rng.integers(0, 4, rows)), self.floats(4)
            self.both(
                lambda x: ours.real_world_weight_cross_entropy(x, y, miss, costs, reduction),
                lambda x: textbook(x, y, miss, costs, reduction),
                x,
            )

    def test_binary_cross_entropy_with_logits(self):
        for weight, pos, reduction in [
            ((5, 1), (4,), "mean"),
            ((4,), (5, 4), "none"),
            ((), (), "sum"),
            (None, None, "mean"),
        ]:
            x, t = self.floats(5, 4) * 6 - 3, self.floats(5, 4)
            weights = [None if shape is None else self.floats(*shape) + 0.1 for shape in (weight, pos)]
            self.both(
                lambda x, t: ours.binary_cross_entropy_with_logits(x, t, *weights, reduction),
                lambda x, t: binary(x, t, *weights, reduction),
                x,
                t,
            )

    def test_log_probabilities(self):
        for shape, rows, reduction in self.cases():
            x, y = -self.floats(*shape), jnp.asarray(self.rng.integers(0, 4, rows))
            weight = self.floats(4) + 0.1

            def expected(x):
                own = jnp.take_along_axis(moved(x), y[..., None], -1)[..., 0]
                return reduced(-weight[y] * own, weight[y], reduction, None)

            self.both(lambda x: ours.nll_loss(x, y, weight, reduction=reduction), expected, x)

    def test_log_softmax_and_log_sum_exp(self):
        x = self.floats(3, 4, 2) * 6
        for axis in (-1, 0, 1):
            self.both(lambda x: ours.log_softmax(x, axis), lambda x: jax.nn.log_softmax(x, axis), x)
            self.both(lambda x: ours.log_sum_exp(x, axis), lambda x: jax.nn.logsumexp(x, axis), x)

    def test_decisions(self):
        x, costs = self.floats(6, 3) * 4, [[0.0, 1.0, 9.0], [4.0, 0.0, 1.0], [2.0, 2.0, 0.0]]
        expected = rwwce.decide(numpy.asarray(x), [0.0, 0.0, 0.0], costs)
        for decide in (ours.decide, jax.jit(ours.decide)):
            decisions, cost = decide(x, [0.0, 0.0, 0.0], costs)
            self.assertEqual((decisions.dtype, decisions.tolist()), (jnp.int32, expected[0].tolist()))
            self.close(cost, expected[1])
        p = jax.nn.softmax(x)
        self.assertEqual(ours.decide(p, None, costs, probabilities=True)[0].tolist(), rwwce.decide(x, None, costs)[0].tolist())
        self.close(jax.grad(lambda x: ours.decide(x)[1].sum())(x), 0 * x)

    def test_denominator(self):
        x, y = self.floats(5, 4), jnp.array([0, 1, 2, 3, 0])
        self.both(lambda x: ours.cross_entropy(x, y, denominator=7.0), lambda x: textbook(x, y, denominator=7.0), x)
        self.both(lambda x: ours.cross_entropy(x, y), lambda x: textbook(x, y), x)


class Types(OfJax):
    def test_types(self):
        x, y = self.floats(5, 4) * 4, jnp.array([0, 1, 2, 3, 0], jnp.int8)
        for kind in (jnp.float16, jnp.bfloat16):
            narrow = x.astype(kind)
            for loss in (ours.cross_entropy, ours.nll_loss):
                expected = jax.value_and_grad(loss)(narrow.astype(jnp.float32), y)
                value, gradient = jax.jit(jax.value_and_grad(loss))(narrow, y)
                self.assertEqual((value.dtype, gradient.dtype), (kind, kind))
                self.close(value, expected[0], 1e-2)
                self.close(gradient, expected[1], 1e-2)
        quantised = jnp.array([[3, -4], [0, 9]], jnp.int8)
        found = ours.cross_entropy(quantised, y[:2], scale=0.5, zero_point=1)
        self.assertEqual(found.dtype, jnp.float32)
        self.close(found, ours.cross_entropy(0.5 * (quantised.astype(jnp.float32) - 1), y[:2]))

    def test_arrays_of_numpy_and_bfloat16(self):
        x, y = numpy.asarray(self.floats(3, 4)), numpy.array([0, 1, 3])
        self.close(ours.cross_entropy(x, y), ours.cross_entropy(jnp.asarray(x), jnp.asarray(y)))
        narrow = x.astype(jnp.bfloat16)
        loss = rwwce.cross_entropy(narrow, y, weight=numpy.ones(4, jnp.bfloat16))
        self.assertEqual(loss, rwwce.cross_entropy(narrow.astype(numpy.float32), y))

    def test_exact_where_it_matters(self):
        gradient = jax.jit(jax.grad(ours.cross_entropy))(jnp.array([[17.0, 0.0, 0.0]]), jnp.array([0]))
        numpy.testing.assert_allclose(gradient, [[-8.279875e-08, 4.1399375e-08, 4.1399375e-08]], rtol=1e-6)


class Transformations(OfJax):
    def test_vmap(self):
        x, y = self.floats(3, 5, 4) * 4, jnp.asarray(self.rng.integers(0, 4, (3, 5)))
        weight = self.floats(3, 4) + 0.1
        for transform in (lambda f: f, jax.jit):
            found = transform(jax.vmap(ours.cross_entropy))(x, y, weight)
            self.close(found, jax.vmap(textbook)(x, y, weight))
            each = transform(jax.vmap(jax.grad(ours.cross_entropy), (0, None, 0)))(x, y[0], weight)
            self.close(each, jax.vmap(jax.grad(textbook), (0, None, 0))(x, y[0], weight))
            whole = transform(jax.grad(lambda x: jax.vmap(ours.cross_entropy)(x, y).sum()))(x)
            self.close(whole, jax.grad(lambda x: jax.vmap(textbook)(x, y).sum())(x))

    def test_scans_and_checkpoints(self):
        x, y = self.floats(3, 5, 4), jnp.asarray(self.rng.integers(0, 4, (3, 5)))

        def total(x, loss):
            return jax.lax.scan(lambda sum, each: (sum + loss(*each), None), 0.0, (x, y))[0]

        self.close(jax.grad(lambda x: total(x, ours.cross_entropy))(x), jax.grad(lambda x: total(x, textbook))(x))
        kept = jax.checkpoint(lambda x: ours.cross_entropy(x * x, y[0]))
        self.close(jax.grad(kept)(x[0]), jax.grad(lambda x: textbook(x * x, y[0]))(x[0]))

    def test_one_call_for_loss_and_gradient(self):
        x, y = self.floats(5, 4), jnp.array([0, 1, 2, 3, 0])
        program = str(jax.make_jaxpr(jax.value_and_grad(ours.cross_entropy))(x, y))
        self.assertEqual(program.count("pure_callback["), 1)
        # The gradient with respect to the target is computed only if asked for.
        q = jax.nn.softmax(x)
        program = str(jax.make_jaxpr(jax.grad(ours.cross_entropy))(x, q))
        self.assertIn("(True, False)", program)

    def test_training(self):
        x = jnp.asarray(self.rng.standard_normal((200, 3)), jnp.float32)
        y = (x @ jnp.array([1.0, -2.0, 0.5]) > 0).astype(jnp.int32)
        weights = jnp.zeros((3, 2))
        step = jax.jit(lambda w: w - jax.grad(lambda w: ours.cross_entropy(x @ w, y))(w))
        before = ours.cross_entropy(x @ weights, y)
        for _ in range(50):
            weights = step(weights)
        self.assertLess(ours.cross_entropy(x @ weights, y), before / 3)


class Errors(OfJax):
    def test_what_does_not_fit_is_found_when_traced(self):
        x, y, w = self.floats(5, 4), jnp.array([0, 1, 2, 3, 0]), self.floats(4)
        for message, loss in [
            (r"target: expected shape \(5,\) for input of shape \(5, 4\), found \(4,\)", lambda: ours.cross_entropy(x, y[1:])),
            (r"target: expected shape \(5, 4\)", lambda: ours.cross_entropy(x, x[:, 1:])),
            (r"weight: expected shape \(4,\), found \(3,\)", lambda: ours.cross_entropy(x, y, w[1:])),
            (r"sample_weight: expected shape \(5,\), found \(4,\)", lambda: ours.cross_entropy(x, y, sample_weight=w)),
            (r"class_bias: expected shape \(4,\), found \(3,\)", lambda: ours.cross_entropy(x, y, class_bias=w[1:])),
            (r"mislabel_costs: expected shape \(4, 4\)", lambda: ours.real_world_weight_cross_entropy(x, y, w, jnp.eye(3))),
            (r"miss_costs: expected shape \(4,\)", lambda: ours.real_world_weight_cross_entropy(x, y, w[1:], jnp.eye(4))),
            ("reduction: expected 'none', 'mean' or 'sum'", lambda: ours.cross_entropy(x, y, reduction="all")),
            ("pos_weight: shape .* does not broadcast", lambda: ours.binary_cross_entropy_with_logits(x, x, None, w[1:])),
            ("target: expected integers, found float32", lambda: ours.nll_loss(x, x)),
            ("input: expected float32, found int32", lambda: ours.cross_entropy(jnp.ones((5, 4), int), y)),
            ("scale: means nothing for input in float32", lambda: ours.cross_entropy(x, y, scale=1.0)),
            ("mislabel_costs: expected a square matrix", lambda: ours.decide(x, None, w)),
        ]:
            with self.subTest(message), self.assertRaisesRegex(ValueError, message):
                jax.eval_shape(loss)

    def test_labels_out_of_range(self):
        # JAX logs the error as well.
        logging.disable(logging.CRITICAL)
        self.addCleanup(logging.disable, logging.NOTSET)
        for transform in (lambda f: f, jax.jit):
            with self.assertRaisesRegex(Exception, "row 1 has label 9"):
                jax.block_until_ready(transform(ours.cross_entropy)(jnp.zeros((2, 3)), jnp.array([0, 9])))

    def test_arguments_by_name(self):
        x, y = self.floats(5, 4), jnp.array([0, 1, 2, 3, 0])
        self.close(ours.cross_entropy(input=x, target=y, reduction="sum"), textbook(x, y, reduction="sum"))
        with self.assertRaisesRegex(TypeError, "missing 1 required positional argument: 'target'"):
            ours.cross_entropy(x)

    def test_gradients_that_are_not_there(self):
        x, y, w = self.floats(5, 4), jnp.array([0, 1, 2, 3, 0]), self.floats(4)
        with self.assertRaisesRegex(ValueError, "weight: there is no gradient with respect to it"):
            jax.grad(lambda w: ours.cross_entropy(x, y, w))(w)
        stopped = jax.grad(lambda w: ours.cross_entropy(x, y, jax.lax.stop_gradient(w)))(w)
        self.assertEqual(stopped.tolist(), [0.0] * 4)
        with self.assertRaisesRegex(ValueError, "temperature: expected a number, found one that is traced"):
            jax.jit(lambda t: ours.cross_entropy(x, y, temperature=t))(2.0)


def load_tests(loader, tests, pattern):
    tests.addTests(doctest.DocTestSuite(ours))
    return tests


if __name__ == "__main__":
    unittest.main()
