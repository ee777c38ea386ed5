"""The tokens of each row, without those that pad it, for `pooling` None."""

import torch

from sklearn_torch_bridge._types import Tokens, UnevenBatchError

__all__ = ["OwnTokens"]

_TWO_AXES = 2


class OwnTokens:
    """Takes the real tokens of each row of what one layer returns.

    The second axis is that of the tokens if it is as long as the masks of batches of
    two lengths. As long as one length was seen, that might be chance (of the channels
    of a convolution, say): then the longest rows of a batch run without the others.
    """

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}  # of the second axis, for lengths of the mask
        self._has_parted = False

    def __call__(
        self, hidden: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor | Tokens:
        """Return the tokens that `mask` keeps; vectors as they are."""
        keep = mask.to(device=hidden.device, dtype=torch.bool)
        n_tokens, size = keep.shape[1], hidden.shape[1]
        self._sizes[n_tokens] = size
        is_table = hidden.ndim == _TWO_AXES
        if bool(keep.all()):
            all_tokens = Tokens(hidden.flatten(0, 1), [size] * len(hidden))
            return hidden if is_table else all_tokens
        lengths = keep.sum(1).tolist()
        if size == n_tokens and len(self._sizes) == 1 and not self._has_parted:
            self._has_parted = True
            _part_longest(lengths)
        follows = all(length == found for length, found in self._sizes.items())
        if is_table:
            if follows and len(self._sizes) > 1:
                msg = (
                    "`pooling`=None must have vectors of one width, or an axis of "
                    "tokens before that of the features, got one number a token, of "
                    f"shape {tuple(hidden.shape)}. Take a callable `pooling`."
                )
                raise ValueError(msg)
            return hidden
        if follows:
            return Tokens(hidden[keep], lengths)
        if len(set(lengths)) > 1:  # of one length, rows are not padded
            raise UnevenBatchError.grouped(lengths)
        msg = (
            "`pooling`=None must have one output a token, to leave out those that pad "
            f"a row, but for {n_tokens} tokens the output has shape "
            f"{tuple(hidden.shape)}. Name a `pooling`, or tap another `layer`."
        )
        raise ValueError(msg)


def _part_longest(lengths: list[int]) -> None:
    """Part a batch into its longest rows and the others, if there are any."""
    largest = max(lengths)
    error = UnevenBatchError.grouped([length < largest for length in lengths])
    if len(error.parts) > 1:
        raise error
