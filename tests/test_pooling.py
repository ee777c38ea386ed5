import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sklearn_torch_bridge import pooling
from sklearn_torch_bridge.pooling import POOLINGS

TOKEN_POOLINGS = ["mean", "max", "last", "cls"]
SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 3))


@st.composite
def hidden_and_lengths(draw):
    n_samples, n_tokens, n_features = draw(SHAPES)
    seed = draw(st.integers(0, 2**16))
    hidden = torch.randn(
        n_samples, n_tokens, n_features, generator=torch.Generator().manual_seed(seed)
    )
    sizes = st.integers(1, n_tokens)
    lengths = draw(st.lists(sizes, min_size=n_samples, max_size=n_samples))
    return hidden, torch.tensor(lengths)


def mask_of(lengths, n_tokens):
    return torch.arange(n_tokens) < lengths[:, None]


@pytest.mark.parametrize("name", TOKEN_POOLINGS)
@given(case=hidden_and_lengths(), extra=st.integers(0, 3))
def test_padding_changes_nothing_on_either_side(name, case, extra):
    hidden, lengths = case
    mask = mask_of(lengths, hidden.shape[1])
    garbage = hidden.new_full((len(hidden), extra, hidden.shape[2]), torch.nan)
    off = mask.new_zeros((len(hidden), extra))
    expected = POOLINGS[name](hidden, mask)
    right = POOLINGS[name](torch.cat([hidden, garbage], 1), torch.cat([mask, off], 1))
    left = POOLINGS[name](torch.cat([garbage, hidden], 1), torch.cat([off, mask], 1))
    torch.testing.assert_close(right, expected)
    torch.testing.assert_close(left, expected)


@pytest.mark.parametrize("name", TOKEN_POOLINGS)
@given(case=hidden_and_lengths())
def test_each_row_is_pooled_as_if_it_were_alone(name, case):
    hidden, lengths = case
    together = POOLINGS[name](hidden, mask_of(lengths, hidden.shape[1]))
    alone = [
        POOLINGS[name](row[None, :length])
        for row, length in zip(hidden, lengths, strict=True)
    ]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("name", TOKEN_POOLINGS)
@given(case=hidden_and_lengths())
def test_a_mask_that_keeps_all_is_no_mask(name, case):
    hidden, _ = case
    mask = torch.ones(hidden.shape[:2], dtype=torch.int64)
    torch.testing.assert_close(POOLINGS[name](hidden, mask), POOLINGS[name](hidden))


@pytest.mark.parametrize("name", sorted(set(POOLINGS) - {"flatten"}))
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4)], ids=str)
def test_a_constant_gives_that_constant(name, shape):
    pooled = POOLINGS[name](torch.full(shape, 7.0))
    assert pooled.shape[0] == 2
    assert pooled.ndim == 2
    assert bool((pooled == 7).all())


@pytest.mark.parametrize("name", ["mean", "max", "gap", "gmp", "auto"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 4, 5, 6)], ids=str)
def test_space_is_reduced_and_channels_stay(name, shape):
    hidden = torch.arange(float(torch.Size(shape).numel())).reshape(shape)
    reduce = torch.amax if name in ("max", "gmp") else torch.mean
    expected = reduce(hidden, dim=tuple(range(2, len(shape))))
    torch.testing.assert_close(POOLINGS[name](hidden), expected)


@pytest.mark.parametrize("name", ["gap", "gmp"])
@pytest.mark.parametrize("rank", [3, 4, 6])
def test_gap_and_gmp_reduce_all_after_the_second_axis(name, rank):
    hidden = torch.randn((2, 3, *[2] * (rank - 2)), generator=torch.Generator())
    flat = hidden.flatten(2)
    expected = flat.mean(2) if name == "gap" else flat.amax(2)
    torch.testing.assert_close(POOLINGS[name](hidden), expected)


@pytest.mark.parametrize("name", ["last", "cls"])
def test_there_is_no_last_or_first_token_in_an_image(name):
    with pytest.raises(
        ValueError, match=rf"`pooling`='{name}' must .* three axes .*2, 3, 4, 5"
    ):
        POOLINGS[name](torch.zeros(2, 3, 4, 5))


@pytest.mark.parametrize("name", ["mean", "max"])
def test_six_axes_are_not_guessed_at(name):
    with pytest.raises(
        ValueError,
        match=rf"`pooling`='{name}' must .* most three to five axes.*'gap' or 'gmp'",
    ):
        POOLINGS[name](torch.zeros(1, 1, 1, 1, 1, 1))


@pytest.mark.parametrize("name", TOKEN_POOLINGS)
def test_a_mask_of_another_length_is_refused(name):
    expected = (
        r"`mask` must have shape \(n_samples, n_tokens\) = \(2, 5\), got \(2, 4\)"
    )
    with pytest.raises(ValueError, match=expected):
        POOLINGS[name](torch.zeros(2, 5, 3), torch.ones(2, 4))


@pytest.mark.parametrize("name", TOKEN_POOLINGS)
def test_a_row_without_any_token_is_nan(name):
    pooled = POOLINGS[name](torch.ones(2, 3, 1), torch.tensor([[1, 1, 0], [0, 0, 0]]))
    assert pooled[0].item() == 1
    assert bool(pooled[1].isnan())


@pytest.mark.parametrize("name", sorted(POOLINGS))
def test_one_number_per_row_is_one_column(name):
    assert POOLINGS[name](torch.arange(3.0)).tolist() == [[0], [1], [2]]


@pytest.mark.parametrize("name", TOKEN_POOLINGS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64], ids=str)
def test_half_and_integer_types_are_pooled_in_float32(name, dtype):
    hidden = torch.full((1, 4_096, 1), 33).to(dtype)  # the sum overflows float16
    pooled = POOLINGS[name](hidden)
    assert pooled.dtype == torch.float32
    assert pooled.item() == 33


def test_float64_stays_float64():
    assert (
        pooling.mean(torch.zeros(1, 2, 3, dtype=torch.float64)).dtype == torch.float64
    )


def test_flatten_keeps_every_value():
    hidden = torch.arange(24.0).reshape(2, 3, 4)
    assert POOLINGS["flatten"](hidden).tolist() == hidden.reshape(2, 12).tolist()


@pytest.mark.parametrize("name", ["auto", "mean", "max", "last", "cls"])
def test_no_advice_keeps_the_padding_where_a_mask_does_not_fit(name):
    """What averages over the last axis averages features, and padding with them."""
    mask = torch.ones(2, 4)
    with pytest.raises(ValueError, match="a callable `pooling` that leaves") as caught:
        POOLINGS[name](torch.zeros(2, 5, 3), mask)
    assert "rows of one length" in str(caught.value)
    assert "gap" not in str(caught.value)
