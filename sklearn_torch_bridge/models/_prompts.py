"""Prompts: texts that a model wants before each of its own, by their names."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from sklearn_torch_bridge._types import Selector

__all__ = ["Told", "text_of_prompt"]

_COLONS = ":\N{FULLWIDTH COLON}"


@dataclass(frozen=True)
class Told:
    """What is told of a model, of some libraries by its files alone.

    `default_prompt` is the name of the prompt that is used where none is asked for, and
    `normalizes` whether the vectors of `output` have length 1, or of which field.
    """

    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    output: Selector = None
    normalizes: bool | str | int = False

    def has_length_1(self, output: Selector, *, is_pooled: bool) -> bool:
        """Return whether the model brings to length 1 what is read of its output."""
        if self.normalizes is True:
            return output is None or output == self.output
        # Of tokens: a mean of vectors of length 1 is shorter.
        is_named = self.normalizes is not False and output == self.normalizes
        return is_named and not is_pooled


def text_of_prompt(prompt: str | None, told: Told) -> str:
    """Return what is put before each text: for a name its prompt, else what is given.

    >>> told = Told({"query": "query: ", "document": ""}, "query")
    >>> [text_of_prompt(one, told) for one in (None, "document", "", "A text: ")]
    ['query: ', '', '', 'A text: ']
    """
    prompts = told.prompts
    if prompt is None:
        return prompts.get(told.default_prompt or "") or ""
    if prompt in prompts:
        return prompts[prompt] or ""
    if prompt and prompts and not _is_text(prompt):
        raise ValueError(_no_such_name(prompt, prompts))
    return prompt


def _is_text(prompt: str) -> bool:
    """Return whether no name looks like this: it has a blank or a colon."""
    return any(one.isspace() or one in _COLONS for one in prompt)


def _no_such_name(prompt: str, prompts: Mapping[str, str]) -> str:
    names = ", ".join(map(repr, prompts))
    close = get_close_matches(prompt, prompts)
    hint = f" Close names: {', '.join(map(repr, close))}." if close else ""
    return (
        f"`prompt` must be a name among the prompts of `model` ({names}), or a text "
        f"with a blank or a colon in it, got {prompt!r}.{hint} To put that very text "
        f"before each row, end it with a blank: {f'{prompt} '!r}."
    )
