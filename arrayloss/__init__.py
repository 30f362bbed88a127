"""Loss functions written once, against the Python array API, for NumPy, CuPy, torch, JAX and any other array library.

Every loss is a function (`dice_loss`) and a class that binds its options (`DiceLoss`); `value_and_grad` gives the value
and the gradient of either on every library, with or without automatic differentiation of its own.
"""

from arrayloss._gradient import value_and_grad
from arrayloss._loss import Loss
from arrayloss.binary import (
    BCELoss,
    bce_loss,
    label_edges,
)
from arrayloss.boundary import (
    DualTaskLoss,
    RelaxBoundaryLoss,
    dual_task_loss,
    relax_boundary_loss,
)
from arrayloss.cross_entropy import (
    CrossEntropyLoss,
    cross_entropy_loss,
)
from arrayloss.hard_mining import (
    BootstrappedCrossEntropyLoss,
    EdgeAttentionLoss,
    OhemCrossEntropyLoss,
    OhemEdgeAttentionLoss,
    bootstrapped_cross_entropy_loss,
    edge_attention_loss,
    ohem_cross_entropy_loss,
    ohem_edge_attention_loss,
)
from arrayloss.lovasz import (
    LovaszHingeLoss,
    LovaszSoftmaxLoss,
    lovasz_hinge_loss,
    lovasz_softmax_loss,
)
from arrayloss.mixed import (
    MixedLoss,
    mixed_loss,
)
from arrayloss.region import (
    DiceLoss,
    dice_loss,
)
from arrayloss.regression import (
    L1Loss,
    MSELoss,
    l1_loss,
    mse_loss,
)
from arrayloss.relation import (
    PixelContrastLoss,
    RMILoss,
    pixel_contrast_loss,
    rmi_loss,
)

__version__ = "0.1.0"

__all__ = [
    "BCELoss",
    "BootstrappedCrossEntropyLoss",
    "CrossEntropyLoss",
    "DiceLoss",
    "DualTaskLoss",
    "EdgeAttentionLoss",
    "L1Loss",
    "Loss",
    "LovaszHingeLoss",
    "LovaszSoftmaxLoss",
    "MSELoss",
    "MixedLoss",
    "OhemCrossEntropyLoss",
    "OhemEdgeAttentionLoss",
    "PixelContrastLoss",
    "RMILoss",
    "RelaxBoundaryLoss",
    "bce_loss",
    "bootstrapped_cross_entropy_loss",
    "cross_entropy_loss",
    "dice_loss",
    "dual_task_loss",
    "edge_attention_loss",
    "l1_loss",
    "label_edges",
    "lovasz_hinge_loss",
    "lovasz_softmax_loss",
    "mixed_loss",
    "mse_loss",
    "ohem_cross_entropy_loss",
    "ohem_edge_attention_loss",
    "pixel_contrast_loss",
    "relax_boundary_loss",
    "rmi_loss",
    "value_and_grad",
]
