"""Hints from the links of a corpus to the line that a model reads, over a kill; and what is refused."""

import random

import pytest

from nmt.cli.main import main
from nmt.config import load
from nmt.errors import ConfigError
from nmt.recipes.train import refuse_unknown_tags, train
from nmt.text import TextPair
from nmt.text.tokenizer import WhitespaceTokenizer
from tests import tiny
from tests.system.test_mixture import Kill, Killed
from tests.system.test_resume import hashes, read_state

pytestmark = pytest.mark.usefixtures("step_by_step")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder, generator = tmp_path_factory.mktemp("hints"), random.Random(5)
    pairs = [
        (line, " ".join(tiny.WORDS[word] for word in line.split())) for line, _ in tiny.copied_lines(generator, 30)
    ]
    links = [" ".join(f"{place}-{place}" for place in range(len(line.split()))) for line, _ in pairs]
    (folder / "links").write_text("".join(f"{line}\n" for line in links))
    files = {"source": f"{folder}/train.es", "target": f"{folder}/train.en", "alignment": f"{folder}/links"}
    data = {"max_length": 30, "train": files, "variation": {"tags": 0.5, "placeholders": 0.2}}
    data["tokenizer"] = {"type": "character"}
    training = {
        "batch_tokens": 300, "max_updates": 3, "validate_every_updates": 3,
        "save_every_updates": 1, "log_every_updates": 1, "keep_last": 9, "tensorboard": False,
    }  # fmt: skip
    search = {"beam_size": 2, "max_length": 4, "engine": "keras"}
    model = tiny.with_dropout(tiny.TRANSFORMER, 0.2)
    corpora = {"train": pairs, "validation": pairs[:2]}
    return tiny.write_config(folder, corpora, data=data, model=model, training=training, search=search)


def test_a_run_with_hints_goes_on_to_the_bit_and_takes_hints(config, capsys, monkeypatch):
    assert main(["train", str(config)]) == 0
    folder = config.parent
    whole, killed, log = folder / "run", folder / "killed", capsys.readouterr().err
    assert "hints of train: " in log
    settings = [f"model_directory={killed}"]
    with pytest.raises(Killed):
        train(load(config, settings), reporters=[Kill(2)])
    assert main(["train", str(config), "--set", settings[0]]) == 0
    one, other = (run / "checkpoints/update-00000003" for run in (whole, killed))
    assert hashes(one) == hashes(other)
    assert read_state(one) == read_state(other)
    assert len(TextPair.load(whole).source.tags) == 3
    capsys.readouterr()

    # Both ways to give hints: a file, and records of their own.
    (folder / "hints.tsv").write_text("gato\tcat | kitten\nperro\tdog\n")
    (folder / "in").write_text("uno gato\nun perrito\ngato gato\n")
    assert main(["translate", str(whole), "--hints", f"{folder}/hints.tsv", "--input", f"{folder}/in"]) == 0
    assert "hints: 3 placed in 2 of 3 lines: " in capsys.readouterr().err
    (folder / "in").write_text('{"source": "uno gato", "hints": {"uno": "one"}}\n')
    assert main(["translate", str(whole), "--input-format", "jsonl", "--input", f"{folder}/in"]) == 0
    assert "hints: 1 placed in 1 of 1 lines: " in capsys.readouterr().err

    # Terms are looked for in the text that the model reads, in which there are no tags.
    (folder / "in").write_text('uno <b>gato</b>\n<i>uno gato</i> dos\nuno <a title="perro">dos</a>\n')
    (folder / "hints.tsv").write_text("uno gato\tcat\nperro\tdog\n")
    hints = ["--hints", f"{folder}/hints.tsv", "--input", f"{folder}/in", "--markup", "xml"]
    assert main(["translate", str(whole), *hints]) == 0
    assert "hints: 2 placed in 2 of 3 lines: " in capsys.readouterr().err

    # Links are part of the text: others, or other words that they count, are another corpus.
    counted = ["--set", "data.train.alignment_tokenized=true", "--set", "training.max_updates=4"]
    assert main(["train", str(config), *counted]) != 0
    assert "data.train.alignment_tokenized: now true" in capsys.readouterr().err
    path = folder / "links"
    path.write_text(path.read_text().replace("0-0 1-1", "0-1 1-0"))
    assert main(["train", str(config), "--set", "training.max_updates=4"]) != 0
    assert "the text in data.train has changed" in capsys.readouterr().err
    path.write_text(path.read_text().replace("0-1", "0-9"))
    assert main(["train", str(config), "--set", f"model_directory={folder}/other"]) != 0
    assert "links, line " in capsys.readouterr().err


def test_what_a_run_lacks_for_hints_is_refused(config):
    with pytest.raises(ConfigError, match=r"data.train.alignment is missing.*tags or placeholders, which needs links"):
        load(config, ["data.train.alignment=null"])
    with pytest.raises(ConfigError, match=r"data.validation.alignment is for data.train"):
        load(config, ["data.validation.alignment=links"])
    assert (
        load(config, ["data.train.alignment=null", "data.variation={tags: 0, placeholders: 0, typos: 0.1}"]).data.hints
        == []
    )
    settings = {"joint": False, "vocabulary_size": None, "minimum_count": 1}
    text = TextPair.learn(WhitespaceTokenizer, ["a"], ["b"], **settings)
    with pytest.raises(ConfigError, match=r"data.variation has tags, whose marks must be symbols of the vocabulary"):
        refuse_unknown_tags(load(config), text)
    refuse_unknown_tags(load(config), text.with_hint_marks())
