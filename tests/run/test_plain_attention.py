"""What is NaN shows in attention, also in kernels that would give zeros for it."""

import torch
from torch.nn import functional

from sklearn_torch_bridge._run._plain_attention import first_by, first_plainly


def attention_of_nan():
    q, k = torch.full((1, 1, 5, 8), torch.nan), torch.ones(1, 1, 5, 8)
    return functional.scaled_dot_product_attention(q, k, k)


def test_only_the_first_batch_runs_with_plain_products():
    seen = []
    run = first_plainly(lambda _: seen.append(bool(attention_of_nan().isnan().any())))
    for _ in range(3):
        run(None)
    assert seen[0]
    assert len(set(seen[1:])) == 1
    assert seen[1] == bool(attention_of_nan().isnan().any())


def test_only_the_first_batch_is_looked_at_before():
    seen = []
    run = first_by(lambda inputs: inputs.append("look"), seen.append)
    for _ in range(2):
        run([])
    assert seen == [[], []]
