"""Loss functions written once, against the Python array API, for NumPy, CuPy, torch, JAX and any other array library.

Every loss is a function (`dice_loss`) and a class that binds its options (`DiceLoss`); `value_and_grad` gives the value
and the gradient of either on every library, with or without automatic differentiation of its own.
"""

import sys as _sys

from arrayloss._core.loss import Loss
from arrayloss._gradient import value_and_grad
from arrayloss.losses.binary import (
    BCELoss,
    bce_loss,
    label_edges,
)
from arrayloss.losses.boundary import (
    DualTaskLoss,
    RelaxBoundaryLoss,
    dual_task_loss,
    relax_boundary_loss,
)
from arrayloss.losses.connectivity import (
    SemanticConnectivityLoss,
    semantic_connectivity_loss,
)
from arrayloss.losses.cross_entropy import (
    CrossEntropyLoss,
    cross_entropy_loss,
)
from arrayloss.losses.dice import (
    DiceLoss,
    GeneralizedDiceLoss,
    LogCoshDiceLoss,
    dice_loss,
    generalized_dice_loss,
    log_cosh_dice_loss,
)
from arrayloss.losses.distance import (
    BoundaryLoss,
    HausdorffDTLoss,
    boundary_loss,
    distance_map,
    hausdorff_dt_loss,
)
from arrayloss.losses.divergence import (
    DistillationLoss,
    DistillCrossEntropyLoss,
    JSDivLoss,
    KLDivLoss,
    distill_cross_entropy_loss,
    distillation_loss,
    js_div_loss,
    kl_div_loss,
)
from arrayloss.losses.focal import (
    AsymmetricLoss,
    FocalLoss,
    SigmoidFocalLoss,
    asymmetric_loss,
    focal_loss,
    sigmoid_focal_loss,
)
from arrayloss.losses.hard_mining import (
    BootstrappedCrossEntropyLoss,
    EdgeAttentionLoss,
    OhemCrossEntropyLoss,
    OhemEdgeAttentionLoss,
    bootstrapped_cross_entropy_loss,
    edge_attention_loss,
    ohem_cross_entropy_loss,
    ohem_edge_attention_loss,
)
from arrayloss.losses.heads import (
    DetailAggregateLoss,
    PointCrossEntropyLoss,
    SECrossEntropyLoss,
    detail_aggregate_loss,
    detail_targets,
    point_cross_entropy_loss,
    se_cross_entropy_loss,
)
from arrayloss.losses.likelihood import (
    GaussianNLLLoss,
    PoissonNLLLoss,
    gaussian_nll_loss,
    poisson_nll_loss,
)
from arrayloss.losses.lovasz import (
    LovaszHingeLoss,
    LovaszSoftmaxLoss,
    lovasz_hinge_loss,
    lovasz_softmax_loss,
)
from arrayloss.losses.margin import (
    HingeLoss,
    MultiMarginLoss,
    SquaredHingeLoss,
    hinge_loss,
    multi_margin_loss,
    squared_hinge_loss,
)
from arrayloss.losses.mixed import (
    BCEDiceLoss,
    DiceCELoss,
    MixedLoss,
    bce_dice_loss,
    dice_ce_loss,
    mixed_loss,
)
from arrayloss.losses.regression import (
    L1Loss,
    MSELoss,
    l1_loss,
    mse_loss,
)
from arrayloss.losses.relation import (
    PixelContrastLoss,
    RMILoss,
    pixel_contrast_loss,
    rmi_loss,
)
from arrayloss.losses.robust import (
    GeneralizedCrossEntropyLoss,
    PolyLoss,
    SymmetricCrossEntropyLoss,
    generalized_cross_entropy_loss,
    poly_loss,
    symmetric_cross_entropy_loss,
)
from arrayloss.losses.robust_regression import (
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
from arrayloss.losses.tversky import (
    JaccardLoss,
    TverskyLoss,
    jaccard_loss,
    tversky_loss,
)

#: Pickles of losses name the module of a function, which was of the package itself before it was of `losses`.
for _name in [name for name in _sys.modules if name.startswith("arrayloss.losses.")]:
    _sys.modules[_name.replace(".losses", "", 1)] = _sys.modules[_name]

__version__ = "0.1.0"

__all__ = [
    "AsymmetricLoss",
    "BCEDiceLoss",
    "BCELoss",
    "BootstrappedCrossEntropyLoss",
    "BoundaryLoss",
    "CharbonnierLoss",
    "CrossEntropyLoss",
    "DetailAggregateLoss",
    "DiceCELoss",
    "DiceLoss",
    "DistillCrossEntropyLoss",
    "DistillationLoss",
    "DualTaskLoss",
    "EdgeAttentionLoss",
    "FocalLoss",
    "GaussianNLLLoss",
    "GeneralizedCrossEntropyLoss",
    "GeneralizedDiceLoss",
    "HausdorffDTLoss",
    "HingeLoss",
    "HuberLoss",
    "JSDivLoss",
    "JaccardLoss",
    "KLDivLoss",
    "L1Loss",
    "LogCoshDiceLoss",
    "LogCoshLoss",
    "Loss",
    "LovaszHingeLoss",
    "LovaszSoftmaxLoss",
    "MSELoss",
    "MixedLoss",
    "MultiMarginLoss",
    "OhemCrossEntropyLoss",
    "OhemEdgeAttentionLoss",
    "PixelContrastLoss",
    "PointCrossEntropyLoss",
    "PoissonNLLLoss",
    "PolyLoss",
    "QuantileLoss",
    "RMILoss",
    "RelaxBoundaryLoss",
    "SECrossEntropyLoss",
    "SemanticConnectivityLoss",
    "SigmoidFocalLoss",
    "SmoothL1Loss",
    "SquaredHingeLoss",
    "SymmetricCrossEntropyLoss",
    "TverskyLoss",
    "asymmetric_loss",
    "bce_dice_loss",
    "bce_loss",
    "bootstrapped_cross_entropy_loss",
    "boundary_loss",
    "charbonnier_loss",
    "cross_entropy_loss",
    "detail_aggregate_loss",
    "detail_targets",
    "dice_ce_loss",
    "dice_loss",
    "distance_map",
    "distill_cross_entropy_loss",
    "distillation_loss",
    "dual_task_loss",
    "edge_attention_loss",
    "focal_loss",
    "gaussian_nll_loss",
    "generalized_cross_entropy_loss",
    "generalized_dice_loss",
    "hausdorff_dt_loss",
    "hinge_loss",
    "huber_loss",
    "jaccard_loss",
    "js_div_loss",
    "kl_div_loss",
    "l1_loss",
    "label_edges",
    "log_cosh_dice_loss",
    "log_cosh_loss",
    "lovasz_hinge_loss",
    "lovasz_softmax_loss",
    "mixed_loss",
    "mse_loss",
    "multi_margin_loss",
    "ohem_cross_entropy_loss",
    "ohem_edge_attention_loss",
    "pixel_contrast_loss",
    "point_cross_entropy_loss",
    "poisson_nll_loss",
    "poly_loss",
    "quantile_loss",
    "relax_boundary_loss",
    "rmi_loss",
    "se_cross_entropy_loss",
    "semantic_connectivity_loss",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
    "squared_hinge_loss",
    "symmetric_cross_entropy_loss",
    "tversky_loss",
    "value_and_grad",
]
