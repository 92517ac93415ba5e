"""How each toolkit is installed, configured and driven on the same tokens and the same sizes of a Transformer.

All but this toolkit get text that is cut into pieces already, and the vocabulary of this toolkit's run; this toolkit
reads raw text, and learns its pieces itself. What a log says about speed is what each toolkit itself calls target
tokens.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

SIZES = {"layers": 3, "hidden": 256, "ffn": 1024, "heads": 4}
"""Of configs/multi30k_de_en_transformer.yaml."""

BATCH_TOKENS = 1024
LOG_EVERY = 10


class Task(NamedTuple):
    """What every toolkit is given.

    folder: of this toolkit alone, made anew for each training.
    pieces: the folder of `train.source`, `train.target` and `tokens`, a vocabulary with one piece a line.
    run: the model directory of this toolkit, which says what the pieces are.
    config: of this toolkit's training.
    bin: the folder of the programs that are installed for it.
    updates: to train.
    beam_size: to translate.
    """

    folder: Path
    pieces: Path
    run: Path
    config: list[str]
    bin: Path
    updates: int
    beam_size: int


class Toolkit(NamedTuple):
    """How to use one.

    packages: for pip; empty if it is part of this environment.
    prepare: writes what training needs into the folder of the task.
    train: the command.
    logged: finds a line of the log about updates; its group `rate` is target tokens per second.
    translate: the command, for a file of the source and one to write; raw text for this toolkit, pieces for all others.
    reads_text: whether it is raw text.
    """

    packages: tuple[str, ...]
    prepare: Callable[[Task], None]
    train: Callable[[Task], list[str]] | None
    logged: re.Pattern[str]
    translate: Callable[[Task, Path, Path], list[str]]
    reads_text: bool = False


def _tokens(task: Task) -> list[str]:
    return (task.pieces / "tokens").read_text("utf-8").splitlines()


# This toolkit


def _nmt(task: Task) -> list[str]:
    return [sys.executable, "-m", "nmt"]


def nmt_train(task: Task) -> list[str]:
    """Train from raw text: the pieces are learned, too."""
    limits = [f"model_directory={task.folder / 'run'}", "training.max_minutes=null"]
    limits += [f"training.max_updates={task.updates}", f"training.log_every_updates={LOG_EVERY}"]
    limits += [f"training.{name}_every_updates={task.updates}" for name in ("validate", "save")]
    sets = [word for each in limits for word in ("--set", each)]
    return [*_nmt(task), "train", *task.config, *sets]


def nmt_translate(engine: str) -> Callable[[Task, Path, Path], list[str]]:
    """Translate with one of its engines."""

    def command(task: Task, source: Path, output: Path) -> list[str]:
        words = ["translate", str(task.run), "--engine", engine, "--beam-size", str(task.beam_size)]
        return [*_nmt(task), *words, "-i", str(source), "-o", str(output)]

    return command


# CTranslate2, on the weights of this toolkit; the comparison exports them

_BARE = """
import sys
import ctranslate2
_, directory, source, output, beam_size = sys.argv
engine = ctranslate2.Translator(directory, inter_threads=2, intra_threads=1)
lines = [line.split() for line in open(source, encoding="utf-8")]
results = engine.translate_batch(lines, beam_size=int(beam_size), max_batch_size=64, max_decoding_length=60)
with open(output, "w", encoding="utf-8") as file:
    file.writelines(" ".join(each.hypotheses[0]) + "\\n" for each in results)
"""


def ctranslate2_translate(quantization: str) -> Callable[[Task, Path, Path], list[str]]:
    """Call the engine in ten lines of Python."""

    def command(task: Task, source: Path, output: Path) -> list[str]:
        export = task.run.parent / f"export_{quantization}"
        return [sys.executable, "-c", _BARE, str(export), str(source), str(output), str(task.beam_size)]

    return command


# OpenNMT-tf

_OPENNMT_TF_MODEL = """
import opennmt
from opennmt.models import EmbeddingsSharingLevel

def model():
    inputter = lambda: opennmt.inputters.WordEmbedder(embedding_size={hidden})
    return opennmt.models.Transformer(
        source_inputter=inputter(), target_inputter=inputter(), num_layers={layers}, num_units={hidden},
        num_heads={heads}, ffn_inner_dim={ffn}, dropout=0.2, attention_dropout=0.1, ffn_dropout=0.1,
        share_embeddings=EmbeddingsSharingLevel.ALL)
"""


def opennmt_tf_prepare(task: Task) -> None:
    """Write the model, the vocabulary and the config."""
    folder = task.folder
    (folder / "model.py").write_text(_OPENNMT_TF_MODEL.format(**SIZES))
    (folder / "vocab").write_text("\n".join(["<blank>", "<s>", "</s>", *_tokens(task)]) + "\n", "utf-8")
    config = {
        "model_dir": str(folder / "run"),
        "data": {
            "train_features_file": str(task.pieces / "train.source"),
            "train_labels_file": str(task.pieces / "train.target"),
            "source_vocabulary": str(folder / "vocab"),
            "target_vocabulary": str(folder / "vocab"),
        },
        "params": {
            "optimizer": "Adam", "learning_rate": 0.001, "label_smoothing": 0.1, "beam_width": task.beam_size,
        },
        "train": {
            "batch_size": BATCH_TOKENS, "batch_type": "tokens", "effective_batch_size": None, "max_step": task.updates,
            "save_summary_steps": LOG_EVERY, "save_checkpoints_steps": task.updates,
            "maximum_features_length": 100, "maximum_labels_length": 100,
        },
        "infer": {"batch_size": 64},
    }  # fmt: skip
    (folder / "config.yml").write_text(json.dumps(config))


def _opennmt_tf(task: Task) -> list[str]:
    folder = task.folder
    return [str(task.bin / "onmt-main"), "--model", str(folder / "model.py"), "--config", str(folder / "config.yml")]


# eole


def eole_prepare(task: Task) -> None:
    """Write the vocabulary and the config."""
    folder = task.folder
    (folder / "vocab").write_text("\n".join(["<unk>", "<blank>", "<s>", "</s>", *_tokens(task)]) + "\n", "utf-8")
    config = {
        "src_vocab": str(folder / "vocab"), "tgt_vocab": str(folder / "vocab"), "share_vocab": True, "overwrite": True,
        "report_every": LOG_EVERY, "seed": 1, "save_data": str(folder), "n_sample": 0,
        "data": {
            "corpus": {"path_src": str(task.pieces / "train.source"), "path_tgt": str(task.pieces / "train.target")}
        },
        "model": {
            "architecture": "transformer", "layers": SIZES["layers"], "hidden_size": SIZES["hidden"],
            "heads": SIZES["heads"], "transformer_ff": SIZES["ffn"], "share_embeddings": True,
            "share_decoder_embeddings": True,
            "embeddings": {"word_vec_size": SIZES["hidden"], "position_encoding_type": "SinusoidalInterleaved"},
        },
        "training": {
            "batch_type": "tokens", "batch_size": BATCH_TOKENS, "train_steps": task.updates, "world_size": 0,
            "gpu_ranks": [], "save_checkpoint_steps": task.updates, "optim": "adam", "learning_rate": 0.001,
            "label_smoothing": 0.1, "dropout": [0.2], "attention_dropout": [0.1], "compute_dtype": "fp32",
            "num_workers": 0, "model_path": str(folder / "run"), "normalization": "tokens",
        },
    }  # fmt: skip
    (folder / "config.yaml").write_text(json.dumps(config))


def eole_translate(task: Task, source: Path, output: Path) -> list[str]:
    """Translate with the last step."""
    where = ["--model_path", str(task.folder / "run"), "--src", str(source), "--output", str(output)]
    how = ["--beam_size", str(task.beam_size), "--batch_size", "64", "--batch_type", "sents", "--world_size", "0"]
    return [str(task.bin / "eole"), "predict", *where, *how]


# Marian

_MARIAN_TRAIN = "import sys, pymarian; sys.exit(pymarian.Trainer(' '.join(sys.argv[1:])).train())"
_MARIAN_TRANSLATE = """
import sys
import pymarian
_, source, output, *words = sys.argv
engine = pymarian.Translator(" ".join(words))
with open(source, encoding="utf-8") as file, open(output, "w", encoding="utf-8") as out:
    out.writelines(line + "\\n" for line in engine.translate(file.read().splitlines()))
"""


def marian_prepare(task: Task) -> None:
    """Write the vocabulary."""
    names = ["</s>", "<unk>", *_tokens(task)]
    lines = [f"{json.dumps(name, ensure_ascii=False)}: {number}" for number, name in enumerate(names)]
    (task.folder / "vocab.yml").write_text("\n".join(lines) + "\n", "utf-8")


def marian_train(task: Task) -> list[str]:
    """Train on the processor, a thread a core."""
    folder, pieces, vocabulary = task.folder, task.pieces, str(task.folder / "vocab.yml")
    words = ["--model", str(folder / "model.npz"), "--vocabs", vocabulary, vocabulary, "--type", "transformer"]
    words += ["--train-sets", str(pieces / "train.source"), str(pieces / "train.target"), "--tied-embeddings-all"]
    words += [
        "--enc-depth",
        str(SIZES["layers"]),
        "--dec-depth",
        str(SIZES["layers"]),
        "--dim-emb",
        str(SIZES["hidden"]),
    ]
    words += ["--transformer-dim-ffn", str(SIZES["ffn"]), "--transformer-heads", str(SIZES["heads"])]
    words += ["--transformer-dropout", "0.2", "--label-smoothing", "0.1", "--learn-rate", "0.001", "--clip-norm", "1"]
    words += ["--mini-batch", "1000", "--mini-batch-words", str(BATCH_TOKENS), "--maxi-batch", "100"]
    words += ["--after", f"{task.updates}u", "--disp-freq", f"{LOG_EVERY}u", "--save-freq", f"{task.updates}u"]
    words += ["--cpu-threads", "2", "--workspace", "2048", "--max-length", "100", "--seed", "1"]
    return [str(task.bin / "python"), "-c", _MARIAN_TRAIN, *words]


def marian_translate(task: Task, source: Path, output: Path) -> list[str]:
    """Translate with its Python package."""
    vocabulary = str(task.folder / "vocab.yml")
    words = ["--models", str(task.folder / "model.npz"), "--vocabs", vocabulary, vocabulary, "--cpu-threads", "2"]
    words += ["--beam-size", str(task.beam_size), "--mini-batch", "64", "--maxi-batch", "16", "--quiet"]
    return [str(task.bin / "python"), "-c", _MARIAN_TRANSLATE, str(source), str(output), *words]


def _nothing(task: Task) -> None:
    """What needs no files beside its config."""


_NEVER = re.compile("(?!)")

TOOLKITS = {
    "nmt": Toolkit((), _nothing, nmt_train, re.compile(r"update [\d,]+ .* (?P<rate>[\d,.]+) target tokens/s"),
                   nmt_translate("keras"), reads_text=True),
    "nmt with CTranslate2": Toolkit((), _nothing, None, _NEVER, nmt_translate("ctranslate2"), reads_text=True),
    "CTranslate2 float32": Toolkit((), _nothing, None, _NEVER, ctranslate2_translate("float32")),
    "CTranslate2 int8": Toolkit((), _nothing, None, _NEVER, ctranslate2_translate("int8")),
    "OpenNMT-tf": Toolkit(
        ("OpenNMT-tf[tensorflow]==2.32.0", "setuptools<80"), opennmt_tf_prepare,
        lambda task: [*_opennmt_tf(task), "train"],
        re.compile(r"Step = [\d,]+ .*tokens/s = .* source, (?P<rate>\d+) target\)"),
        lambda task, source, output: [*_opennmt_tf(task), "infer", "--features_file", str(source),
                                      "--predictions_file", str(output)],
    ),
    "eole": Toolkit(
        ("eole==0.6.4", "aiohttp", "setuptools<80"), eole_prepare,
        lambda task: [str(task.bin / "eole"), "train", "--config", str(task.folder / "config.yaml")],
        re.compile(r"Step [\d,]+/.*?\d+/\s*(?P<rate>\d+) tok/s"), eole_translate,
    ),
    "Marian": Toolkit(
        ("pymarian==1.12.42",), marian_prepare, marian_train,
        re.compile(r"Up\. [\d,]+ .*?(?P<rate>[\d,.]+) words/s"), marian_translate,
    ),
}  # fmt: skip
