"""What hypothesis draws: tensors of any dtype and layout, and lists of them."""

import torch
from hypothesis import strategies as st

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool]
DTYPES = [*FLOATS, *INTEGERS]


def _transposed(tensor):
    return tensor.transpose(0, -1).contiguous().transpose(0, -1)


def _strided(tensor):
    wide = torch.zeros((*tensor.shape[:-1], 2 * tensor.shape[-1] + 1)).to(tensor.dtype)
    view = wide[..., 1::2]
    view.copy_(tensor)
    return view


def _offset(tensor):
    return torch.cat([tensor[:1], tensor])[min(1, len(tensor)) :]


def _expanded(tensor):
    return tensor[:1].expand(tensor.shape)


def _negative_bit(tensor):
    return torch._neg_view(-tensor) if tensor.is_floating_point() else tensor


def _negative_bit_strided(tensor):
    if not tensor.is_floating_point() or tensor.dtype is torch.bfloat16:
        return tensor  # there is no complex dtype to take the imaginary part of
    return torch.complex(torch.zeros_like(tensor), -tensor).conj().imag


def _with_gradient(tensor):
    return tensor.requires_grad_() if tensor.is_floating_point() else tensor


def _shared(tensor):
    return tensor.clone().share_memory_()


LAYOUTS = {
    "contiguous": lambda tensor: tensor,
    "transposed": _transposed,
    "strided": _strided,
    "offset": _offset,
    "expanded": _expanded,
    "negative bit": _negative_bit,
    "negative bit, strided": _negative_bit_strided,
    "gradient": _with_gradient,
    "parameter": lambda tensor: torch.nn.Parameter(tensor, requires_grad=False),
    "shared memory": _shared,
}
SPARSE_LAYOUTS = {
    "coo": torch.Tensor.to_sparse,
    "csr": torch.Tensor.to_sparse_csr,
    "csc": torch.Tensor.to_sparse_csc,
}


@st.composite
def dense(draw, shapes, dtypes=DTYPES, layouts=tuple(LAYOUTS)):
    """Draw a strided tensor whose small whole values every dtype holds."""
    shape = draw(shapes)
    dtype = draw(st.sampled_from(dtypes))
    is_signed = dtype.is_signed and dtype is not torch.bool
    seed = draw(st.integers(0, 2**16))
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(-9 if is_signed else 0, 10, shape, generator=generator)
    layout = draw(st.sampled_from(layouts)) if shape else "contiguous"
    return LAYOUTS[layout](values.to(dtype))


def shapes(min_axes=1, max_axes=4):
    """Draw a shape with no, one or a few rows."""
    return st.lists(st.integers(1, 5), min_size=min_axes, max_size=max_axes).flatmap(
        lambda sizes: st.sampled_from([tuple(sizes), (0, *sizes[1:])])
    )


@st.composite
def sparse(draw):
    """Draw a sparse matrix."""
    matrix = draw(dense(shapes(2, 2), FLOATS, ("contiguous",)))
    return SPARSE_LAYOUTS[draw(st.sampled_from(sorted(SPARSE_LAYOUTS)))](matrix)


@st.composite
def rows(draw):
    """Draw a list of rows of one length, each of its own dtype and layout."""
    length = draw(st.integers(1, 4))
    row = dense(st.just((length,)))
    return draw(st.lists(row, min_size=1, max_size=6))


@st.composite
def batches(draw):
    """Draw a list of batches of one width."""
    width = draw(st.integers(1, 4))
    batch = st.integers(0, 4).flatmap(lambda n: dense(st.just((n, width))))
    return draw(st.lists(batch, min_size=1, max_size=4))
