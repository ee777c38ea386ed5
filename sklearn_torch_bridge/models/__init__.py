"""What the parameter `model` may be: one small file a library, and a registry.

Hides how each library names, loads and prepares its models, and which stay loaded.
``models.register`` adds a prefix for strings of your own.
"""

from sklearn_torch_bridge._packages import set_home
from sklearn_torch_bridge.models._accepted_inputs import (
    AcceptedInputs as AcceptedInputs,
)
from sklearn_torch_bridge.models._by_callable import ByCallable as ByCallable
from sklearn_torch_bridge.models._fixed_length import NO_MAXIMUM as NO_MAXIMUM
from sklearn_torch_bridge.models._fixed_length import FixedLength as FixedLength
from sklearn_torch_bridge.models._fixed_length import fixed_length as fixed_length
from sklearn_torch_bridge.models._load_model import files_of as files_of
from sklearn_torch_bridge.models._load_model import is_loaded as is_loaded
from sklearn_torch_bridge.models._load_model import load_model as load_model
from sklearn_torch_bridge.models._load_model import (
    may_bring_preprocess as may_bring_preprocess,
)
from sklearn_torch_bridge.models._load_model import opens_files as opens_files
from sklearn_torch_bridge.models._load_model import told_of as told_of
from sklearn_torch_bridge.models._loaded_model import LoadedModel
from sklearn_torch_bridge.models._longest_row import Maximum as Maximum
from sklearn_torch_bridge.models._longest_row import check_length as check_length
from sklearn_torch_bridge.models._longest_row import longest_text as longest_text
from sklearn_torch_bridge.models._media import Clip as Clip
from sklearn_torch_bridge.models._media import SoundRows as SoundRows
from sklearn_torch_bridge.models._padding_masks import MASKS as MASKS
from sklearn_torch_bridge.models._padding_masks import read_mask as read_mask
from sklearn_torch_bridge.models._processors import (
    is_media_processor as is_media_processor,
)
from sklearn_torch_bridge.models._processors import media_of as media_of
from sklearn_torch_bridge.models._processors import text_part as text_part
from sklearn_torch_bridge.models._prompts import Told as Told
from sklearn_torch_bridge.models._prompts import text_of_prompt as text_of_prompt
from sklearn_torch_bridge.models._registry import register
from sklearn_torch_bridge.models._sentence_transformers import (
    check_no_pairs as check_no_pairs,
)

__all__ = ["LoadedModel", "register"]

set_home(globals())
