"""No verb writes over a file that it reads, that a config names or that a model consists of."""

import os
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture
def run(trained_run, tmp_path):
    """A model directory of its own, and a text to translate, `dev.es`."""
    shutil.copytree(trained_run.directory, tmp_path / "run")
    (tmp_path / "dev.es").write_text("uno dos\n", encoding="utf-8")
    return tmp_path / "run"


def spellings(path):
    """The path itself, another way to write it, a symbolic link and a hard link."""
    links = [path.with_name(f"{kind}-{path.name}") for kind in ("symbolic", "hard")]
    links[0].symlink_to(path)
    os.link(path, links[1])
    return [path, path.parent / ".." / path.parent.name / path.name, *links]


@pytest.mark.parametrize("number", range(4))
def test_translate_spares_its_input(run, run_nmt, number):
    place = run.parent / "dev.es"
    output = spellings(place)[number]
    outcome = run_nmt("translate", run, "-i", place, "-o", output)
    assert outcome.code == 1
    assert f"{output} must not be replaced, it is the file that --input names, {place}" in outcome.err
    assert place.read_text(encoding="utf-8") == "uno dos\n"


def test_translate_spares_what_its_config_names(run, run_nmt, trained_run):
    corpora = trained_run.config.parent
    before = {path: path.read_bytes() for path in corpora.glob("t*.e*")}
    for name, setting in (("train.en", "data.train.target"), ("test.es", "data.test.source")):
        outcome = run_nmt("translate", run, "-i", run.parent / "dev.es", "-o", corpora / name)
        assert outcome.code == 1
        assert f"it is the file that {setting} names" in outcome.err
    assert {path: path.read_bytes() for path in corpora.glob("t*.e*")} == before


@pytest.mark.parametrize("name", ["config.yaml", "vocabulary.source.txt", "checkpoints/index.json", ".lock"])
def test_translate_spares_the_model(run, run_nmt, name):
    (run / ".lock").touch()
    before = (run / name).read_bytes()
    outcome = run_nmt("translate", run, "-i", run.parent / "dev.es", "-o", run / name)
    assert outcome.code == 1
    assert f"must not be replaced, the model in {run} needs it: write to another file" in outcome.err
    assert (run / name).read_bytes() == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.yaml", "the model in {other} needs it"),
        ("checkpoints/index.json", "the model in {other} needs it"),
        ("checkpoints/update-00000010/new.txt", "must not lie among the checkpoints in"),
        ("../settings.yml", "it holds the settings of a run"),
    ],
)
def test_translate_spares_other_models_and_settings(run, run_nmt, trained_run, tmp_path, name, message):
    other = tmp_path / "other"
    shutil.copytree(run, other)
    shutil.copy(trained_run.config, tmp_path / "settings.yml")
    place = other / name
    before = place.read_bytes() if place.exists() else None
    outcome = run_nmt("translate", run, "-i", run.parent / "dev.es", "-o", place)
    assert outcome.code == 1
    assert message.format(other=other) in outcome.err
    assert (place.read_bytes() if place.exists() else None) == before


@pytest.mark.slow
@pytest.mark.parametrize("as_output", [True, False])
def test_translate_knows_files_behind_standard_streams(run, as_output):
    place = run.parent / "dev.es"
    command = [sys.executable, "-m", "nmt", "translate", str(run)]
    with place.open("rb") as stdin, (run.parent / "out").open("wb") if as_output else place.open("ab") as stdout:
        files = ["-o", str(place)] if as_output else ["-i", str(place)]
        done = subprocess.run([*command, *files], stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    wanted = b"it is standard input" if as_output else b"standard output is the file that --input names"
    assert wanted in done.stderr
    assert place.read_text(encoding="utf-8") == "uno dos\n"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["wb", "ab"])
def test_translate_knows_that_both_standard_streams_are_one_file(run, mode):
    """What the shell has emptied is not taken for a result; what it appends to would be translated without end."""
    place = run.parent / "dev.es"
    with place.open("rb") as stdin, place.open(mode) as stdout:
        command = [sys.executable, "-m", "nmt", "translate", str(run)]
        done = subprocess.run(command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert b"standard output is standard input: write to another file" in done.stderr
    assert place.read_text(encoding="utf-8") == ("" if mode == "wb" else "uno dos\n")


def test_update_vocab_spares_what_it_reads(run, run_nmt, tmp_path):
    new, output = tmp_path / "new.es", tmp_path / "updated"
    new.write_text("uno nuevo\n", encoding="utf-8")
    update = ("update-vocab", run, "-o", output)
    assert run_nmt(*update, "--with-source", new).code == 0
    shutil.copy(new, output / "train.log")
    before = {path: path.read_bytes() for path in output.iterdir() if path.is_file()}
    for option, name in (("--with-source", "train.log"), ("--source-tokenizer", "vocabulary.source.txt")):
        outcome = run_nmt(*update, "--overwrite", option, output / name)
        assert outcome.code == 1
        assert f"{output / name} must not be replaced, it is read: choose another directory than" in outcome.err
    assert {path: path.read_bytes() for path in output.iterdir() if path.is_file()} == before


def test_update_vocab_refuses_a_pipe_since_it_reads_twice(run, run_nmt, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    outcome = run_nmt("update-vocab", run, "--with-source", tmp_path / "pipe")
    assert outcome.code == 1
    assert "pipe: must be a file, got a pipe, and it is read more than once" in outcome.err


def test_evaluate_spares_its_reference(run, run_nmt, trained_run, tmp_path):
    source, reference = tmp_path / "s", tmp_path / "r"
    shutil.copy(trained_run.source, source)
    shutil.copy(trained_run.reference, reference)
    before = reference.read_bytes()
    given = ("--source", source, "--reference", reference)
    assert "it is the file that --reference names" in run_nmt("evaluate", run, *given, "-o", reference).err
    assert "it is the file that data.test.target names" in run_nmt("evaluate", run, "-o", trained_run.reference).err
    assert reference.read_bytes() == before == trained_run.reference.read_bytes()


def test_what_nobody_needs_is_replaced(run, run_nmt):
    output = run / "test.en"  # in the model directory, but no part of it
    output.write_text("old\n", encoding="utf-8")
    assert run_nmt("translate", run, "-i", run.parent / "dev.es", "-o", output).code == 0
    assert "old" not in output.read_text(encoding="utf-8")
    assert run_nmt("translate", run, "-i", run.parent / "dev.es", "-o", "/dev/null").code == 0
