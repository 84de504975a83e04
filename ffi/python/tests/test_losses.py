"""Losses against PyTorch for random shapes and options: `python -m unittest` in this folder."""

import math
import random
import unittest

import numpy
import rwwce
import torch
import torch.nn.functional as F
from rwwce import _numpy, _torch
from rwwce._call import Options

# Of losses and gradients in float32, against PyTorch in float64.
TOLERANCE = 2e-6


def options(random):
    return random.choice(["none", "mean", "sum"]), random.choice([0.0, 0.0, 0.1, 0.7])


def shapes(random):
    """Shapes of the input: (C), (N, C), (N, C, d1, …)."""
    classes = random.choice([1, 2, 3, 10, 33])
    if random.random() < 0.15:
        return (classes,)
    trailing = [random.randint(1, 4) for _ in range(random.choice([0, 0, 1, 2, 3]))]
    return (random.randint(1, 40), classes, *trailing)


def of_rows(shape):
    return () if len(shape) == 1 else (shape[0], *shape[2:])


def real_world_weight(x, target, miss, mislabel, reduction, ignored):
    """Real-world-weight cross-entropy by its textbook formula."""
    axis = 0 if x.dim() == 1 else 1
    p = x.softmax(axis).movedim(axis, -1)
    y = target.where(target != ignored, 0)
    own = p.gather(-1, y.unsqueeze(-1)).squeeze(-1)
    losses = -miss.double()[y] * own.log()
    losses = losses - (mislabel.double()[y] * (1 - p).where(mislabel[y] > 0, 1.0).log()).sum(-1)
    losses = losses.where(target != ignored, 0.0)
    total = losses.sum()
    return {"none": losses, "sum": total, "mean": total / (target != ignored).sum()}[reduction]


class Close(unittest.TestCase):
    def close(self, found, expected, scale=1.0):
        self.assertEqual(tuple(found.shape), tuple(expected.shape))
        found, expected = found.detach().double(), expected.detach().double()
        self.assertTrue(torch.equal(found.isnan(), expected.isnan()), f"{found} {expected}")
        error = (found - expected).abs().nan_to_num(0.0)
        bound = TOLERANCE * (expected.abs().nan_to_num(0.0) + scale)
        self.assertTrue(bool((error <= bound).all()), f"{found} {expected}")

    def both(self, ours, theirs, input, *others):
        """Compares values, and gradients with respect to the input and the others."""
        leaves = [tensor.clone().requires_grad_() for tensor in (input, *others)]
        wide = [tensor.double().requires_grad_() for tensor in (input, *others)]
        found, expected = ours(*leaves), theirs(*wide)
        self.assertEqual(found.dtype, input.dtype)
        self.close(found, expected)
        upstream = torch.randn(found.shape)
        for mine, other in zip(
            torch.autograd.grad(found, leaves, upstream), torch.autograd.grad(expected, wide, upstream.double())
        ):
            self.close(mine, other)


class Losses(Close):
    def setUp(self):
        torch.manual_seed(0)
        self.random = random.Random(0)

    def test_cross_entropy_of_labels(self):
        for _ in range(300):
            shape = shapes(self.random)
            classes = shape[0] if len(shape) == 1 else shape[1]
            input = torch.randn(shape) * self.random.choice([1, 5])
            target = torch.randint(0, classes, of_rows(shape))
            ignored = self.random.choice([-100, 0, classes - 1])
            if self.random.random() < 0.5:
                target = torch.where(torch.rand(target.shape) < 0.2, ignored, target)
            weight = None if self.random.random() < 0.4 else torch.rand(classes) + 0.1
            reduction, smoothing = options(self.random)
            if (target == ignored).all() and reduction == "mean":
                continue
            self.both(
                lambda x: rwwce.cross_entropy(x, target, weight, ignored, reduction, smoothing),
                lambda x: F.cross_entropy(
                    x, target, weight if weight is None else weight.double(), None, ignored, None, reduction, smoothing
                ),
                input,
            )

    def test_cross_entropy_of_probabilities(self):
        for _ in range(200):
            shape = shapes(self.random)
            classes = shape[0] if len(shape) == 1 else shape[1]
            input = torch.randn(shape) * 3
            target = torch.randn(shape).softmax(0 if len(shape) == 1 else 1)
            weight = None if self.random.random() < 0.4 else torch.rand(classes) + 0.1
            reduction, smoothing = options(self.random)
            self.both(
                lambda x, q: rwwce.cross_entropy(x, q, weight, reduction=reduction, label_smoothing=smoothing),
                lambda x, q: F.cross_entropy(
                    x, q, weight if weight is None else weight.double(), reduction=reduction, label_smoothing=smoothing
                ),
                input,
                target,
            )

    def test_nll_loss(self):
        for _ in range(200):
            shape = shapes(self.random)
            classes = shape[0] if len(shape) == 1 else shape[1]
            input = -torch.rand(shape) * 9
            target = torch.randint(0, classes, of_rows(shape))
            if self.random.random() < 0.5 and target.numel() > 1:
                target.view(-1)[0] = -100
            weight = None if self.random.random() < 0.4 else torch.rand(classes) + 0.1
            reduction, _ = options(self.random)
            self.both(
                lambda x: rwwce.nll_loss(x, target, weight, reduction=reduction),
                lambda x: F.nll_loss(
                    x, target, weight if weight is None else weight.double(), reduction=reduction
                ),
                input,
            )

    def test_binary_cross_entropy_with_logits(self):
        for _ in range(300):
            shape = tuple(self.random.randint(1, 6) for _ in range(self.random.choice([0, 1, 2, 3])))
            input, target = torch.randn(shape) * 4, torch.rand(shape)
            if self.random.random() < 0.5:
                target = target.round()

            def broadcast():
                kept = shape[self.random.randint(0, len(shape)) :]
                return torch.rand([self.random.choice([1, size]) for size in kept]) * 3

            weight = None if self.random.random() < 0.4 else broadcast()
            pos_weight = None if self.random.random() < 0.4 else broadcast()
            reduction, _ = options(self.random)
            double = lambda tensor: None if tensor is None else tensor.double()
            self.both(
                lambda x, t: rwwce.binary_cross_entropy_with_logits(x, t, weight, pos_weight, reduction),
                lambda x, t: F.binary_cross_entropy_with_logits(
                    x, t, double(weight), None, None, reduction, double(pos_weight)
                ),
                input,
                target,
            )

    def test_real_world_weight_cross_entropy(self):
        for _ in range(200):
            shape = shapes(self.random)
            classes = shape[0] if len(shape) == 1 else shape[1]
            input = torch.randn(shape) * 2
            target = torch.randint(0, classes, of_rows(shape))
            if self.random.random() < 0.5 and target.numel() > 1:
                target.view(-1)[0] = -100
            miss = torch.rand(classes) * 3
            mislabel = torch.rand(classes, classes) * 5
            mislabel.fill_diagonal_(0)
            reduction, _ = options(self.random)
            self.both(
                lambda x: rwwce.real_world_weight_cross_entropy(x, target, miss, mislabel, reduction),
                lambda x: real_world_weight(x, target, miss, mislabel, reduction, -100),
                input,
            )

    def test_log_softmax_and_log_sum_exp(self):
        for shape in [(1,), (7,), (3, 5), (2, 3, 40), (4, 1)]:
            input = torch.randn(shape) * 5
            self.both(rwwce.log_softmax, lambda x: x.log_softmax(-1), input)
            self.both(rwwce.log_sum_exp, lambda x: x.logsumexp(-1), input)

    def narrow(self, ours, theirs, input, *others):
        """Compares values and gradients of half-precision and quantised input with PyTorch in float64."""
        for dtype in [torch.float16, torch.bfloat16]:
            half = input.to(dtype)
            leaves = [half.clone().requires_grad_(), *(tensor.clone().requires_grad_() for tensor in others)]
            same = [tensor.detach().float().requires_grad_() for tensor in leaves]
            wide = [tensor.detach().double().requires_grad_() for tensor in leaves]
            found, widened, expected = ours(*leaves), ours(*same), theirs(*wide)
            self.assertEqual(found.dtype, dtype)
            self.close(widened, expected)
            # The loss is rounded once, from float32 to the type of the input.
            self.assertTrue(torch.equal(found, widened.to(dtype)))
            upstream = torch.randn(found.shape).to(dtype)
            gradients = torch.autograd.grad(found, leaves, upstream)
            in_full = torch.autograd.grad(widened, same, upstream.float())
            for mine, full, other in zip(gradients, in_full, torch.autograd.grad(expected, wide, upstream.double())):
                self.close(full, other)
                self.assertTrue(torch.equal(mine, full.to(mine.dtype)))
            self.assertEqual(gradients[0].dtype, dtype)
            if dtype == torch.float16:
                in_numpy = ours(half.numpy(), *(tensor.numpy() for tensor in others))
                self.assertTrue(torch.equal(torch.as_tensor(in_numpy), widened.detach()))
        for dtype, zero_point in [(torch.int8, self.random.randint(-128, 127)), (torch.uint8, self.random.randint(0, 255))]:
            scale = self.random.choice([0.25, 0.07])
            limits = torch.iinfo(dtype)
            quantised = (input / scale + zero_point).round().clamp(limits.min, limits.max).to(dtype)
            # Dequantised with one rounding, as in the library.
            numbers = torch.tensor(scale) * (quantised.float() - zero_point)
            leaves = [tensor.clone().requires_grad_() for tensor in others]
            found = ours(quantised, *leaves, scale=scale, zero_point=zero_point)
            self.assertEqual(found.dtype, torch.float32)
            self.close(found, theirs(numbers.double(), *(tensor.double() for tensor in others)))
            self.assertTrue(torch.equal(found, ours(numbers, *others)))
            in_numpy = (quantised.numpy(), *(tensor.numpy() for tensor in others))
            in_numpy = ours(*in_numpy, scale=numpy.float32(scale), zero_point=numpy.int64(zero_point))
            self.assertTrue(torch.equal(torch.as_tensor(in_numpy), found.detach()))
            if others:
                wide = [tensor.double().requires_grad_() for tensor in others]
                expected = theirs(numbers.double(), *wide)
                upstream = torch.randn(found.shape)
                gradients = torch.autograd.grad(found, leaves, upstream)
                for mine, other in zip(gradients, torch.autograd.grad(expected, wide, upstream.double())):
                    self.close(mine, other)

    def test_narrow_input(self):
        for _ in range(40):
            shape = shapes(self.random)
            classes = shape[0] if len(shape) == 1 else shape[1]
            axis = 0 if len(shape) == 1 else 1
            input, weight = torch.randn(shape) * 4, torch.rand(classes) + 0.1
            target, soft = torch.randint(0, classes, of_rows(shape)), torch.randn(shape).softmax(axis)
            reduction, smoothing = options(self.random)
            self.narrow(
                lambda x, **of_integers: rwwce.cross_entropy(x, target, weight, -100, reduction, smoothing, **of_integers),
                lambda x: F.cross_entropy(x, target, weight.double(), None, -100, None, reduction, smoothing),
                input,
            )
            self.narrow(
                lambda x, q, **of_integers: rwwce.cross_entropy(
                    x, q, weight, reduction=reduction, label_smoothing=smoothing, **of_integers
                ),
                lambda x, q: F.cross_entropy(x, q, weight.double(), reduction=reduction, label_smoothing=smoothing),
                input,
                soft,
            )
            self.narrow(
                lambda x, t, **of_integers: rwwce.binary_cross_entropy_with_logits(x, t, reduction=reduction, **of_integers),
                lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction=reduction),
                input,
                torch.rand(shape),
            )
            mislabel = 1 - torch.eye(classes)
            self.narrow(
                lambda x, **of_integers: rwwce.real_world_weight_cross_entropy(
                    x, target, weight, mislabel, reduction, **of_integers
                ),
                lambda x: real_world_weight(x, target, weight, mislabel, reduction, -100),
                input,
            )
            self.narrow(rwwce.log_softmax, lambda x: x.log_softmax(-1), input)
            self.narrow(rwwce.log_sum_exp, lambda x: x.logsumexp(-1), input)

    def test_gradients_against_differences(self):
        # The loss is part of a longer graph, so that the upstream factor is not 1.
        input = torch.randn(4, 3, requires_grad=True)
        target = torch.tensor([0, 2, 1, 1])
        (rwwce.cross_entropy(input * 2.0, target) * 3.0).backward()
        expected = torch.autograd.grad(F.cross_entropy(input * 2.0, target) * 3.0, input)[0]
        self.close(input.grad, expected)

    def test_modules_train(self):
        torch.manual_seed(1)
        x = torch.randn(200, 5)
        y = (x[:, 0] + x[:, 1] > 0).long()
        model = torch.nn.Linear(5, 2)
        optimizer = torch.optim.SGD(model.parameters(), 0.5)
        losses = []
        for _ in range(50):
            optimizer.zero_grad()
            loss = rwwce.cross_entropy(model(x), y, weight=rwwce.class_weights(y, 2))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        self.assertLess(losses[-1], 0.5 * losses[0])


class Layouts(Close):
    def test_what_is_not_contiguous(self):
        input, target = torch.randn(10, 6)[:, ::2].requires_grad_(), torch.tensor([0, 1, 2, 0, 1] * 4)[::2]
        self.close(rwwce.cross_entropy(input, target), F.cross_entropy(input, target))
        half, target = torch.randn(4, 6).half()[:, ::2], torch.tensor([0, 1, 2, 0])
        self.assertEqual(rwwce.cross_entropy(half, target), rwwce.cross_entropy(half.contiguous(), target))
        image = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last).requires_grad_()
        target = torch.randint(0, 3, (2, 4, 5))
        rwwce.cross_entropy(image, target).backward()
        self.close(image.grad, torch.autograd.grad(F.cross_entropy(image, target), image)[0])

    def test_no_copy_of_contiguous_memory(self):
        tensor, array = torch.randn(3, 4), numpy.ones((3, 4), numpy.float32)
        plain, quantised = Options("labels"), Options("labels", scale=0.5, zero_point=3)
        self.assertEqual(_torch._floats("x", tensor).place[0], tensor.data_ptr())
        self.assertEqual(_numpy.floats("x", array).place[0], array.ctypes.data)
        for narrow in [tensor.half(), tensor.bfloat16()]:
            self.assertEqual(_torch._logits(plain, narrow).place[0], narrow.data_ptr())
        half = array.astype(numpy.float16)
        self.assertEqual(_numpy.logits(plain, half).place[0], half.ctypes.data)
        integers = tensor.to(torch.int8)
        self.assertEqual(_torch._logits(quantised, integers).place[0], integers.data_ptr())
        integers = array.astype(numpy.uint8)
        self.assertEqual(_numpy.logits(quantised, integers).place[0], integers.ctypes.data)
        labels = numpy.zeros(3, numpy.uint8)
        self.assertEqual(_numpy.labels("y", labels).place[0], labels.ctypes.data)

    def test_numpy(self):
        rng = numpy.random.default_rng(0)
        logits = rng.standard_normal((5, 3)).astype(numpy.float32)
        expected = F.cross_entropy(torch.from_numpy(logits), torch.tensor([0, 1, 2, 2, 1])).item()
        for kind in ["u1", "u2", "u4", "i4", "i8", "i2", "u8", ">i4"]:
            found = rwwce.cross_entropy(logits, numpy.array([0, 1, 2, 2, 1], kind))
            self.assertIsInstance(found, numpy.float32)
            self.assertAlmostEqual(found, expected, places=6)
        rows = rwwce.cross_entropy(logits.tolist(), [0, 1, 2, 2, 1], reduction="none")
        self.assertEqual((rows.shape, rows.dtype), ((5,), numpy.float32))
        self.assertAlmostEqual(float(rows.mean()), expected, places=6)
        soft = rwwce.cross_entropy(logits, numpy.eye(3, dtype=numpy.float32)[[0, 1, 2, 2, 1]])
        self.assertAlmostEqual(soft, expected, places=6)
        self.assertAlmostEqual(float(rwwce.log_sum_exp(logits)[0]), math.log(numpy.exp(logits[0]).sum()), places=5)
        self.assertEqual(rwwce.log_softmax(logits).shape, (5, 3))
        half = logits.astype(numpy.float16)
        self.assertTrue((rwwce.log_sum_exp(half) == rwwce.log_sum_exp(half.astype(">f2"))).all())
        t = rng.random((5, 3)).astype(numpy.float32)
        self.assertAlmostEqual(
            rwwce.binary_cross_entropy_with_logits(logits, t),
            F.binary_cross_entropy_with_logits(torch.from_numpy(logits), torch.from_numpy(t)).item(),
            places=6,
        )

    def test_half_precision(self):
        target = torch.tensor([0, 2])
        for dtype in [torch.float16, torch.bfloat16]:
            input = torch.randn(2, 3).to(dtype).requires_grad_()
            found = rwwce.cross_entropy(input, target)
            found.backward()
            self.assertEqual((found.dtype, input.grad.dtype), (dtype, dtype))
            expected = F.cross_entropy(input.detach().float(), target)
            self.assertEqual(found.item(), expected.to(dtype).item())

    def test_empty_batches(self):
        empty, none = torch.empty(0, 3), torch.empty(0, dtype=torch.int64)
        self.assertTrue(math.isnan(rwwce.cross_entropy(empty, none)))
        self.assertEqual(rwwce.cross_entropy(empty, none, reduction="sum").item(), 0.0)
        self.assertEqual(tuple(rwwce.cross_entropy(empty, none, reduction="none").shape), (0,))
        ignored = torch.tensor([-100, -100])
        self.assertTrue(math.isnan(rwwce.cross_entropy(torch.randn(2, 3), ignored)))


def expected_costs(p, miss, mislabel):
    """Expected costs Σ_{y≠j} p_y·(fn[y] + fp[y,j]) of each class j; the classes are the last axis."""
    classes = p.shape[-1]
    cost = torch.zeros(classes, classes, dtype=torch.float64)
    cost += 1.0 if miss is None else miss.double().unsqueeze(1)
    cost += 0.0 if mislabel is None else mislabel.double()
    return p @ cost.fill_diagonal_(0)


class Decisions(Close):
    def test_no_class_costs_less(self):
        torch.manual_seed(0)
        chooser = random.Random(0)
        for _ in range(300):
            shape = shapes(chooser)
            axis, classes = (0, shape[0]) if len(shape) == 1 else (1, shape[1])
            input = torch.randn(shape) * chooser.choice([1, 5])
            miss = None if chooser.random() < 0.4 else torch.rand(classes) * 10
            mislabel = None if chooser.random() < 0.4 else (torch.rand(classes, classes) * 5).fill_diagonal_(0)
            given = chooser.random() < 0.3
            p = input.double().softmax(axis)
            input = p.float() if given else input
            decisions, costs = rwwce.decide(input, miss, mislabel, probabilities=given)
            self.assertEqual((decisions.dtype, tuple(decisions.shape)), (torch.int64, of_rows(shape)))
            expected = expected_costs(p.movedim(axis, -1), miss, mislabel)
            self.close(costs, expected.gather(-1, decisions.unsqueeze(-1)).squeeze(-1))
            self.close(costs, expected.amin(-1))
            in_numpy = rwwce.decide(input.numpy(), miss, mislabel, probabilities=given)
            self.assertEqual((in_numpy[0].dtype, in_numpy[1].dtype), (numpy.int64, numpy.float32))
            self.assertTrue((in_numpy[0] == decisions.numpy()).all() and (in_numpy[1] == costs.numpy()).all())

    def test_without_costs_the_largest_logit_decides(self):
        input = torch.randn(50, 7, 3).requires_grad_()
        self.assertTrue(torch.equal(rwwce.decide(input)[0], input.argmax(1)))
        for dtype in [torch.float16, torch.bfloat16]:
            half = input.detach().to(dtype)
            self.assertTrue(torch.equal(rwwce.decide(half)[0], rwwce.decide(half.float())[0]))
        integers = torch.tensor([[-5, 3], [7, -2]], dtype=torch.int8)
        self.assertEqual(rwwce.decide(integers, [1.0, 1.0], scale=0.1, zero_point=4)[0].tolist(), [1, 0])

    def test_rows_without_a_decision(self):
        rows = [[math.nan, 0.0], [math.inf, math.inf], [-math.inf, -math.inf], [math.inf, 0.0], [0.0, 1.0]]
        decisions, costs = rwwce.decide(rows, [1.0, 20.0])
        self.assertEqual(decisions.tolist(), [-1, -1, -1, 0, 1])
        self.assertEqual(numpy.isnan(costs).tolist(), [True, True, True, False, False])
        self.assertEqual(rwwce.decide([[0.5, -0.5], [0.5, 0.5]], probabilities=True)[0].tolist(), [-1, 0])
        self.assertEqual(tuple(rwwce.decide(torch.empty(0, 3))[0].shape), (0,))
        self.assertEqual(rwwce.decide([0.0, 5.0])[0].shape, ())


class BetterThanTheOther(unittest.TestCase):
    def test_confident_rows_keep_their_loss_and_gradient(self):
        input = torch.tensor([[17.0, 0.0, 0.0]], requires_grad=True)
        loss = rwwce.cross_entropy(input, torch.tensor([0]))
        loss.backward()
        self.assertAlmostEqual(loss.item(), 8.279875e-8, delta=1e-14)
        self.assertAlmostEqual(input.grad[0, 0].item(), -8.279874e-8, delta=1e-14)

    def test_what_weighs_nothing_spoils_nothing(self):
        input = torch.tensor([[math.inf, 0.0], [0.0, 0.0]])
        loss = rwwce.cross_entropy(input, torch.tensor([1, 0]), weight=torch.tensor([1.0, 0.0]))
        self.assertEqual(loss.item(), torch.tensor(2.0).log().item())


class Errors(unittest.TestCase):
    def refused(self, kind, message, function, *arguments, **options):
        with self.assertRaises(kind) as caught:
            function(*arguments, **options)
        self.assertIn(message, str(caught.exception))

    def test_messages(self):
        x, y = torch.zeros(2, 3), torch.tensor([0, 1])
        loss = rwwce.cross_entropy
        self.refused(IndexError, "labels: row 1 has label 3, expected 0 to 2", loss, x, torch.tensor([0, 3]))
        self.refused(IndexError, "labels: row 0 has label -1, expected 0 to 2", loss, x, torch.tensor([-1, 0]))
        self.refused(ValueError, "target: expected shape (2,) for input of shape (2, 3), found (3,)", loss, x, y.new_zeros(3))
        self.refused(ValueError, "target: expected shape (2,)", loss, x, y.unsqueeze(1))
        self.refused(ValueError, "target: expected shape (2, 3)", loss, x, torch.rand(3, 2))
        self.refused(ValueError, "class weights: expected 3 elements, found 2", loss, x, y, torch.ones(2))
        self.refused(ValueError, "class weights: the number at index 1 is not finite", loss, x, y, [1.0, math.nan, 1.0])
        self.refused(ValueError, "weight: expected 1 dimension", loss, x, y, torch.ones(3, 1))
        self.refused(ValueError, "label smoothing: expected a number in [0, 1]", loss, x, y, label_smoothing=2.0)
        self.refused(ValueError, "reduction: expected", loss, x, y, reduction="average")
        self.refused(ValueError, "input: expected float32, found torch.float64", loss, x.double(), y)
        self.refused(ValueError, "input: expected at least 1 dimension", loss, torch.tensor(1.0), y)
        self.refused(ValueError, "number of classes is 0", loss, torch.zeros(2, 0), y)
        self.refused(ValueError, "means nothing together with target probabilities", loss, x, torch.rand(2, 3), None, 0)
        self.refused(ValueError, "weight: there is no gradient", loss, x, y, torch.ones(3, requires_grad=True))
        self.refused(ValueError, "target: expected integers, found torch.bool", loss, x, torch.tensor([True, False]))
        integers = torch.zeros(2, 3, dtype=torch.uint8)
        self.refused(ValueError, "input: expected float32, found torch.uint8", loss, integers, y)
        self.refused(ValueError, "scale: expected a finite number above 0", loss, integers, y, scale=0.0)
        for zero_point in [-1, 256, 2**32, -(2**64)]:
            options = {"scale": 1.0, "zero_point": zero_point}
            self.refused(ValueError, "zero point: expected an integer of the type of the logits", loss, integers, y, **options)
        self.refused(ValueError, "zero_point: means nothing without a scale", loss, x, y, zero_point=1)
        self.refused(ValueError, "scale: means nothing for input in float32", loss, x, y, scale=1.0)
        self.refused(ValueError, "scale: means nothing for input in float16", loss, x.half(), y, scale=1.0)
        self.refused(ValueError, "scale: means nothing for input in int64", rwwce.log_sum_exp, [1, 2], scale=1.0)
        self.refused(TypeError, "", loss, integers, y, scale=1.0, zero_point=0.5)
        costs = torch.ones(3, 3)
        rwwce_loss = rwwce.real_world_weight_cross_entropy
        self.refused(ValueError, "the cost of naming class 0 where it is true is not 0", rwwce_loss, x, y, torch.ones(3), costs)
        self.refused(ValueError, "mislabel_costs: expected a square matrix", rwwce_loss, x, y, torch.ones(3), costs[:2])
        decide = rwwce.decide
        self.refused(ValueError, "class weights: expected 3 elements, found 2", decide, x, torch.ones(2))
        self.refused(ValueError, "class weights: the number at index 1 is negative", decide, x, [1.0, -1.0, 1.0])
        self.refused(ValueError, "mislabel_costs: expected a square matrix", decide, x, None, costs[:2])
        self.refused(ValueError, "mislabel costs: expected 9 elements, found 4", decide, x, None, costs[:2, :2])
        self.refused(ValueError, "input: expected float32, found torch.float64", decide, x.double())
        self.refused(ValueError, "input: expected at least 1 dimension", decide, torch.tensor(1.0))
        self.refused(ValueError, "scale: means nothing for probabilities", decide, x, probabilities=True, scale=1.0)
        binary = rwwce.binary_cross_entropy_with_logits
        self.refused(ValueError, "targets: the target at index 4 is not in [0, 1]", binary, x, torch.tensor([[0.0, 0, 0], [0, 2, 0]]))
        self.refused(ValueError, "target: expected shape (2, 3)", binary, x, torch.zeros(2))
        self.refused(ValueError, "weight: shape (2,) does not broadcast to (2, 3)", binary, x, x, torch.ones(2))

    def test_inputs_that_changed_before_the_backward_pass(self):
        x = torch.zeros(1, 2, requires_grad=True) * 1.0
        loss = rwwce.cross_entropy(x, torch.tensor([0]))
        x.add_(1.0)
        with self.assertRaises(RuntimeError):
            loss.backward()


class ClassWeights(unittest.TestCase):
    def test_schemes(self):
        labels = torch.tensor([0, 0, 0, 1, -100])
        found = rwwce.class_weights(labels, 2)
        self.assertIsInstance(found, torch.Tensor)
        self.assertEqual(found.tolist(), [numpy.float32(2 / 3), 2.0])
        labels = [0, 0, 0, 1]
        self.assertEqual(rwwce.class_weights(labels, 2, scheme="inverse_frequency").tolist(), [numpy.float32(4 / 3), 4.0])
        self.assertEqual(rwwce.class_weights(labels, 2, scheme="inverse_square_root")[1], 2.0)
        self.assertEqual(rwwce.class_weights(labels, 2, scheme="median_frequency")[1], 2.0)
        effective = (1 - 0.9) / (1 - 0.9**3)
        self.assertAlmostEqual(rwwce.class_weights(labels, 2, "effective_number", 0.9)[0], effective, places=6)
        self.assertAlmostEqual(rwwce.class_weights(labels, 2, normalisation="sum").sum(), 1.0, places=6)
        self.assertEqual(rwwce.class_weights(labels, 3, empty_class=7.0)[2], 7.0)

    def test_errors(self):
        for message, options in [
            ("counts: class 2 has no samples", {"classes": 3}),
            ("scheme: expected one of", {"classes": 2, "scheme": "magic"}),
            ("normalisation: expected", {"classes": 2, "normalisation": "max"}),
            ("beta: expected at least 0 and below 1", {"classes": 2, "scheme": "effective_number", "beta": 1.0}),
            ("classes", {"classes": 0}),
            ("classes", {"classes": -1}),
        ]:
            with self.assertRaises(ValueError) as caught:
                rwwce.class_weights([0, 1], **options)
            self.assertIn(message, str(caught.exception))
        with self.assertRaises(IndexError):
            rwwce.class_weights([0, 2], 2)


class Backends(unittest.TestCase):
    def tearDown(self):
        rwwce.force_backend(None)

    def test_every_backend_computes(self):
        best = rwwce.backend()
        x, y = torch.randn(50, 12), torch.randint(0, 12, (50,))
        seen = {}
        for name in rwwce.backends():
            rwwce.force_backend(name)
            self.assertEqual(rwwce.backend(), name)
            seen[name] = rwwce.cross_entropy(x, y).item()
        print("backends:", *seen)
        self.assertIn(best, seen)
        # Backends with FMA return the same bits; a processor has one of each other class. All results are close.
        self.assertLessEqual(len({seen[name] for name in seen if name in ("avx512", "avx2", "neon")}), 1)
        for loss in seen.values():
            self.assertAlmostEqual(loss, seen[best], places=5)
        rwwce.force_backend(None)
        self.assertEqual(rwwce.backend(), best)
        with self.assertRaises(ValueError):
            rwwce.force_backend("abacus")

    def test_version(self):
        self.assertRegex(rwwce.version(), r"^\d+\.\d+\.\d+$")


if __name__ == "__main__":
    unittest.main()
