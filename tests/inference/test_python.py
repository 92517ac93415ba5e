"""The Python interface: one door to both engines, endless streams, threads, copies for other processes, forks.

A copy is sent to another process by docs/python.md, which `tests/test_docs.py` runs.
"""

import itertools
import os
import pickle
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from nmt.control.controls import Control, Sampling
from nmt.errors import ConfigError
from nmt.inference.translator import Translator
from nmt.translation.ctranslate2_engine import CTranslate2Translator
from nmt.translation.line_translator import LINES_AHEAD

FEW = ["uno dos tres", "", "cuatro", "cinco seis"]
LINES = ["uno dos tres", "", "cuatro", "siete ocho nueve dos uno dos tres", "  ", "cinco seis", "nueve", "ocho uno"]


@pytest.fixture(scope="module")
def translator(trained_run):
    return Translator.load(trained_run.directory)


# The door


@pytest.mark.usefixtures("eagerly")
def test_several_directories_are_one_ensemble(trained_run):
    both = [trained_run.directory, f"{trained_run.directory}@latest"]
    together, one_by_one = Translator.load(both), Translator.load(*both)
    assert len(together.model.models) == 2
    assert together.n_best(FEW, 1) == one_by_one.n_best(FEW, 1)


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_both_engines_are_behind_one_door(exported_run, transformer_run):
    engine = Translator.load(exported_run, engine="ctranslate2", threads=1, overrides=["search.beam_size=3"])
    assert isinstance(engine, CTranslate2Translator)
    assert engine.search.beam_size == 3
    model = Translator.load([transformer_run.directory], engine="keras", overrides=["search.beam_size=3"])
    assert engine.translate(LINES, beam_size=1) == model.translate(LINES, beam_size=1)
    assert list(engine.stream(LINES, lines_ahead=3)) == engine.translate(LINES)
    for use in (engine.score, engine.complete, engine.align):
        with pytest.raises(ConfigError, match="score, align and complete with the model directory"):
            use([("uno", "one")])
    with pytest.raises(ConfigError, match="give its directory alone, or model"):
        Translator.load(exported_run, engine="ctranslate2", checkpoint="best")


def test_what_no_engine_can_do_is_refused(trained_run):
    with pytest.raises(ConfigError, match="the engine must be auto, keras or ctranslate2, got marian"):
        Translator.load(trained_run.directory, engine="marian")
    with pytest.raises(ConfigError, match="threads are for CTranslate2"):
        Translator.load(trained_run.directory, engine="keras", threads=2)
    with pytest.raises(ConfigError, match="there must be a model directory, got none"):
        Translator.load([])


# Streams


class Counted:
    """Lines without an end, which know how many of them were read."""

    def __init__(self):
        self.read = 0

    def __iter__(self):
        for line in itertools.cycle(LINES):
            self.read += 1
            yield line


@pytest.mark.usefixtures("eagerly")
def test_an_endless_stream_is_read_no_further_than_said(translator):
    lines = Counted()
    stream = translator.stream(lines, lines_ahead=5)
    assert lines.read == 0
    found = []
    for asked in range(1, 13):
        found.append(next(stream))
        assert lines.read == 5 * -(-asked // 5)
    assert found == translator.translate(list(itertools.islice(itertools.cycle(LINES), 12)))
    stream.close()
    assert list(translator.stream(iter(()))) == []
    assert LINES_AHEAD >= 100


@pytest.mark.usefixtures("eagerly")
def test_a_stream_draws_and_asks_what_translate_does(translator):
    banned = Control(avoid=(translator.translate(FEW)[3].split()[0],))
    for more in ({"sampling": Sampling(seed=7, temperature=2.0)}, {"controls": [Control()] * 3 + [banned]}):
        found = list(translator.stream(iter(FEW), lines_ahead=3, **more))
        assert found == translator.translate(FEW, **more) != translator.translate(FEW)


@pytest.mark.usefixtures("eagerly")
def test_what_cannot_be_streamed_is_refused(translator):
    with pytest.raises(TypeError, match=r"got one str: pass \[line\]"):
        translator.stream("uno dos")
    for wrong in ({"lines_ahead": 0}, {"lines_ahead": True}, {"beam_size": 0}):
        with pytest.raises(ConfigError, match=r"must be 1 or more, got (0|True): give an int"):
            translator.stream(LINES, **wrong)
    stream = translator.stream(["uno", "dos", "tres", None], lines_ahead=2)
    assert len([next(stream), next(stream)]) == 2
    with pytest.raises(TypeError, match="got NoneType as line 4"):
        next(stream)
    with pytest.raises(ConfigError, match="one control a line, got 1 for 2 lines"):
        next(translator.stream(LINES, lines_ahead=2, controls=[Control()]))


def test_pairs_that_are_none_are_refused(translator):
    for wrong in (("uno", "one"), [("uno", "one", "1")], [(1, "one")], ["ab"]):
        with pytest.raises(TypeError, match=r"pairs must be a list of \(source, target\), got .* as pair 1"):
            translator.score(wrong)
        with pytest.raises(TypeError, match=r"pairs must be a list of \(source, target\)"):
            translator.align(wrong)


# Threads


@pytest.mark.slow
def test_eight_threads_get_what_one_gets(transformer_run):
    """From the first call on, which compiles what it needs."""
    translator = Translator.load(transformer_run.directory)
    pairs = [(line, translation) for line in LINES[:4] for translation in ("one two", "four")]
    uses = [
        lambda: translator.translate(LINES, batch_size=3),
        lambda: translator.score(pairs),
        lambda: translator.n_best(LINES, 1),
        lambda: list(translator.stream(LINES, lines_ahead=3)),
        lambda: translator.complete("uno dos tres", "one", 3),
    ]
    barrier = threading.Barrier(8)

    def work(number):
        barrier.wait()
        order = [(number + place) % len(uses) for place in range(len(uses))]  # each begins with another
        return [(place, uses[place]()) for place in order]

    with ThreadPoolExecutor(8) as pool:
        results = [result for results in pool.map(work, range(8)) for result in results]
    spoken = sum(bool(line.strip()) for line in LINES)
    assert translator._tally.lines == 8 * 3 * spoken  # nobody's count was lost
    alone = [use() for use in uses]
    assert len(results) == 8 * len(uses)
    assert all(result == alone[place] for place, result in results)


@pytest.mark.usefixtures("eagerly")
def test_threads_share_a_recurrent_model(trained_run):
    translator = Translator.load(trained_run.directory)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(translator.translate, [FEW] * 4)) == [translator.translate(FEW)] * 4


# Other processes


@pytest.mark.usefixtures("eagerly")
def test_a_copy_is_opened_from_the_same_checkpoint(trained_run, monkeypatch):
    monkeypatch.chdir(trained_run.directory.parent)
    original = Translator.load(trained_run.directory.name, checkpoint="latest", overrides=["search.beam_size=3"])
    original.search = original.search.model_copy(update={"length_penalty": 0.3})
    monkeypatch.chdir("/")
    copy = pickle.loads(pickle.dumps(original))
    assert copy.n_best(FEW, 3) == original.n_best(FEW, 3)
    assert copy.search == original.search
    assert pickle.loads(pickle.dumps(original)) is copy  # as a worker process meets it, task by task
    (found,) = copy._origin.found
    assert found[:3] == (trained_run.directory, "update-00000020", "raw")
    both = Translator.load(trained_run.directory, f"{trained_run.directory}@latest", member_weights=[0.7, 0.3])
    assert pickle.loads(pickle.dumps(both)).n_best(FEW, 1) == both.n_best(FEW, 1)


def test_what_is_in_memory_alone_is_not_pickled(trained_run):
    opened = Translator.load(trained_run.directory)
    with pytest.raises(TypeError, match=r"cannot be pickled: save the model in a directory"):
        pickle.dumps(Translator(opened.model, opened.text))
    opened.model.output_bias.assign(2.0 * opened.model.output_bias)
    with pytest.raises(TypeError, match=r"the weights are no longer those of .*run: save a checkpoint"):
        pickle.dumps(opened)


@pytest.mark.slow
def test_a_copy_of_an_export_is_opened_from_its_directory(exported_run):
    engine = Translator.load(exported_run, engine="ctranslate2", threads=1, overrides=["search.beam_size=3"])
    copy = pickle.loads(pickle.dumps(engine))
    assert copy.n_best(LINES, 3) == engine.n_best(LINES, 3)
    with pytest.raises(TypeError, match=r"only what CTranslate2Translator\.load returns"):
        pickle.dumps(CTranslate2Translator(engine.engine, engine.text, num_positions=engine.num_positions))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["keras", "ctranslate2"])
def test_a_forked_process_is_told_instead_of_waiting_for_ever(engine, exported_run, transformer_run):
    directory = exported_run if engine == "ctranslate2" else transformer_run.directory
    translator = Translator.load(directory, engine=engine)
    copy = pickle.dumps(translator)
    uses = [lambda: translator.translate(LINES), lambda: next(translator.stream(LINES)), lambda: pickle.loads(copy)]
    if engine == "keras":
        pairs = [("uno", "one")]
        uses += [lambda: translator.score(pairs), lambda: translator.align(pairs), lambda: translator.complete("uno")]
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        signal.alarm(60)  # else a call that waits would hold the test
        for use in uses:
            try:
                use()
            except RuntimeError as error:
                os.write(writer, f"{error}\n".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as messages:
        told = messages.readlines()
    os.waitpid(child, 0)
    assert len(told) == len(uses)
    assert all("was forked from one in which" in line and 'get_context("spawn")' in line for line in told)
