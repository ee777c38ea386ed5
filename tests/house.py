"""The one table of the house: its rooms, from the ground up, and who may enter which.

`whole/test_house.py` holds the imports to it, and the map in ``ARCHITECTURE.md`` is
made of it, with the first line of each room's docstring: ``python tests/house.py`` writes it.
"""

GROUND = [
    *("_types", "_errors", "_packages", "_checks", "_devices", "_free_memory"),
    *("_tensor_bytes", "_pinned_memory", "_row_numbers", "_tokenizers", "pooling"),
]
FOLDERS = [  # from below: each may enter those before it, by their faces
    *("_convert", "_digest", "cache", "_pickling", "_replica", "models", "_compiled"),
    *("_results", "_known", "_rows", "_run", "_storing", "_estimators"),
    *("stats", "adapters", "inspection"),
]
