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
from arrayloss.likelihood import (
    GaussianNLLLoss,
    PoissonNLLLoss,
    gaussian_nll_loss,
    poisson_nll_loss,
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
from arrayloss.robust_regression import (
    CharbonnierLoss,
    HuberLoss,
    LogCoshLoss,
    QuantileLoss,
    SmoothL1Loss,
    charbonnier_loss,
    huber_loss,
    log_cosh_loss,
    quantile_loss,
    smooth_l1_loss,
)

__version__ = "0.1.0"

__all__ = [
    "BCELoss",
    "BootstrappedCrossEntropyLoss",
    "CharbonnierLoss",
    "CrossEntropyLoss",
    "DiceLoss",
    "DualTaskLoss",
    "EdgeAttentionLoss",
    "GaussianNLLLoss",
    "HuberLoss",
    "L1Loss",
    "LogCoshLoss",
    "Loss",
    "LovaszHingeLoss",
    "LovaszSoftmaxLoss",
    "MSELoss",
    "MixedLoss",
    "OhemCrossEntropyLoss",
    "OhemEdgeAttentionLoss",
    "PoissonNLLLoss",
    "QuantileLoss",
    "RelaxBoundaryLoss",
    "SmoothL1Loss",
    "bce_loss",
    "bootstrapped_cross_entropy_loss",
    "charbonnier_loss",
    "cross_entropy_loss",
    "dice_loss",
    "dual_task_loss",
    "edge_attention_loss",
    "gaussian_nll_loss",
    "huber_loss",
    "l1_loss",
    "label_edges",
    "log_cosh_loss",
    "lovasz_hinge_loss",
    "lovasz_softmax_loss",
    "mixed_loss",
    "mse_loss",
    "ohem_cross_entropy_loss",
    "ohem_edge_attention_loss",
    "poisson_nll_loss",
    "quantile_loss",
    "relax_boundary_loss",
    "smooth_l1_loss",
    "value_and_grad",
]
