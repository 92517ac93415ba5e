"""Whether a run fits into memory, and what it is told where it does not."""

import logging
import re
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from nmt.backend import session
from nmt.backend.machine import MEBIBYTE, RamLimit
from nmt.config import load
from nmt.errors import ConfigError, TrainingError
from nmt.models.contract import Seq2Seq, Vocabularies, model_without_weights
from nmt.models.transformer import Transformer
from nmt.recipes.train import check_config, train
from nmt.settings.training import OPTIMIZERS
from nmt.training import batch_size
from nmt.training.batch_size import (
    PROCESS_BYTES,
    RUN_BYTES,
    TrainingRam,
    advised_when_out_of_memory,
    choose_batch_tokens,
    refuse_too_large_model,
    settle_batch_size,
)

PARTS = 1
SIZES = Vocabularies(8000, 8000, shared=True)
GIB = 1024


def limit_of(mebibytes, *, on_device=False):
    size = {} if mebibytes is None else {"size": mebibytes * MEBIBYTE, "owner": "the test's"}
    return RamLimit(**size, on_device=on_device)


def corpus(longest=100, pairs=5000):
    """What the batch size depends on of a store: how many pairs, and how long."""
    lengths = np.linspace(1, longest, pairs).astype("int32")

    class Store:
        source_lengths = lengths
        target_lengths = lengths
        longest_sides = (int(max(lengths)), int(max(lengths)))

        def __len__(self):
            return pairs

    return Store()


@pytest.fixture
def settings(untrained_config):
    def settings(*overrides):
        model = (
            "model={type: transformer, hidden_size: 256, ffn_size: 1024, num_encoder_layers: 3, num_decoder_layers: 3}"
        )
        return load([untrained_config], [model, *overrides])

    return settings


@pytest.fixture(autouse=True)
def cores(monkeypatch):
    """Batches stay whole, whatever machine this is, unless a test says into how many parts they may be cut."""

    def cores(count):
        monkeypatch.setattr(f"{__name__}.PARTS", count)

    cores(1)
    return cores


@pytest.fixture(autouse=True)
def kernels(monkeypatch):
    """Kernels take 400 MiB, and those of many shapes as many more as a test says."""

    def kernels(mebibytes):
        monkeypatch.setattr(session, "THREAD_KERNEL_BYTES", mebibytes * MEBIBYTE)

    monkeypatch.setattr(session, "library_kernel_bytes", lambda: 400 * MEBIBYTE)
    kernels(0)
    return kernels


def model_of(config):
    return model_without_weights(SIZES, **config.model.model_dump())


def settle(config, mebibytes, *, resumed=False, longest=100, on_device=False):
    limit = limit_of(mebibytes, on_device=on_device)
    return settle_batch_size(
        config, model_of(config), corpus(longest), parts_of=lambda _: PARTS, resumed=resumed, limit=limit
    ).config


def refusal(config, mebibytes, **options):
    with pytest.raises(ConfigError) as error:
        settle(config, mebibytes, **options)
    return str(error.value)


# Refusing


def test_a_run_that_fits_is_left_as_it_is(settings):
    config = settings("training.batch_tokens=3000")
    assert settle(config, 8 * GIB) == config
    assert settle(config, None) == config


def test_a_run_that_does_not_fit_is_told_the_largest_batch_that_does(settings):
    """Said is need, memory, and what to set; the advice is followed, and works."""
    message = refusal(settings("training.batch_tokens=16384"), 3 * GIB)
    found = re.match(
        r"training with training.batch_tokens 16384 needs about (\d\.\d) GiB of memory, and there are 3.0 GiB "
        r"\(the test's\): set training.batch_tokens (\d+), with training.effective_batch_tokens 16384 to keep the size",
        message,
    )
    assert found, message
    assert 3 < float(found[1]) < 7
    fitting = int(found[2])
    followed = ["training.effective_batch_tokens=16384", f"training.batch_tokens={fitting}"]
    assert settle(settings(*followed), 3 * GIB).training.settled_batch_tokens == fitting
    with pytest.raises(ConfigError):
        settle(settings(followed[0], f"training.batch_tokens={fitting + 256}"), 3 * GIB)


def test_the_advice_keeps_the_size_of_an_update_that_was_asked_for(settings):
    message = refusal(settings("training.batch_tokens=16384", "training.effective_batch_tokens=50000"), 3 * GIB)
    assert "training.effective_batch_tokens 50000 to keep" in message


def test_where_no_batch_fits_the_advice_is_another(settings):
    message = refusal(settings("training.batch_tokens=1024"), 900)
    assert "no smaller batch that holds the longest pair (100 tokens) would fit either" in message
    assert "data.max_length" in message


def test_a_run_that_goes_on_cannot_change_its_batches(settings):
    config = settings("training.batch_tokens=16384")
    message = refusal(config, 3 * GIB, resumed=True)
    assert (
        ": go on where there is more memory, or begin in another model_directory with training.batch_tokens" in message
    )
    assert f"training.initialize_from {config.model_directory}" in message


def test_the_longest_pairs_that_the_corpus_has_count(settings):
    config = settings("training.batch_tokens=8192", "data.max_length=1000")
    settle(config, 4 * GIB, longest=60)
    refusal(config, 4 * GIB, longest=1000)


def test_a_warning_may_take_the_place_of_the_refusal(settings, caplog):
    config = settings("training.batch_tokens=16384", "training.on_short_memory=warn")
    assert settle(config, 3 * GIB) == config
    assert "needs about" in caplog.text
    assert "training.on_short_memory warn tries it anyway" in refusal(settings("training.batch_tokens=16384"), 3 * GIB)


def test_a_gpu_holds_no_python(settings):
    """The same memory is enough on a device, since the process itself is not in it."""
    config = settings("training.batch_tokens=4096")
    refusal(config, 2300)
    settle(config, 2300, on_device=True)


def test_the_memory_of_a_gpu_counts_where_there_is_one(monkeypatch):
    of_device, of_machine = limit_of(3, on_device=True), limit_of(7)
    monkeypatch.setattr(batch_size, "device_ram_limit", lambda: of_device)
    monkeypatch.setattr(batch_size, "ram_limit", lambda: of_machine)
    monkeypatch.setattr(session, "has_gpu", lambda: True)
    assert batch_size.find_limit() == of_device
    monkeypatch.setattr(session, "has_gpu", lambda: False)
    assert batch_size.find_limit() == of_machine


def test_a_model_that_is_too_large_is_refused_by_its_sizes(settings):
    huge = settings("model.hidden_size=65536", "model.ffn_size=262144")
    message = (
        r"training a model of 3\d\d,\d{3},\d{3},\d{3} parameters needs about .* GiB of memory before the first batch"
    )
    with pytest.raises(ConfigError, match=message):
        refuse_too_large_model(huge, SIZES, limit=limit_of(24 * GIB))
    refuse_too_large_model(settings(), SIZES, limit=limit_of(24 * GIB))
    refuse_too_large_model(huge, SIZES, limit=limit_of(None))


def test_what_kernels_take_is_counted_in_main_memory(settings, kernels):
    on_machine = TrainingRam(settings(), model_of(settings()), limit_of(1))
    on_device = replace(on_machine, limit=limit_of(1, on_device=True))
    kernels(300)
    assert on_device.process == 0 < on_device.needed(1) == on_device.at_most(1)
    assert on_machine.process == PROCESS_BYTES + RUN_BYTES + 6 * batch_size.LAYER_BYTES + 400 * MEBIBYTE
    assert on_machine.needed(1) == on_machine.process + on_device.needed(1) == on_machine.at_most(1) - 300 * MEBIBYTE


def test_what_only_many_shapes_would_take_is_no_reason_to_refuse_but_told(settings, caplog, kernels):
    kernels(800)
    config = settings("training.batch_tokens=2048")

    def settled(mebibytes):
        return settle_batch_size(
            config, model_of(config), corpus(), parts_of=lambda _: PARTS, resumed=False, limit=limit_of(mebibytes)
        )

    need = float(re.search(r"need about (.*) GiB of", settled(64 * GIB).remarks[0])[1]) * GIB
    assert not caplog.records
    settled(need - 400)
    (warning,) = caplog.messages
    assert re.match(rf"training may come to need {need / GIB:.1f} GiB .* there are .* GiB \(the test's\)", warning)
    with pytest.raises(ConfigError, match=f"needs about {need / GIB - 0.8:.1f} GiB"):
        settled(need - 900)
    assert settle(settings("training.batch_tokens=auto"), need / 0.8).training.batch_tokens == 2048


def test_a_batch_is_cut_only_where_there_is_memory_for_the_gradients_of_each_part(settings, cores):
    config = settings("training.batch_tokens=4096")
    needs = []
    for count in (1, 9):
        cores(count)
        settled = settle_batch_size(
            config, model_of(config), corpus(), parts_of=lambda _: PARTS, resumed=False, limit=limit_of(64 * GIB)
        )
        assert settled.parts == count
        needs.append(float(re.search(r"need about (.*) GiB of", settled.remarks[0])[1]))
    assert needs[0] + 0.2 < needs[1]
    assert settled.remarks[1:] == ("batches go through in 9 parts side by side, a processor core each",)
    between = limit_of(sum(needs) / 2 * GIB)
    whole = settle_batch_size(config, model_of(config), corpus(), parts_of=lambda _: PARTS, resumed=True, limit=between)
    assert whole.parts == len(whole.remarks) == 1
    refusal(config, needs[0] * GIB - 200)


# Choosing


@pytest.mark.parametrize(
    ("mebibytes", "chosen"), [(None, 4096), (24 * GIB, 4096), (3300, 2048), (2600, 1024), (2400, 512), (100, 512)]
)
def test_the_largest_power_of_two_that_leaves_a_fifth_is_chosen(mebibytes, chosen):
    def bytes_of(batch_tokens):
        return (1500 + batch_tokens // 2) * MEBIBYTE

    assert choose_batch_tokens(bytes_of, limit_of(mebibytes).size, longest=100, most=4096) == chosen
    if chosen in (2048, 1024) and mebibytes:
        assert bytes_of(chosen) <= 0.8 * mebibytes * MEBIBYTE < bytes_of(2 * chosen)


@pytest.mark.parametrize(("longest", "least"), [(512, 512), (513, 1024), (3000, 4096), (5000, 5000)])
def test_what_is_chosen_holds_the_longest_pair(longest, least):
    assert choose_batch_tokens(lambda size: 2**50, limit_of(GIB).size, longest=longest, most=4096) == least


def test_auto_becomes_a_number_that_fits(settings):
    config = settings("training.batch_tokens=auto")
    assert config.training.batch_tokens == "auto"
    with pytest.raises(ValueError, match="must be a number by now, got auto"):
        config.training.settled_batch_tokens  # noqa: B018
    assert settle(config, None).training.batch_tokens == 4096
    assert settle(config, 140 * GIB, on_device=True).training.batch_tokens == 8192
    assert settle(config, 2560).training.batch_tokens == 1024
    assert "set" not in refusal(config, 300)


@pytest.mark.parametrize(
    ("effective", "mebibytes", "chosen", "micro_batches"),
    [(25000, 24 * GIB, 4096, 6), (3000, 24 * GIB, 3000, 1), (3000, 2560, 1024, 3), (200, 24 * GIB, 200, 1)],
)
def test_auto_is_no_larger_than_an_update(settings, effective, mebibytes, chosen, micro_batches):
    config = settings("training.batch_tokens=auto", f"training.effective_batch_tokens={effective}")
    training = settle(config, mebibytes).training
    assert (training.batch_tokens, training.micro_batches) == (chosen, micro_batches)


# What the estimate is made of


class OwnModel(Transformer):
    """A model type of somebody's own, who has measured nothing."""

    kept_bytes = Seq2Seq.kept_bytes


def test_a_model_that_nobody_has_measured_is_trained_with_a_warning(settings, caplog):
    config = settings("training.batch_tokens=auto")
    settings_of_model = OwnModel.settings_class(**config.model.model_dump(exclude={"type"}))
    model = OwnModel(SIZES, settings_of_model, seed=1)

    def settled(mebibytes):
        return settle_batch_size(
            config, model, corpus(), parts_of=lambda _: PARTS, resumed=False, limit=limit_of(mebibytes)
        )

    assert (settled(3 * GIB).config.training.batch_tokens, settled(3 * GIB).remarks) == (4096, ())
    assert all(
        each.startswith("how much memory batches take is not known of models of type") for each in caplog.messages
    )
    with pytest.raises(ConfigError, match="no smaller batch"):
        settled(300)


@pytest.mark.parametrize("options", ["type: adam", "type: adamw", "type: sgd", "type: sgd, momentum: 0.9"])
def test_settings_say_how_many_slots_their_optimizer_keeps(settings, options):
    optimizer = settings(f"training.optimizer={{{options}}}").training.optimizer
    built = OPTIMIZERS.build(optimizer)
    built.build([keras.Variable(np.zeros((2, 3)))])
    assert sum(tuple(variable.shape) == (2, 3) for variable in built.variables) == optimizer.slots


# Through the recipe


@pytest.fixture
def machine(monkeypatch):
    def machine(mebibytes):
        monkeypatch.setattr(batch_size, "find_limit", lambda: limit_of(mebibytes))

    return machine


TINY = [
    "training.max_updates=1",
    "training.validate_every_updates=1",
    "training.sample_translations=0",
    "training.tensorboard=false",
    "search.max_length=3",
]


def written(directory):
    return {path.name for path in directory.iterdir() if path.name not in (".lock", "token_store")}


def test_auto_is_written_as_a_number_and_kept_where_a_run_goes_on(untrained_config, machine, eagerly, caplog):
    caplog.set_level(logging.INFO)
    config = load([untrained_config], [*TINY, "training.batch_tokens=auto"])
    machine(1500)
    assert train(config).update == 1
    directory = untrained_config.parent / "run"
    assert load([directory / "config.yaml"]).training.batch_tokens == 512
    log = (directory / "train.log").read_text(encoding="utf-8")
    (need,) = re.findall(r"memory: batches of 512 tokens need about (\d\.\d) GiB of 1\.5 GiB \(the test's\)", log)
    alone = (PROCESS_BYTES + RUN_BYTES) / MEBIBYTE + 400  # and the kernels of this machine
    assert alone / GIB < float(need) <= 1.5

    machine(64 * GIB)
    on_another_machine = config.training.model_copy(update={"max_updates": 2})
    assert train(config.model_copy(update={"training": on_another_machine})).update == 2
    assert load([directory / "config.yaml"]).training.batch_tokens == 512
    with pytest.raises(ConfigError, match=r"training.batch_tokens: 512 before, 4096 now"):
        train(load([untrained_config], [*TINY, "training.batch_tokens=4096"]))


def test_nothing_is_written_of_a_run_that_does_not_fit(untrained_config, machine):
    directory = untrained_config.parent / "run"
    machine(500)
    with pytest.raises(ConfigError, match=r"for TensorFlow alone, and there are 0.5 GiB"):
        train(load([untrained_config], TINY))
    assert written(directory) == set()
    machine(64 * GIB)
    with pytest.raises(ConfigError, match=r"parameters needs about .* and there are 64.0 GiB"):
        train(load([untrained_config], [*TINY, "model.hidden_size=65536", "model.type=rnn"]))
    assert written(directory) == set()


def test_an_error_of_memory_becomes_advice(settings):
    config = settings("training.batch_tokens=3000")
    message = r"memory was not enough for training.batch_tokens 3000: lower it"
    with pytest.raises(TrainingError, match=message), advised_when_out_of_memory(config):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
    with pytest.raises(KeyError), advised_when_out_of_memory(config):
        raise KeyError


def test_checking_a_config_says_that_the_batch_is_to_be_chosen(untrained_config):
    _, remarks = check_config([untrained_config], ["training.batch_tokens=auto"])
    chosen = "training.batch_tokens auto is chosen by the memory there is when training begins, and the run keeps it"
    even = "; effective_batch_tokens gives all machines updates of one size"
    assert [remark for remark in remarks if "batch" in remark] == [chosen + even]
    _, fixed = check_config([untrained_config], ["training.batch_tokens=auto", "training.effective_batch_tokens=8192"])
    assert [remark for remark in fixed if "batch" in remark] == [chosen]
    assert not [remark for remark in check_config([untrained_config])[1] if "batch" in remark]
