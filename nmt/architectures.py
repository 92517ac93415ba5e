"""The settings of the models, and what each of them is unless a config or a program says otherwise.

No Keras here: the sections of a config take their defaults from these classes, and models are made from them.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What the settings of every model have; each kind of model adds its own.

    tie_embeddings: `auto`, `none`, `source_target`, `target_output` or `all`.
    """

    tie_embeddings: str = "auto"


@dataclass(frozen=True, kw_only=True)
class TransformerArchitecture(Architecture):
    """The settings of a Transformer.

    `pre` normalises the stream once more at the end.

    hidden_size: D, even and divisible by num_heads.
    ffn_size: F.
    num_heads: H.
    num_encoder_layers: blocks of the encoder.
    num_decoder_layers: blocks of the decoder.
    dropout: of the embeddings and of the output of every sub-layer.
    attention_dropout: of the attention weights.
    ffn_dropout: of the inner layer of the feed-forward networks.
    norm: how a sub-layer joins the residual stream, `pre` or `post`, see `nmt.layers.transformer.Residual`.
    decoder_mixer: what brings earlier positions to a target position, one of `nmt.kinds.MIXERS`.
    """

    hidden_size: int = 256
    ffn_size: int = 1024
    num_heads: int = 4
    num_encoder_layers: int = 3
    num_decoder_layers: int = 3
    dropout: float = 0.1
    attention_dropout: float = 0.1
    ffn_dropout: float = 0.1
    norm: str = "pre"
    decoder_mixer: str = "attention"

    @property
    def embedding_size(self) -> int:
        """Return E: the embeddings are as wide as the blocks."""
        return self.hidden_size


@dataclass(frozen=True, kw_only=True)
class RNNArchitecture(Architecture):
    """The settings of a recurrent encoder-decoder.

    cell: a kind of `nmt.layers.recurrent.RecurrentCell`.
    embedding_size: E; if it differs from hidden_size a linear layer stands before the logits.
    hidden_size: D, even.
    num_encoder_layers: bidirectional layers of the encoder.
    num_decoder_layers: layers of the decoder.
    attention: one of `nmt.layers.attention.ALIGNMENTS`.
    input_feeding: whether the attentional vector is part of the next input.
    dropout: of the embeddings, between layers and of the attentional vector before the logits.
    """

    cell: str = "gru"
    embedding_size: int = 256
    hidden_size: int = 512
    num_encoder_layers: int = 1
    num_decoder_layers: int = 1
    attention: str = "additive"
    input_feeding: bool = True
    dropout: float = 0.2
