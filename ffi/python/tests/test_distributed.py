"""Two workers with a part of the batch each: loss and gradients are those of the whole batch."""

import sys
import tempfile
import unittest

import rwwce
import torch
import torch.distributed as distributed
import torch.multiprocessing as multiprocessing


def batch():
    torch.manual_seed(0)
    x, target = torch.randn(30, 5), torch.randint(0, 4, (30,))
    target[3], target[20] = -100, -100
    return x, target, torch.rand(4) + 0.1, (torch.rand(4, 4) * 3).fill_diagonal_(0)


def losses(weight, costs):
    """Losses, their arguments and options, and the field of `Weights` that is the denominator of the mean."""
    yield rwwce.cross_entropy, (weight,), {"label_smoothing": 0.1}, "weight_sum"
    yield rwwce.real_world_weight_cross_entropy, (weight, costs), {}, "rows"


def work(rank, file, results):
    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    x, target, weight, costs = batch()
    # Parts of different sizes and weight sums.
    part = slice(0, 11) if rank == 0 else slice(11, 30)
    found = []
    for loss, arguments, options, divisor in losses(weight, costs):
        layer = torch.ones(4, 5, requires_grad=True)
        logits = x[part] @ (layer * torch.arange(4.0).unsqueeze(1)).T
        whole = getattr(rwwce.weigh(loss, logits.shape, target[part], *arguments, **options), divisor)
        denominator = torch.tensor(whole, dtype=torch.float64)
        distributed.all_reduce(denominator)
        value = loss(logits, target[part], *arguments, **options, denominator=denominator.item())
        value.backward()
        total, gradient = value.detach().double(), layer.grad
        distributed.all_reduce(total)
        distributed.all_reduce(gradient)
        found.append((total.item(), gradient.tolist()))
    if rank == 0:
        results.put(found)
    distributed.barrier()
    distributed.destroy_process_group()


@unittest.skipUnless(distributed.is_available() and sys.platform != "win32", "there is no gloo here")
class Workers(unittest.TestCase):
    def test_two_workers_have_the_loss_and_gradients_of_one(self):
        x, target, weight, costs = batch()
        context = multiprocessing.get_context("spawn")
        with tempfile.TemporaryDirectory() as folder:
            results = context.SimpleQueue()
            multiprocessing.spawn(work, (f"{folder}/meeting", results), nprocs=2)
            found = results.get()
        for (total, gradient), (loss, arguments, options, _) in zip(found, losses(weight, costs), strict=True):
            layer = torch.ones(4, 5, requires_grad=True)
            value = loss(x @ (layer * torch.arange(4.0).unsqueeze(1)).T, target, *arguments, **options)
            value.backward()
            self.assertAlmostEqual(total, value.item(), 5)
            torch.testing.assert_close(torch.tensor(gradient), layer.grad, rtol=1e-5, atol=1e-6)


if __name__ == "__main__":
    unittest.main()
