"""Settings of the section `model`: one of two architectures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Discriminator, Tag

from nmt.config.section import Misfit, Section, kind_or, setting

TieEmbeddings = Literal["auto", "none", "source_target", "target_output", "all"]

_TIE_HELP = (
    "Which of source embedding, target embedding and output projection are one variable; "
    "auto: all where the tokenizer is joint, else target_output."
)
_SINES = "since half of a position's encoding are sines and half are cosines"


class TransformerSettings(Section):
    """The Transformer of Vaswani et al. (2017)."""

    type: Literal["transformer"] = setting("transformer", "The Transformer of Vaswani et al. (2017).")
    tie_embeddings: TieEmbeddings = setting("auto", _TIE_HELP)
    hidden_size: int = setting(256, "Width of embeddings and layers; divisible by num_heads.", at_least=1)
    ffn_size: int = setting(1024, "Width inside the feed-forward layers.", at_least=1)
    num_heads: int = setting(4, "Attention heads a layer.", at_least=1)
    num_encoder_layers: int = setting(3, "Layers that read the source.", at_least=1)
    num_decoder_layers: int = setting(3, "Layers that write the target.", at_least=1)
    dropout: float = setting(0.1, "Dropout on embeddings and on the output of each sublayer.", at_least=0, below=1)
    attention_dropout: float = setting(0.1, "Dropout on attention weights.", at_least=0, below=1)
    ffn_dropout: float = setting(0.1, "Dropout inside the feed-forward layers.", at_least=0, below=1)
    norm: Literal["pre", "post"] = setting("pre", "Layer norm before each sublayer (steadier) or after it (2017).")

    def misfits(self) -> Iterator[Misfit]:
        """Yields a misfit where the heads do not share the hidden size evenly."""
        if self.hidden_size % self.num_heads:
            got, step = self.hidden_size, math.lcm(self.num_heads, 2)  # positions need an even size too
            lower = got // step * step
            nearest = lower if lower and got - lower <= lower + step - got else lower + step
            yield Misfit(
                "hidden_size", f"must be divisible by num_heads, got {got} and {self.num_heads}: try {nearest}"
            )
        elif self.hidden_size % 2:
            nearest = self.hidden_size + self.num_heads  # both are odd here
            yield Misfit("hidden_size", f"must be even, got {self.hidden_size}, {_SINES}: try {nearest}")


class RNNSettings(Section):
    """A recurrent encoder-decoder with attention."""

    type: Literal["rnn"] = setting("rnn", "A recurrent encoder-decoder with attention (Bahdanau et al., 2015).")
    tie_embeddings: TieEmbeddings = setting("auto", _TIE_HELP)
    cell: Literal["gru", "lstm"] = setting("gru", "The recurrent cell.")
    embedding_size: int = setting(256, "Width of the embeddings.", at_least=1)
    hidden_size: int = setting(512, "Width of the recurrent states.", at_least=1)
    num_encoder_layers: int = setting(1, "Layers that read the source, each of them both ways.", at_least=1)
    num_decoder_layers: int = setting(1, "Layers that write the target.", at_least=1)
    attention: Literal["additive", "multiplicative"] = setting(
        "additive", "How the source is attended to: Bahdanau et al. (2015) or Luong et al. (2015)."
    )
    input_feeding: bool = setting(True, "Feed the attentional state back into the next step (Luong et al., 2015).")
    dropout: float = setting(0.2, "Dropout on embeddings, between layers and before the output.", at_least=0, below=1)

    def misfits(self) -> Iterator[Misfit]:
        """Yields a misfit where the two directions of the encoder do not share the hidden size evenly."""
        if self.hidden_size % 2:
            got = self.hidden_size
            yield Misfit("hidden_size", f"must be even, got {got}, since each direction has half of it: try {got + 1}")


ModelSettings = Annotated[
    Annotated[TransformerSettings, Tag("transformer")] | Annotated[RNNSettings, Tag("rnn")],
    Discriminator(kind_or("transformer")),
]
"""The architecture and its sizes."""
