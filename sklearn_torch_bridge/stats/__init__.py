"""Numbers that describe one set of embeddings, or compare two.

================================================  ===================================
question                                          function
================================================  ===================================
Did the embeddings change?                        `mmd_test`, `energy_test`
Which features changed?                           `ks_drift`
How far apart are two sets?                       `frechet_distance`
How alike are two layers, or two models?          `cka`, `rsa`
How many directions are used?                     `effective_rank`
How many dimensions does the cloud have locally?  `intrinsic_dimension`
Which rows are far from the rest?                 `mahalanobis`
================================================  ===================================

Every function takes arrays, frames, tensors or lists of them, with one embedding per
row, and does not change them. Sums are computed in float64, in blocks: float32 rows are
never copied as a whole. Functions that square values refuse sets whose largest absolute
value is above 1e70 or below 1e-70: float64 could not hold the results.
"""

from sklearn_torch_bridge._packages import set_home
from sklearn_torch_bridge.stats._check_embeddings import (
    check_embeddings as check_embeddings,
)
from sklearn_torch_bridge.stats._dimensions import effective_rank, intrinsic_dimension
from sklearn_torch_bridge.stats._distances import frechet_distance, mahalanobis
from sklearn_torch_bridge.stats._similarity import RSAResult, cka, rsa
from sklearn_torch_bridge.stats._two_sample_tests import (
    KSDriftResult,
    TwoSampleResult,
    energy_test,
    ks_drift,
    mmd_test,
)

__all__ = [
    "KSDriftResult",
    "RSAResult",
    "TwoSampleResult",
    "cka",
    "effective_rank",
    "energy_test",
    "frechet_distance",
    "intrinsic_dimension",
    "ks_drift",
    "mahalanobis",
    "mmd_test",
    "rsa",
]

set_home(globals())
