"""The model as compiled code, kept for as long as the model stays as it is.

Hides `torch.compile`: its settings, what it keeps, and how a changed model is noticed.
"""

from sklearn_torch_bridge._compiled._compiled_model import compiled, repeat_single_row

__all__ = ["compiled", "repeat_single_row"]
