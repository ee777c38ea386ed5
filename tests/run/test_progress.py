import pytest

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge._run._progress import progress, reporter
from tests.tiny_models import Tokens, mlp


def run(verbose):
    TorchFeatureExtractor(mlp(), batch_size=2, verbose=verbose).transform(
        [[1.0] * 4] * 5
    )


def test_nothing_is_shown_unless_asked_for(capfd):
    run(verbose=0)
    assert capfd.readouterr() == ("", "")


def test_a_bar_counts_rows_on_standard_error(capfd):
    run(verbose=1)
    out, err = capfd.readouterr()
    assert out == ""
    assert "TorchFeatureExtractor: 100%" in err
    assert "5/5" in err
    assert "row/s" in err


def test_rows_that_are_alike_all_count(tokenizer, capfd):
    extractor = TorchFeatureExtractor(
        Tokens(), preprocess=tokenizer, batch_size=2, verbose=1
    )
    extractor.transform(["a word", "another", "a word", "a word", "a third one"])
    assert "5/5" in capfd.readouterr().err


def test_rows_that_go_into_a_file_count(capfd, tmp_path):
    extractor = TorchFeatureExtractor(mlp(), batch_size=2, verbose=1)
    extractor.transform_to_file([[1.0] * 4] * 5, tmp_path / "Z.npy")
    assert "5/5" in capfd.readouterr().err


def test_without_tqdm_one_line_is_shown(capfd, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    run(verbose=1)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("TorchFeatureExtractor: 5 rows in ")
    assert err.endswith(" s\n")


def test_fit_shows_nothing(capfd):
    TorchFeatureExtractor(mlp(), verbose=1).fit([[1.0] * 4])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("verbose", [True, 2])
def test_larger_values_of_verbose_do_not_hurt(verbose, capfd):
    run(verbose=verbose)
    assert "5/5" in capfd.readouterr().err


def test_the_bar_tells_which_share_was_known(capfd):
    heard = []

    def also(n_rows, *, known=False):
        heard.append((n_rows, known))

    with progress(8, label="rows", verbose=1, also=also) as advance:
        advance(2, known=True)
        advance(4, known=True)
        advance(2)
    assert "8/8" in capfd.readouterr().err.rpartition("75% known")[0]
    assert heard == [(2, True), (4, True), (2, False)]


@pytest.mark.parametrize("has_tqdm", [True, False])
@pytest.mark.parametrize("verbose", [0, 1])
def test_what_takes_long_is_told_where_it_is_asked_for(
    capfd, monkeypatch, has_tqdm, verbose
):
    if not has_tqdm:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    reporter(label="rows", verbose=verbose)("compiling")
    assert capfd.readouterr() == ("", "rows: compiling\n" * verbose)
