"""A training loop in torch: the loss compiled without a graph break, the model in bfloat16 by autocast.

Run it with `python torch_loop.py`. It needs torch, scikit-learn, and a C++ compiler for `torch.compile`.
"""

from __future__ import annotations

import torch
from _digits import CLASSES, digit_pixels, mean_iou
from torch import nn

import arrayloss as al

torch.manual_seed(0)
(pictures, labels), (held_out, truth) = digit_pixels()
pictures, labels, held_out = torch.from_numpy(pictures), torch.from_numpy(labels), torch.from_numpy(held_out)

model = nn.Sequential(
    nn.Conv2d(1, 24, 5, padding=2),
    nn.ReLU(),
    nn.Conv2d(24, 24, 5, padding=2),
    nn.ReLU(),
    nn.Conv2d(24, CLASSES, 5, padding=2),
)
# The labels need no mask and no conversion: 255 is ignored, and uint8 will do.
criterion = al.MixedLoss([al.CrossEntropyLoss(), al.DiceLoss(smooth=1.0)], [1.0, 1.0])
compiled = torch.compile(criterion, fullgraph=True)  # fullgraph: a graph break would be an error
optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)

for epoch in range(8):
    total = 0.0
    batches = torch.randperm(len(pictures)).split(50)
    for batch in batches:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(pictures[batch])
            loss = compiled(logits, labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(f"epoch {epoch + 1}: loss {total / len(batches):.4f}")

with torch.no_grad():
    iou = mean_iou(model(held_out).argmax(dim=1).numpy(), truth)
difference = abs(loss.item() - criterion(logits, labels[batch]).item())
print(f"logits {logits.dtype}, loss {loss.dtype}; compiled and eager differ by {difference:.1e}")
print(f"mean IoU on held-out digits: {iou:.3f}")

if loss.dtype != torch.float32 or difference > 1e-5:
    raise SystemExit("the compiled loss is not the float32 loss of eager mode")
if iou < 0.5:
    raise SystemExit("the model has not learnt the digits")
