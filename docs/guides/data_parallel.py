"""Two processes, half of the batch each: `torchrun --standalone --nproc-per-node=2 data_parallel.py`."""

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import arrayloss as al

dist.init_process_group("gloo")
rank, processes = dist.get_rank(), dist.get_world_size()

torch.manual_seed(0)
pictures, labels = torch.randn(8, 3, 16, 16), torch.randint(0, 5, (8, 16, 16))
labels[:4, 4:] = 255  # the first half has few labels
model = torch.nn.Conv2d(3, 5, 3, padding=1)

parallel = DistributedDataParallel(model)
mine = parallel(pictures.chunk(processes)[rank])
total, weight = al.CrossEntropyLoss(reduction="parts")(mine, labels.chunk(processes)[rank])
dist.all_reduce(weight)
(total / (weight / processes)).backward()

if rank == 0:
    value, gradient = al.CrossEntropyLoss()(model(pictures), labels), model.weight.grad
    (expected,) = torch.autograd.grad(value, [model.weight])
    print(f"largest difference from the gradient of the whole batch: {(gradient - expected).abs().max():.0e}")
    assert torch.allclose(gradient, expected, atol=1e-6)
dist.destroy_process_group()
