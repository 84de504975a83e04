"""Losses as PyTorch operators: second derivatives, forward mode, autocast, transformations, compilation."""

import copy
import gc
import math
import unittest
import unittest.mock
import warnings
import weakref

import numpy
import rwwce
import torch
import torch.nn.functional as F
from rwwce import _torch
from rwwce._call import Options
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

BIG = 2e-6


def cases():
    """Every loss: name, our function, PyTorch's or one in its operations, and the differentiated arguments."""
    torch.manual_seed(3)
    x, y = torch.randn(5, 4) * 2, torch.tensor([0, 1, -100, 3, 1])
    weight, sample, bias = torch.rand(4) + 0.2, torch.rand(5) + 0.1, torch.randn(4)
    mislabel = (torch.rand(4, 4) * 3).fill_diagonal_(0)
    q, t = torch.rand(5, 4), torch.rand(5, 4)
    for reduction in ["mean", "sum", "none"]:
        smoothing = {"mean": 0.0, "sum": 0.2, "none": 0.1}[reduction]
        yield (
            f"labels, {reduction}",
            lambda x, reduction=reduction, smoothing=smoothing: rwwce.cross_entropy(
                x, y, weight, reduction=reduction, label_smoothing=smoothing
            ),
            lambda x, reduction=reduction, smoothing=smoothing: F.cross_entropy(
                x, y, weight.double(), reduction=reduction, label_smoothing=smoothing
            ),
            (x,),
        )
        yield (
            f"probabilities, {reduction}",
            lambda x, q, reduction=reduction, smoothing=smoothing: rwwce.cross_entropy(
                x, q, weight, reduction=reduction, label_smoothing=smoothing
            ),
            lambda x, q, reduction=reduction, smoothing=smoothing: F.cross_entropy(
                x, q, weight.double(), reduction=reduction, label_smoothing=smoothing
            ),
            (x, q),
        )
        yield (
            f"binary, {reduction}",
            lambda x, t, reduction=reduction: rwwce.binary_cross_entropy_with_logits(
                x, t, sample.unsqueeze(1), weight, reduction
            ),
            lambda x, t, reduction=reduction: F.binary_cross_entropy_with_logits(
                x, t, sample.unsqueeze(1).double(), reduction=reduction, pos_weight=weight.double()
            ),
            (x, t),
        )
        yield (
            f"nll, {reduction}",
            lambda x, reduction=reduction: rwwce.nll_loss(x, y, weight, reduction=reduction),
            lambda x, reduction=reduction: F.nll_loss(x, y, weight.double(), reduction=reduction),
            (x,),
        )
        yield (
            f"everything, {reduction}",
            lambda x, reduction=reduction: rwwce.real_world_weight_cross_entropy(
                x, y, weight, mislabel, reduction, label_smoothing=0.1, sample_weight=sample, class_bias=bias,
                temperature=1.5, focal=2.0, z_loss=0.1,
            ),
            lambda x, reduction=reduction: everything(x, y, weight, mislabel, reduction, sample, bias),
            (x,),
        )
        yield (
            f"probabilities with z-loss, {reduction}",
            lambda x, q, reduction=reduction: rwwce.cross_entropy(
                x, q, weight, reduction=reduction, sample_weight=sample, z_loss=0.2, temperature=2.0
            ),
            lambda x, q, reduction=reduction: reduced(
                sample.double()
                * (
                    F.cross_entropy(x / 2, q, weight.double(), reduction="none")
                    + 0.2 * (weight.double() * q).sum(1) * (x / 2).logsumexp(1) ** 2
                ),
                reduction,
            ),
            (x, q),
        )
    yield "log_softmax", lambda x: rwwce.log_softmax(x, dim=0), lambda x: x.log_softmax(0), (x,)
    yield "log_sum_exp", lambda x: rwwce.log_sum_exp(x, 1), lambda x: x.logsumexp(1), (x,)


def reduced(losses, reduction):
    return losses if reduction == "none" else getattr(losses, reduction)()


def everything(x, y, weight, mislabel, reduction, sample, bias):
    """Textbook formula with label smoothing 0.1, temperature 1.5, focal exponent 2 and z-loss 0.1."""
    x = x / 1.5 + bias.double()
    p, counts = x.softmax(1), y != -100
    y = y.where(counts, 0)
    w, own = weight.double(), p.gather(1, y.unsqueeze(1)).squeeze(1)
    losses = -0.9 * w[y] * (1 - own) ** 2 * own.log() - 0.1 / 4 * (w * p.log()).sum(1)
    losses = losses - (mislabel.double()[y] * (1 - p).log()).sum(1)
    losses = losses + 0.1 * (0.9 * w[y] + 0.1 / 4 * w.sum()) * x.logsumexp(1) ** 2
    losses = losses * sample.double() * counts
    return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / counts.sum()}[reduction]


class Close(unittest.TestCase):
    def close(self, found, expected, tolerance=BIG):
        self.assertEqual(tuple(found.shape), tuple(expected.shape))
        error = (found.detach().double() - expected.detach().double()).abs()
        bound = tolerance * (1 + expected.detach().abs().double())
        self.assertTrue(bool((error <= bound).all()), f"{found} {expected}")


class Derivatives(Close):
    def test_first_and_second_derivatives_of_every_loss(self):
        for name, ours, theirs, arguments in cases():
            with self.subTest(name):
                narrow = [tensor.clone().requires_grad_() for tensor in arguments]
                wide = [tensor.double().requires_grad_() for tensor in arguments]
                found, expected = ours(*narrow), theirs(*wide)
                self.close(found, expected)
                upstream = torch.rand(found.shape).requires_grad_()
                factor = upstream.detach().double().requires_grad_()
                first = torch.autograd.grad(found, narrow, upstream, create_graph=True)
                other = torch.autograd.grad(expected, wide, factor, create_graph=True)
                directions = [torch.randn(tensor.shape) for tensor in first]
                for mine, of_other in zip(first, other):
                    self.close(mine, of_other)
                second = torch.autograd.grad(first, (*narrow, upstream), directions, allow_unused=True)
                of_others = torch.autograd.grad(
                    other, (*wide, factor), [tensor.double() for tensor in directions], allow_unused=True
                )
                for mine, of_other in zip(second, of_others):
                    none = torch.zeros(())
                    mine, of_other = (none if each is None else each for each in (mine, of_other))
                    self.close(mine, of_other.expand(mine.shape) if of_other.dim() == 0 else of_other, 1e-5)

    def test_forward_derivatives_of_every_loss(self):
        for name, ours, theirs, arguments in cases():
            with self.subTest(name):
                tangents = tuple(torch.randn(tensor.shape) for tensor in arguments)
                wide = tuple(tensor.double() for tensor in arguments)
                of_wide = tuple(tangent.double() for tangent in tangents)
                value, along = torch.func.jvp(ours, arguments, tangents)
                expected, of_expected = torch.func.jvp(theirs, wide, of_wide)
                self.close(value, expected)
                self.close(along, of_expected)
                with forward_ad.dual_level():
                    duals = map(forward_ad.make_dual, arguments, tangents)
                    self.close(forward_ad.unpack_dual(ours(*duals)).tangent, of_expected)
                    # The same with autograd recording.
                    duals = [forward_ad.make_dual(x.clone().requires_grad_(), t) for x, t in zip(arguments, tangents)]
                    self.close(forward_ad.unpack_dual(ours(*duals)).tangent, of_expected)
                places = tuple(range(len(arguments)))
                for mine, of_other in zip(
                    torch.func.jacfwd(ours, places)(*arguments), torch.func.jacfwd(theirs, places)(*wide)
                ):
                    self.close(mine, of_other)
                # Forward over reverse, with respect to the input and to probabilities.
                mine, of_other = (
                    torch.func.hessian(lambda *a, of=of: of(*a).sum(), places)(*given)
                    for of, given in ((ours, arguments), (theirs, wide))
                )
                for i in places:
                    for j in places:
                        self.close(mine[i][j], of_other[i][j], 1e-5)

    def test_hessian(self):
        z, y = torch.tensor([1.0, 0.0, -1.0]), torch.tensor(0)
        found = torch.autograd.functional.hessian(lambda t: rwwce.cross_entropy(t, y), z)
        p = z.softmax(0)
        self.close(found, torch.diag(p) - p.outer(p))
        for outer in (torch.func.jacrev, torch.func.jacfwd):
            self.close(outer(torch.func.grad(lambda t: rwwce.cross_entropy(t, y)))(z), found)

    def test_third_derivatives(self):
        z, y = torch.tensor([1.0, 0.0, -1.0], requires_grad=True), torch.tensor(0)
        thirds = []
        for loss in (rwwce.cross_entropy, F.cross_entropy):
            (first,) = torch.autograd.grad(loss(z, y), z, create_graph=True)
            (second,) = torch.autograd.grad(first.square().sum(), z, create_graph=True)
            thirds.append(torch.autograd.grad(second.square().sum(), z)[0])
        self.close(*thirds)

    def test_gradient_penalty_of_a_network(self):
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4))
        other, x, y = copy.deepcopy(net), torch.randn(6, 3, requires_grad=True), torch.randint(0, 4, (6,))
        for loss, model in ((rwwce.cross_entropy, net), (F.cross_entropy, other)):
            (gradient,) = torch.autograd.grad(loss(model(x) * 3, y), x, create_graph=True)
            gradient.norm(dim=1).pow(2).mean().backward()
        for mine, theirs in zip(net.parameters(), other.parameters()):
            self.close(mine.grad, theirs.grad)

    def test_gradcheck(self):
        y = torch.tensor([0, 2, 1])
        x = torch.randn(3, 4, requires_grad=True)
        checks = {"eps": 1e-2, "atol": 1e-2, "rtol": 1e-2, "check_undefined_grad": False}
        # The step is large enough for differences in float32.
        warnings.filterwarnings("ignore", "Input #. requires gradient and is not a double")
        for function in (lambda x: rwwce.cross_entropy(x, y), lambda x: rwwce.log_softmax(x)):
            self.assertTrue(torch.autograd.gradcheck(function, x, nondet_tol=0.0, check_forward_ad=True, **checks))
            self.assertTrue(torch.autograd.gradgradcheck(function, x, check_fwd_over_rev=True, **checks))


class SmallBatches(Close):
    """The short way of `_torch.usual`, by which the arguments of most calls go."""

    def general(self, x, y, weight, ignored, reduction):
        return _torch.evaluate(Options("labels", reduction, ignored), x, y, weight, None, None, None)

    def test_it_has_the_bits_of_the_general_way(self):
        torch.manual_seed(5)
        for rows, classes in [(0, 4), (1, 1), (3, 2), (16, 4), (200, 37), (2, 40_000)]:
            x, y = torch.randn(rows, classes, requires_grad=True), torch.randint(0, classes, (rows,))
            for weight in (None, torch.rand(classes)):
                for reduction in ("mean", "sum"):
                    arguments = (x, y, weight, 0, reduction)
                    found, expected = _torch.usual(*arguments), self.general(*arguments)
                    self.assertTrue(torch.equal(found, expected) or found.isnan() and expected.isnan())
                    (of_found,), (of_expected,) = (torch.autograd.grad(loss, x, 0.7 * torch.ones(())) for loss in (found, expected))
                    self.assertTrue(torch.equal(of_found, of_expected))
                    with torch.no_grad():
                        alone = _torch.usual(*arguments)
                    self.assertFalse(alone.requires_grad)
                    self.assertTrue(torch.equal(alone, found) or alone.isnan())

    def test_what_it_leaves_to_the_general_way(self):
        x, y, w = torch.randn(4, 3), torch.tensor([0, 1, 2, 0]), torch.rand(3)
        usual = (x, y, w, -100, "mean")
        self.assertIsNotNone(_torch.usual(*usual))
        strange = {
            0: [x.double(), x.half(), x.long(), x.t().contiguous().t(), torch.randn(4, 6)[:, ::2], torch.randn(4, 6)[:, :3]]
            + [torch._neg_view(x), x[0], x[None], x.to_sparse(), x.to("meta"), torch._efficientzerotensor((4, 3))]
            + [torch.randn(3).expand(4, 3), Renamed(x)],
            1: [y.int(), y.numpy(), [0, 1, 2, 0], y[:3], y[:, None], y.repeat_interleave(2)[::2], torch.rand(4, 3)]
            + [y[:1].expand(4), torch._neg_view(-y), y.to("meta")],
            2: [w.double(), w[None], torch.ones(1).expand(3), torch._neg_view(w), w.tolist(), w.clone().requires_grad_()]
            + [w.to("meta"), w.to_sparse()],
            3: [None, True, numpy.int64(1)],
            4: ["none", "average", None],
        }
        for place, others in strange.items():
            for other in others:
                self.assertIsNone(_torch.usual(*usual[:place], other, *usual[place + 1 :]), (place, other))

        def of_row(x, y):
            self.assertIsNone(_torch.usual(x[None], y[None], w, -100, "mean"))
            return x

        torch.func.vmap(of_row)(x, y)
        with forward_ad.dual_level():
            self.assertIsNone(_torch.usual(*usual))
        # PyTorch without these functions.
        with unittest.mock.patch.object(_torch, "_exchange", None):
            self.assertIsNone(_torch.usual(*usual))
            self.close(rwwce.cross_entropy(x, y, w), F.cross_entropy(x, y, w))

    def test_its_errors(self):
        x, y = torch.randn(4, 3), torch.tensor([0, 1, 7, 0])
        with self.assertRaisesRegex(IndexError, "7"):
            rwwce.cross_entropy(x, y)
        with self.assertRaisesRegex(ValueError, "weight"):
            rwwce.cross_entropy(x, y % 3, weight=torch.rand(4))
        with self.assertRaisesRegex(ValueError, "weight"):
            rwwce.cross_entropy(x, y % 3, weight=torch.tensor([1.0, math.nan, 1.0]))


class Renamed(torch.Tensor):
    """A subclass with a behaviour of its own, for all that is known of it."""


class Memory(Close):
    def test_what_changed_before_the_backward_pass(self):
        y, w = torch.tensor([0, 1]), torch.ones(3)
        x = torch.randn(2, 3, requires_grad=True)
        loss = rwwce.cross_entropy(x, y, weight=w)
        w.mul_(10)
        with self.assertRaisesRegex(RuntimeError, "inplace"):
            loss.backward()
        loss = rwwce.cross_entropy(x, y)
        y.zero_()
        with self.assertRaisesRegex(RuntimeError, "inplace"):
            loss.backward()

    def test_twice_over_a_retained_graph(self):
        x, y = torch.randn(2, 3, requires_grad=True), torch.tensor([0, 1])
        loss = rwwce.cross_entropy(x, y)
        (first,) = torch.autograd.grad(loss, x, retain_graph=True)
        kept = first.clone()
        first.zero_()
        self.assertTrue(torch.equal(torch.autograd.grad(loss, x)[0], kept))
        with self.assertRaises(RuntimeError):
            torch.autograd.grad(loss, x)

    def test_a_gradient_that_is_changed_is_not_the_one_that_is_kept(self):
        x = torch.randn(4, 3, requires_grad=True)
        y = torch.tensor([0, 1, 2, 0])
        (expected,) = torch.autograd.grad(F.cross_entropy(x, y), x)
        loss = rwwce.cross_entropy(x, y)
        for factor, keeps in [(1.0, True), (-3.0, True), (1.0, True), (5.0, False)]:
            (found,) = torch.autograd.grad(loss, x, torch.tensor(factor), retain_graph=keeps)
            self.close(found, factor * expected)
            found.zero_()
        leaf = torch.randn(4, 3, requires_grad=True)
        for _ in range(2):
            # Gradients accumulate.
            rwwce.cross_entropy(leaf, y).backward()
        self.close(leaf.grad, 2 * torch.autograd.grad(F.cross_entropy(leaf, y), leaf)[0])

    def test_memory_is_let_go_after_the_backward_pass(self):
        x = torch.randn(4, 3, requires_grad=True) * 1.0
        loss = rwwce.cross_entropy(x, torch.tensor([0, 1, 2, 0]))
        logits = weakref.ref(x)
        loss.backward()
        del x
        gc.collect()
        self.assertIsNone(logits())

    def test_checkpoints_keep_nothing(self):
        y, kept = torch.randint(0, 5, (8,)), []
        x = torch.randn(8, 5, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
            rwwce.cross_entropy(x, y)
        # Input, labels and gradient are saved tensors, which a checkpoint can drop.
        self.assertEqual(sorted(kept), sorted([x.shape, y.shape, x.shape]))
        checkpoint(lambda x: rwwce.cross_entropy(x * 2, y), x, use_reentrant=False).backward()
        self.close(x.grad, torch.autograd.grad(F.cross_entropy(x * 2, y), x)[0])


class Types(Close):
    def test_autocast_returns_float32(self):
        torch.manual_seed(0)
        net, x, y = torch.nn.Linear(4, 3), torch.randn(6, 4) * 40, torch.randint(0, 3, (6,))
        for dtype in (torch.bfloat16, torch.float16):
            with torch.autocast("cpu", dtype):
                logits = net(x)
                self.assertEqual(logits.dtype, dtype)
                found, expected = rwwce.cross_entropy(logits, y), F.cross_entropy(logits, y)
            self.assertEqual((found.dtype, expected.dtype), (torch.float32, torch.float32))
            self.close(found, expected)
            for mine, theirs in zip(
                torch.autograd.grad(found, net.parameters(), retain_graph=True),
                torch.autograd.grad(expected, net.parameters()),
            ):
                self.close(mine, theirs, 1e-2)

    def test_scaled_gradients_train_in_float16(self):
        torch.manual_seed(0)
        start, x, y = torch.nn.Linear(4, 3), torch.randn(64, 4) * 30, torch.randint(0, 3, (64,))
        trained = []
        for loss in (rwwce.cross_entropy, F.cross_entropy):
            net = copy.deepcopy(start)
            optimizer, scaler = torch.optim.SGD(net.parameters(), 1e-4), torch.amp.GradScaler("cpu")
            for _ in range(8):
                optimizer.zero_grad()
                with torch.autocast("cpu", torch.float16):
                    value = loss(net(x), y, reduction="sum")
                scaler.scale(value).backward()
                scaler.step(optimizer)
                scaler.update()
            trained.append((net.weight, scaler.get_scale()))
        self.close(trained[0][0], trained[1][0], 1e-2)
        self.assertEqual(trained[0][1], trained[1][1])
        self.assertLess(trained[0][1], 65536.0)

    def test_upstream_factors_that_are_not_finite(self):
        for reduction in ("mean", "none"):
            for factor in (math.inf, math.nan):
                x = torch.randn(2, 3, requires_grad=True)
                loss = rwwce.cross_entropy(x, torch.tensor([0, 1]), reduction=reduction)
                loss.backward(torch.full(loss.shape, factor))
                self.assertFalse(bool(x.grad.isfinite().any()))


class Inputs(Close):
    def test_masked_arrays_are_refused(self):
        x = numpy.zeros((2, 3), numpy.float32)
        masked = numpy.ma.masked_array([0, 1], [False, True])
        with self.assertRaisesRegex(ValueError, "target: expected no masked array"):
            rwwce.cross_entropy(x, masked)
        with self.assertRaisesRegex(ValueError, "input: expected no masked array"):
            rwwce.cross_entropy(numpy.ma.masked_array(x, x == 1), [0, 1])
        with self.assertRaisesRegex(ValueError, "weight: expected no masked array"):
            rwwce.cross_entropy(torch.zeros(2, 2), torch.tensor([0, 1]), weight=masked)

    def test_another_default_device(self):
        x, y = torch.randn(2, 3, requires_grad=True), torch.tensor([0, 1])
        expected = F.cross_entropy(x, y)
        with torch.device("meta"):
            found = rwwce.cross_entropy(x, y, weight=[1.0, 1.0, 1.0])
            rows = rwwce.cross_entropy(x, y, reduction="none")
            weights = rwwce.class_weights(y, 2)
        found.backward()
        self.close(found, expected)
        self.close(rows.mean(), expected)
        self.close(x.grad, torch.autograd.grad(expected, x)[0])
        self.assertEqual(weights.tolist(), [1.0, 1.0])

    def test_views_that_negate(self):
        x, y = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0])
        found = rwwce.cross_entropy(torch._neg_view(x), y)
        self.close(found, F.cross_entropy(-x, y))
        self.close(rwwce.cross_entropy(x, y, weight=torch._neg_view(-torch.ones(3))), F.cross_entropy(x, y))
        self.assertEqual(rwwce.log_sum_exp(torch._neg_view(x)).item(), (-x).logsumexp(1).item())

    def test_binary_targets_that_weigh_nothing(self):
        x = torch.tensor([0.5, -1.0], requires_grad=True)
        target, weight = torch.tensor([math.nan, 1.0]), torch.tensor([0.0, 2.0])
        loss = rwwce.binary_cross_entropy_with_logits(x, target, weight, reduction="none")
        loss.sum().backward()
        self.assertEqual((loss[0].item(), x.grad[0].item()), (0.0, 0.0))
        self.close(loss[1], 2 * F.binary_cross_entropy_with_logits(x, torch.ones(2), reduction="none")[1])

    def test_sample_weights_below_zero(self):
        x, target, weight = torch.randn(4, requires_grad=True), torch.rand(4), torch.tensor([1.0, -2.0, 0.5, -1.0])
        found = rwwce.binary_cross_entropy_with_logits(x, target, weight)
        expected = F.binary_cross_entropy_with_logits(x, target, weight)
        self.close(found, expected)
        self.close(torch.autograd.grad(found, x)[0], torch.autograd.grad(expected, x)[0])
        x, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 1])
        found = rwwce.cross_entropy(x, y, sample_weight=weight, reduction="none")
        self.close(found, weight * F.cross_entropy(x, y, reduction="none"))

    def test_dimension_of_log_softmax(self):
        x = torch.randn(2, 3, 4)
        for dim in range(-3, 3):
            self.close(rwwce.log_softmax(x, dim=dim), F.log_softmax(x, dim=dim))
            self.close(rwwce.log_sum_exp(x, dim), x.logsumexp(dim))
            self.close(torch.from_numpy(rwwce.log_softmax(x.numpy(), dim)), F.log_softmax(x, dim))
        with self.assertRaisesRegex(IndexError, "dim: expected -3 to 2, found 3"):
            rwwce.log_softmax(x, 3)


class Transformations(Close):
    def test_func_grad_and_vmap(self):
        x, y, w = torch.randn(5, 4), torch.randint(0, 4, (5,)), torch.rand(4)
        found = torch.func.grad(lambda x: rwwce.cross_entropy(x, y, weight=w))(x)
        self.close(found, torch.func.grad(lambda x: F.cross_entropy(x, y, weight=w))(x))
        mine = torch.vmap(lambda x, y: rwwce.cross_entropy(x, y, weight=w))(x, y)
        self.close(mine, torch.vmap(lambda x, y: F.cross_entropy(x, y, weight=w, reduction="sum"))(x, y) / w[y])

    def test_gradients_of_each_sample(self):
        net, x, y = torch.nn.Linear(3, 4), torch.randn(6, 3), torch.randint(0, 4, (6,))
        found, expected = (
            torch.vmap(
                torch.func.grad(lambda p, x, y, loss=loss: loss(torch.func.functional_call(net, p, x), y)),
                in_dims=(None, 0, 0),
            )(dict(net.named_parameters()), x, y)
            for loss in (rwwce.cross_entropy, F.cross_entropy)
        )
        for name in expected:
            self.close(found[name], expected[name])

    def test_compiled_whole(self):
        x, y, w = torch.randn(5, 4), torch.randint(0, 4, (5,)), torch.rand(4)
        loss = torch.compile(lambda x: rwwce.cross_entropy(x * 2, y, weight=w), fullgraph=True, backend="aot_eager")
        found, expected = x.clone().requires_grad_(), x.clone().requires_grad_()
        mine, theirs = loss(found), F.cross_entropy(expected * 2, y, weight=w)
        mine.backward()
        theirs.backward()
        self.close(mine, theirs)
        self.close(found.grad, expected.grad)
        for other in (
            lambda x: rwwce.log_softmax(x, dim=1),
            lambda x: rwwce.binary_cross_entropy_with_logits(x, x.sigmoid().detach(), reduction="none"),
            lambda x: rwwce.real_world_weight_cross_entropy(x, y, w, 1 - torch.eye(4)),
        ):
            self.close(torch.compile(other, fullgraph=True, backend="aot_eager")(x), other(x))

    def test_export(self):
        class Loss(torch.nn.Module):
            def forward(self, x, y):
                return rwwce.cross_entropy(x, y, label_smoothing=0.1)

        x, y = torch.randn(5, 4), torch.randint(0, 4, (5,))
        exported = torch.export.export(Loss(), (x, y))
        self.close(exported.module()(x, y), F.cross_entropy(x, y, label_smoothing=0.1))

    def test_traced_graphs_hold_the_operator(self):
        from torch.fx.experimental.proxy_tensor import make_fx

        x, y = torch.randn(5, 4), torch.randint(0, 4, (5,))
        graph = make_fx(lambda x: rwwce.cross_entropy(x, y))(x)
        other = torch.randn(5, 4)
        self.close(graph(other), F.cross_entropy(other, y))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(lambda x: rwwce.cross_entropy(x, y), (x,))
        self.close(traced(other), F.cross_entropy(other, y))

    def test_operators_are_what_pytorch_asks_of_them(self):
        x, y = torch.randn(5, 4, requires_grad=True), torch.randint(0, 4, (5,))
        options = ("labels", "mean", -100, 0.1, 0.0, 0.0, 1.0, None, 0, None, -1, False)
        tensors = (x, y, torch.rand(4), None, None, None)
        # The check itself reads `.grad` of tensors that are no leaves.
        warnings.filterwarnings("ignore", "The .grad attribute")
        torch.library.opcheck(torch.ops.rwwce.loss.default, (*tensors, *options))
        torch.library.opcheck(torch.ops.rwwce.loss_and_gradient.default, (*tensors, *options))
        factor = torch.ones((), requires_grad=True)
        torch.library.opcheck(torch.ops.rwwce.gradient.default, ("input", factor, *tensors, *options))


if __name__ == "__main__":
    unittest.main()
