"""Every public name is there, in one list, and comes from where it says."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import nmt
from tests import tiny


def test_the_list_is_sorted_and_complete():
    names = nmt.__all__
    assert names == sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert len(set(names)) == len(names) >= 30
    assert set(names) == {*nmt._HOMES, "__version__"}
    assert set(names) <= set(dir(nmt))


@pytest.mark.parametrize("name", nmt.__all__)
def test_every_name_resolves(name):
    value = getattr(nmt, name)
    assert name == "__version__" or callable(value)


def test_type_checkers_see_the_same_names():
    """A stub gives on what it imports under its own name, and what it assigns."""
    stub = ast.parse(Path(nmt.__file__).with_suffix(".pyi").read_text("utf-8"))
    imported = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    names = {alias.asname for node in imported for alias in node.names if alias.asname in (alias.name, "_load")}
    assert names ^ {*nmt._HOMES} == {"_load", "load_config"}
    assert "load_config = _load" in map(ast.unparse, stub.body)


def test_a_name_is_not_hidden_by_a_room():
    rooms = {path.stem for path in Path(nmt.__file__).parent.iterdir()}
    assert not rooms & set(nmt.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Translater'"):
        nmt.Translater  # noqa: B018


# What Keras is told


def test_keras_is_told_of_everything_that_registers_itself():
    found = {}
    for path in Path(nmt.__file__).parent.rglob("*.py"):
        if "register_keras" not in path.read_text("utf-8"):
            continue
        module = ".".join(["nmt", *path.relative_to(Path(nmt.__file__).parent).with_suffix("").parts])
        names = [
            node.name
            for node in ast.parse(path.read_text("utf-8")).body
            if isinstance(node, ast.ClassDef | ast.FunctionDef)
            and "keras.saving.register_keras_serializable(package='nmt')" in map(ast.unparse, node.decorator_list)
        ]
        if names:
            found[module] = sorted(names)
    assert found == {module: sorted(names) for module, names in nmt._SERIALIZABLE.items()}
    assert sum(map(len, found.values())) >= 11


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of Keras with our models, layers, optimizers and losses in them."""
    import keras

    from nmt.training.optimization import Adam

    folder = tmp_path_factory.mktemp("files")
    for kind, settings in tiny.MODELS.items():
        tiny.build(settings).save(folder / f"{kind}.keras")
    ids = keras.Input((None,), dtype="int32")
    embedding = nmt.TokenEmbedding(11, 8, name="embedding")
    hidden = nmt.SelfAttention(8, 2)(embedding(ids), nmt.padding_mask(ids != 0))
    model = keras.Model(ids, nmt.TiedEmbeddingsTransposed(embedding, activation=None)(hidden))
    model.compile(optimizer=Adam(0.01), loss=nmt.label_smoothed_cross_entropy)
    model.save(folder / "own.keras")
    return folder


OPEN = """
import pathlib, sys
print(sorted(name for name in sys.modules if name.startswith("nmt.")))
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.keras")):
    model = keras.models.load_model(path)
    print(path.stem, type(model).__name__, type(getattr(model, "optimizer", None)).__module__)
    if path.stem == "own":  # what stands for our parts must bear to be saved again
        model.save("again.keras")
        again = keras.models.load_model("again.keras")
        own = model
for one, other in zip(own.weights, again.weights, strict=True):
    assert (keras.ops.convert_to_numpy(one) == keras.ops.convert_to_numpy(other)).all()
"""


@pytest.mark.slow
@pytest.mark.parametrize("order", ["import keras, nmt", "import nmt, tensorflow, nmt.search, keras"])
def test_keras_opens_our_files_once_both_are_imported(order, files, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", order + OPEN, files], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded, *opened = done.stdout.splitlines()
    assert opened == [
        "own Functional nmt.training.optimization",
        "rnn RNN builtins",
        "transformer Transformer builtins",
    ]
    assert "search" in order or loaded == str(["nmt.errors", "nmt.version"])
