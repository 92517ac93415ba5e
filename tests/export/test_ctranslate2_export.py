"""An export is the model: the same scores, the same greedy translations, each tied matrix once; or it is nothing."""

import json

import numpy as np
import pytest

from nmt.config import Config
from nmt.errors import ConfigError, ExportError
from nmt.export import ctranslate2_export
from nmt.export.ctranslate2_export import SamplePair, build_spec, export_ctranslate2, position_encodings
from nmt.inference.translator import OpenedModel, vocabularies_of
from nmt.layers.core import sinusoidal_positions
from nmt.models.contract import build_model
from nmt.text import TextPair, Vocabulary, WhitespaceTokenizer
from nmt.translation.ctranslate2_engine import TOLERANCES, load_package
from nmt.tying import named_variables, variable_roles
from tests import tiny

ctranslate2 = load_package()  # which settles what multiplies 8-bit integers here

SPECIAL = ["<pad>", "<unk>", "<s>", "</s>"]
SIZES = {"num_heads": 2, "num_encoder_layers": 1, "num_decoder_layers": 2, "num_positions": 5}
KIND = {"norm": "pre", "layer_norm_epsilon": 1e-5}
SAMPLE = [
    SamplePair([4, 7, 5], [6, 4]),
    SamplePair([8], [5, 5, 9, 1, 7, 4]),
    SamplePair([5, 6, 7, 8, 9, 1, 4, 4, 6], [9]),
    SamplePair([9, 9], [4, 8, 6]),
]


def opened_model(norm="pre", tie_embeddings="all", joint=True, tokens=("a", "b c", "ç\\d", "\u2028", "e", "f"), seed=3):
    """A Transformer of random weights none of which is zero, as `open_model` returns one."""
    source = WhitespaceTokenizer(Vocabulary([*SPECIAL, *tokens]))
    target = source if joint else WhitespaceTokenizer(Vocabulary([*SPECIAL, *tokens, "g"]))
    text = TextPair(source=source, target=target, joint=joint)
    model = {**tiny.TRANSFORMER, "norm": norm, "tie_embeddings": tie_embeddings, "num_decoder_layers": 2}
    files = {"source": "s", "target": "t"}
    data = {"source_language": "de", "target_language": "en", "train": files, "validation": files}
    config = Config.model_validate({"model_directory": "run", "data": data, "model": model})
    built = build_model(vocabularies_of(text), seed=seed, **config.model.model_dump())
    tiny.scatter_weights(built, seed=seed, spread=0.2)
    return OpenedModel(config, text, built, "update-00000007", "raw")


def values(model):
    return {path: np.array(variable.value) for path, variable in named_variables(model).items()}


@pytest.mark.parametrize(
    ("norm", "tie_embeddings", "joint", "num_matrices"),
    [
        ("pre", "all", True, 1),
        ("post", "source_target", True, 2),
        ("post", "target_output", False, 2),
        ("pre", "none", False, 3),
    ],
)
def test_an_export_is_the_model_and_holds_each_tied_matrix_once(tmp_path, norm, tie_embeddings, joint, num_matrices):
    opened = opened_model(norm, tie_embeddings, joint)
    done = export_ctranslate2(opened, tmp_path / "out", SAMPLE, quantization="float32")
    assert done.agreement.greatest_token_difference < 1e-4
    assert done.agreement.identical_lines + done.agreement.tied_lines == done.agreement.num_pairs == len(SAMPLE)
    content = (tmp_path / "out" / "model.bin").read_bytes()
    model = opened.model
    matrices = [layer.embeddings for layer in (model.source_embedding, model.target_embedding, model.output_projection)]
    different = {np.array(matrix.value).tobytes() for matrix in matrices}
    assert [content.count(matrix) for matrix in different] == [1] * num_matrices
    names = {path.name for path in (tmp_path / "out").iterdir()}
    vocabularies = {"shared_vocabulary.json"} if joint else {"source_vocabulary.json", "target_vocabulary.json"}
    assert {name for name in names if name.endswith("vocabulary.json")} == vocabularies
    assert names == set(done.file_sizes)
    assert TextPair.load(tmp_path / "out").target.fingerprint == opened.text.target.fingerprint


def test_other_programs_find_all_they_need(tmp_path):
    opened = opened_model()
    export_ctranslate2(opened, tmp_path / "out", SAMPLE, quantization="float32")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["add_source_eos"], config["add_source_bos"], config["decoder_start_token"]) == (True, False, "<s>")
    assert json.loads((tmp_path / "out" / "shared_vocabulary.json").read_text())[4:6] == ["a", "b c"]
    engine = ctranslate2.Translator(str(tmp_path / "out"))
    assert len(engine.translate_batch([["a", "e"]], max_decoding_length=3)[0].hypotheses[0]) <= 3


@pytest.mark.parametrize("quantization", TOLERANCES)
def test_quantised_exports_are_near_and_leave_the_model_alone(tmp_path, quantization):
    opened = opened_model()
    before = values(opened.model)
    done = export_ctranslate2(opened, tmp_path / "out", SAMPLE, quantization=quantization)
    assert done.agreement.greatest_pair_difference <= TOLERANCES[quantization]
    assert (done.agreement.mean_difference < 1e-5) == (quantization == "float32")
    for path, value in values(opened.model).items():
        np.testing.assert_array_equal(value, before[path])
    bytes_each = {"float32": 4, "float16": 2, "bfloat16": 2, "int16": 2, "int8": 1}[quantization]
    arrays = {path: np.array(variable.value) for path, variable in variable_roles(opened.model).items()}
    kind = {**KIND, "bfloat16": quantization == "bfloat16", "num_positions": 2049}
    spec = build_spec(arrays, opened.text, **{**SIZES, **kind})
    spec.optimize(quantization)
    shapes = {name: stored.shape for name, stored in spec.variables().items() if not isinstance(stored, str)}
    kernels = sum(np.prod(shape) for name, shape in shapes.items() if name.endswith("/weight"))
    rest = sum(max(1, np.prod(shape)) for name, shape in shapes.items() if not name.endswith("/weight"))
    assert done.file_sizes["model.bin"] <= bytes_each * kernels + 4 * rest + 100 * 2 * len(shapes)


def test_what_is_not_the_model_is_not_written(tmp_path, monkeypatch):
    opened = opened_model()
    real = position_encodings
    monkeypatch.setattr(ctranslate2_export, "position_encodings", lambda count, size: real(count + 1, size)[1:])
    with pytest.raises(ExportError, match=r"must agree within 0\.001 a token, but .* nothing was written"):
        export_ctranslate2(opened, tmp_path / "out", SAMPLE, quantization="float32")
    monkeypatch.undo()
    monkeypatch.setattr(ctranslate2_export, "LAYER_NORM_EPSILON", 0.1)
    with pytest.raises(ExportError, match=r"must agree within 0\.001 a token"):
        export_ctranslate2(opened, tmp_path / "out", SAMPLE, quantization="float32")
    assert list(tmp_path.iterdir()) == []


def test_a_lost_tie_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(ctranslate2.specs.model_spec.LayerSpec, "_alias_variables", lambda spec: None)
    with pytest.raises(ExportError, match=r"must hold source_embedding=target_embedding=output_projection once, but"):
        export_ctranslate2(opened_model(), tmp_path / "out", SAMPLE, quantization="float32")
    assert list(tmp_path.iterdir()) == []


def test_the_variables_are_all_taken_and_left_as_they_are():
    opened = opened_model()
    arrays = {path: np.array(variable.value) for path, variable in variable_roles(opened.model).items()}
    before = {path: array.copy() for path, array in arrays.items()}
    build_spec(arrays, opened.text, **SIZES, **KIND).optimize("int8")
    for path, array in arrays.items():
        np.testing.assert_array_equal(array, before[path])  # CTranslate2 quantises in place
    arrays["decoder_gate/kernel"] = np.ones(3)
    with pytest.raises(ExportError, match=r"must have a place in the export, but not so \['decoder_gate/kernel'\]"):
        build_spec(arrays, opened.text, **SIZES, **KIND)


def test_the_output_is_replaced_only_when_told(tmp_path, monkeypatch):
    opened, out = opened_model(), tmp_path / "out"
    out.mkdir()  # an empty place is free
    export_ctranslate2(opened, out, SAMPLE, quantization="float32")
    first = (out / "model.bin").read_bytes()
    with pytest.raises(ExportError, match="out: holds an export already: give --overwrite to replace it"):
        export_ctranslate2(opened, out, SAMPLE, quantization="int8")
    (out / "corpora").mkdir()  # what others keep there goes along
    for name in ("dev.es", "corpora/dev.en"):
        (out / name).write_text("kept\n")
    (out / "link").symlink_to("dev.es")
    (out / "vocabulary.old.txt").touch()  # what an export might have written does not
    export_ctranslate2(opened, out, SAMPLE, quantization="int8", overwrite=True)
    assert [(out / name).read_text() for name in ("dev.es", "corpora/dev.en", "link")] == ["kept\n"] * 3
    assert (out / "link").is_symlink()
    assert not (out / "vocabulary.old.txt").exists()
    assert len((out / "model.bin").read_bytes()) < len(first)
    monkeypatch.setattr(ctranslate2_export, "LAYER_NORM_EPSILON", 0.1)
    with pytest.raises(ExportError, match="must agree within"):
        export_ctranslate2(opened, out, SAMPLE, quantization="float32", overwrite=True)
    assert json.loads((out / "export.json").read_text())["quantization"] == "int8"
    for content in ("{}", "mine", "[]"):
        (out / "export.json").write_text(content)
        with pytest.raises(ExportError, match="must be an empty place or an earlier export, but holds something else"):
            export_ctranslate2(opened, out, SAMPLE, quantization="float32", overwrite=True)
    (out / "export.json").unlink()
    with pytest.raises(ExportError, match="must be an empty place or an earlier export, but holds something else"):
        export_ctranslate2(opened, out, SAMPLE, quantization="float32", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_cannot_be_exported_is_refused(tmp_path, monkeypatch):
    opened = opened_model()
    with pytest.raises(ExportError, match="must be one of float32, float16, bfloat16, int16, int8, got int4"):
        export_ctranslate2(opened, tmp_path / "out", SAMPLE, quantization="int4")
    monkeypatch.setitem(__import__("sys").modules, "ctranslate2", None)
    with pytest.raises(ConfigError, match=r"not installed, and this needs it: pip install ctranslate2"):
        export_ctranslate2(opened, tmp_path / "out", SAMPLE, quantization="float32")
    assert list(tmp_path.iterdir()) == []


def test_positions_are_those_of_the_layer():
    ours = np.asarray(sinusoidal_positions(0, 300, 10))
    np.testing.assert_allclose(position_encodings(300, 10), ours, atol=2e-5)
