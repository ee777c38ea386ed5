"""What is no model is refused with the way out."""

import pytest
import transformers
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor
from tests import families


class Classifier:
    """Stands for an estimator with a network, as those for tables."""

    def __init__(self):
        self.network, self.scaler = nn.Linear(2, 2), None

    def fit(self, X):
        return self


class Callable(Classifier):
    """Takes rows when it is called."""

    def __call__(self, rows):
        return self.network(rows)


class Loader(Classifier):
    """Returns its module when it is called: a callable like others."""

    def __call__(self):
        return self.network


@pytest.mark.parametrize("cls", [Classifier, Callable])
def test_an_object_that_holds_a_module_says_which(cls):
    words = rf"got a {cls.__name__}. It holds one: give its \.network\."
    with pytest.raises(TypeError, match=words):
        TorchFeatureExtractor(cls()).transform([[1.0, 2]])


def test_a_callable_that_returns_the_module_it_holds_is_a_loader():
    assert TorchFeatureExtractor(Loader()).transform([[1.0, 2]]).shape == (1, 2)


def test_of_several_modules_all_are_named():
    given = Classifier()
    given.second = nn.ReLU()
    with pytest.raises(TypeError, match=r"its \.network, or another of \.second\."):
        TorchFeatureExtractor(given).transform([[1.0, 2]])


@pytest.mark.parametrize("task", ["feature-extraction", "text-classification"])
def test_a_pipeline_says_what_to_give(task):
    config, _ = families.TEXTS["bert"]
    cls = transformers.BertForSequenceClassification
    model = (transformers.BertModel if task[0] == "f" else cls)(config)
    tokenizer = families.make_tokenizer()
    pipe = transformers.pipeline(task, model=model, tokenizer=tokenizer)
    words = r"its \.model with its \.tokenizer as `preprocess`"
    with pytest.raises(TypeError, match=words):
        TorchFeatureExtractor(pipe).transform(["a"])
    extractor = TorchFeatureExtractor(pipe.model, preprocess=pipe.tokenizer)
    output = "last_hidden_state" if task[0] == "f" else "logits"
    assert len(extractor.set_params(output=output).transform(["a b"])) == 1


@pytest.mark.parametrize("given", [3, None, object(), [nn.ReLU()]], ids=type)
def test_what_holds_no_module_is_shown(given):
    with pytest.raises(TypeError, match=r"a bound method of one, .*got"):
        TorchFeatureExtractor(given).transform([[1.0]])


def test_a_function_of_rows_says_how_a_method_is_given():
    with pytest.raises(TypeError, match=r"missing a required .* given bound \(`mod"):
        TorchFeatureExtractor(lambda rows: rows).transform([[1.0]])
