"""Objects, by their class and the state that pickle would copy."""

import copy
import copyreg
import pickle
import types
import typing

import pytest
from tokenizers.pre_tokenizers import PreTokenizer
from transformers import AutoTokenizer, ByT5Tokenizer

from sklearn_torch_bridge._digest import _object_state, digest
from sklearn_torch_bridge._errors import FingerprintError
from tests.digest.test_digest_value import named

T = typing.TypeVar("T")


P = typing.ParamSpec("P")


Width = typing.NewType("Width", int)


def test_objects_that_answer_every_question_wrong_are_no_hindrance():
    class Stubborn:
        def __getattr__(self, name):
            raise KeyError(name)

    assert digest(Stubborn()) == digest(Stubborn())


def test_names_for_type_checkers_are_written_as_names():
    functions = [
        lambda x: typing.cast(T, x),
        lambda x: typing.cast(P, x),
        lambda x: typing.cast(Width, x),
    ]
    assert len({digest(function) for function in functions}) == 3
    assert digest(typing.TypeVar("T")) == digest(T)
    assert digest(typing.TypeVar("U")) != digest(T)


class WithState:
    """Says by itself what counts."""

    def __init__(self, size, memo):
        self.size, self.memo = size, memo

    def __getstate__(self):
        return {"size": self.size}


def test_an_object_may_say_what_its_state_is():
    assert digest(WithState(1, memo=1)) == digest(WithState(1, memo=2))
    assert digest(WithState(1, memo=1)) != digest(WithState(2, memo=1))


# Notes for people, places, and what was worked out before: seen in these libraries.
WITHOUT_EFFECT = {
    "transformers": "_commit_hash _name_or_path name_or_path transformers_version"
    " _post_init_done _processor_class warnings_issued",
    "transformers.tokenization_utils_base": "_in_target_context_manager"
    " deprecation_warnings files_loaded init_inputs init_kwargs verbose vocab_file",
    "sentence_transformers": "_accelerate_placement_hook _chat_template_suffix_cache"
    " _method_signature_cache _model_card_text _model_card_vars _modules_placed"
    " _prompt_length_mapping model_card_data",
    "sklearn": "_stop_words_id",
    "torch.fx": "_code _graph _lineno_map _prologue_start _tracer_cls _tracer_extras"
    " meta shape_env",
}


@pytest.mark.parametrize(
    ("library", "name"),
    [(key, name) for key, names in WITHOUT_EFFECT.items() for name in names.split()],
)
def test_what_a_library_only_notes_counts_in_none_of_its_objects(library, name):
    made = type("Made", (), {"__module__": f"{library}.made"})
    one, other, third = (named(made(), size=1, **{name: note}) for note in (1, 2, 1))
    assert digest(one) == digest(other)
    third.size = 2
    assert digest(one) != digest(third)


@pytest.mark.parametrize(
    "name", sorted(set().union(*_object_state._OF_NO_EFFECT.values()))
)
def test_what_has_no_effect_in_a_library_counts_elsewhere(name):
    one, other = (types.SimpleNamespace(**{name: number}) for number in (1, 2))
    assert digest(one) != digest(other)


def test_identities_of_temporary_objects_are_not_taken_for_shared_ones():
    class Fresh:
        def __init__(self, numbers):
            self.numbers = numbers

        def __reduce__(self):
            return Fresh, (list(self.numbers),)

    values = [Fresh([number]) for number in range(100)]
    assert digest(values) == digest(copy.deepcopy(values))
    assert digest(values[:50]) != digest(values[50:])


def test_an_exception_is_the_same_whoever_was_imported(monkeypatch):
    """Importing distributed has exceptions pickle with their traceback."""

    def with_traceback(error):
        return type(error), error.args, {"traceback": repr(error.__traceback__)}

    error = RuntimeError("boom")
    before = digest(error)
    monkeypatch.setitem(copyreg.dispatch_table, RuntimeError, with_traceback)
    with pytest.raises(RuntimeError, match="boom"):
        raise error
    assert digest(error) == before


def test_a_tokenizer_is_the_same_however_it_was_used(tokenizer, minilm_path):
    expected = digest(tokenizer)
    other = AutoTokenizer.from_pretrained(minilm_path)
    assert digest(other) == expected
    other(["a b", "c"], padding=True, truncation=True, max_length=3)
    other(["a"], padding="max_length", max_length=9)
    assert digest(other) == expected
    assert digest(copy.deepcopy(other)) == expected
    assert digest(pickle.loads(pickle.dumps(other))) == expected  # noqa: S301 - our own bytes


@pytest.mark.parametrize(
    "edit",
    [
        lambda tokenizer: tokenizer.add_tokens(["wonderful"]),
        lambda tokenizer: tokenizer.add_special_tokens({"pad_token": "[MINE]"}),
        lambda tokenizer: setattr(tokenizer, "model_max_length", 8),
        lambda tokenizer: setattr(tokenizer, "truncation_side", "left"),
        lambda tokenizer: setattr(tokenizer, "model_input_names", ["input_ids"]),
        lambda tokenizer: setattr(tokenizer.backend_tokenizer, "normalizer", None),
        lambda tokenizer: setattr(
            tokenizer.backend_tokenizer, "encode_special_tokens", True
        ),
        lambda tokenizer: setattr(
            tokenizer.backend_tokenizer.model, "unk_token", "[PAD]"
        ),
    ],
    ids=[
        *("token", "special token", "maximum", "side", "inputs", "normaliser"),
        "splits",
        "unknown words",
    ],
)
def test_edits_of_a_tokenizer_are_seen(tokenizer, minilm_path, edit):
    other = AutoTokenizer.from_pretrained(minilm_path)
    edit(other)
    assert digest(other) != digest(tokenizer)


def test_a_tokenizer_with_a_part_in_python_is_refused(minilm_path):
    class Words:
        def pre_tokenize(self, text):
            text.split(lambda _, whole: [whole])

    other = AutoTokenizer.from_pretrained(minilm_path)
    other.backend_tokenizer.pre_tokenizer = PreTokenizer.custom(Words())
    with pytest.raises(FingerprintError, match="it is an object whose state cannot be"):
        digest(other)


def test_a_tokenizer_in_a_function(tokenizer, minilm_path):
    def wrap(tokenizer, length):
        return lambda texts: tokenizer(texts, truncation=True, max_length=length)

    expected = digest(wrap(tokenizer, 8))
    assert digest(wrap(AutoTokenizer.from_pretrained(minilm_path), 8)) == expected
    assert digest(wrap(tokenizer, 9)) != expected


def test_a_tokenizer_written_in_python():
    found = {digest(ByT5Tokenizer(extra_ids=number)) for number in (1, 2)}
    assert len(found) == 2
    assert digest(ByT5Tokenizer(extra_ids=1)) in found
