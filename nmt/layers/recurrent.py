"""Recurrent cells, and the bidirectional encoder layer made of them.

A cell is used in two parts: `project` does the products that do not depend on the previous state, for all
positions at once, and `step` does the rest, position by position.
"""

from typing import Any

import keras
from keras import ops

from nmt.backend.functions import scan
from nmt.backend.products import linear
from nmt.types import Tensor


class RecurrentCell(keras.layers.Layer):
    """What GRU and LSTM share: a kernel for the inputs, one for the state, a bias.

    Args:
        input_size: I, size of the inputs.
        hidden_size: D, size of the output and of each part of the state.
        name: name of the layer.
    """

    num_gates: int
    """Gates, the candidate counted as one."""
    state_parts: int
    """Tensors of size D that the state consists of; the first is the output."""

    def __init__(self, input_size: int, hidden_size: int, *, name: str) -> None:
        super().__init__(name=name)
        self.hidden_size = hidden_size
        width = self.num_gates * hidden_size
        limit = (6.0 / (input_size + hidden_size)) ** 0.5  # Glorot's bound of one gate, not of all side by side
        self.kernel = self.add_weight(
            shape=(input_size, width), initializer=keras.initializers.RandomUniform(-limit, limit), name="kernel"
        )
        self.recurrent_kernel = self.add_weight(
            shape=(hidden_size, width), initializer="orthogonal", name="recurrent_kernel"
        )
        self.bias = self.add_weight(shape=(width,), initializer=self._initial_bias, name="bias")
        self.built = True

    def _initial_bias(self, shape: tuple[int, ...], dtype: str) -> Tensor:
        return ops.zeros(shape, dtype)

    def project(self, inputs: Tensor) -> Tensor:
        """Map inputs (..., I) to what they add to the gates, (..., G*D)."""
        return ops.cast(linear(inputs, self.kernel, self.bias), self.compute_dtype)

    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Take one step: projected inputs (..., G*D) and the state, parts of (..., D), to the next state."""
        raise NotImplementedError

    def zero_state(self, shape: tuple[Any, ...]) -> tuple[Tensor, ...]:
        """Return a state of zeros, each part of shape (*shape, D)."""
        return tuple(ops.zeros((*shape, self.hidden_size)) for _ in range(self.state_parts))


class GRUCell(RecurrentCell):
    """Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078).

    The reset gate is applied after the product with the state, as in cuDNN, so that a step is one product.
    """

    num_gates = 3
    state_parts = 1

    def __init__(self, input_size: int, hidden_size: int, *, name: str) -> None:
        super().__init__(input_size, hidden_size, name=name)
        self.candidate_bias = self.add_weight(shape=(hidden_size,), initializer="zeros", name="candidate_bias")

    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Take one step; see `RecurrentCell.step`. The gates lie as update, reset, candidate."""
        (hidden,) = state
        recurrent = ops.matmul(hidden, self.recurrent_kernel)  # (..., 3D)
        split = 2 * self.hidden_size
        gates = ops.sigmoid(projected[..., :split] + recurrent[..., :split])
        update, reset = ops.split(gates, 2, axis=-1)
        candidate = ops.tanh(projected[..., split:] + reset * (recurrent[..., split:] + self.candidate_bias))
        return (candidate + update * (hidden - candidate),)


class LSTMCell(RecurrentCell):
    """Long short-term memory (Hochreiter & Schmidhuber 1997), with a forget gate that starts open (bias 1)."""

    num_gates = 4
    state_parts = 2

    def _initial_bias(self, shape: tuple[int, ...], dtype: str) -> Tensor:
        zeros = ops.zeros((self.hidden_size,), dtype)
        return ops.concatenate([zeros, zeros + 1.0, zeros, zeros])

    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Take one step; see `RecurrentCell.step`. The gates lie as input, forget, output, candidate."""
        hidden, cell = state
        parts = ops.split(projected + ops.matmul(hidden, self.recurrent_kernel), 4, axis=-1)
        entry, forget, exit_ = (ops.sigmoid(part) for part in parts[:3])
        cell = forget * cell + entry * ops.tanh(parts[3])
        return exit_ * ops.tanh(cell), cell


class BidirectionalLayer(keras.layers.Layer):
    """One cell that reads forwards and one that reads backwards, each of size D/2 (Schuster & Paliwal 1997).

    Args:
        cell: the kind of cell.
        input_size: I.
        hidden_size: D, even.
        name: name of the layer.
    """

    def __init__(self, cell: type[RecurrentCell], input_size: int, hidden_size: int, *, name: str) -> None:
        super().__init__(name=name)
        if hidden_size % 2:
            raise ValueError(f"hidden_size must be even for a bidirectional encoder, got {hidden_size}")
        self.forward_cell = cell(input_size, hidden_size // 2, name="forward_cell")
        self.backward_cell = cell(input_size, hidden_size // 2, name="backward_cell")
        self.built = True

    def call(self, inputs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Read (B, S, I), of which `mask` (B, S) is True where a token is real.

        Returns:
            The outputs (B, S, D), zero at padding, and the last outputs of both directions, (B, D).
        """
        forward, last_forward = self._read(self.forward_cell, inputs, mask, reverse=False)
        backward, last_backward = self._read(self.backward_cell, inputs, mask, reverse=True)
        outputs = ops.concatenate([forward, backward], axis=-1)
        return outputs * ops.cast(mask, outputs.dtype)[:, :, None], ops.concatenate([last_forward, last_backward], -1)

    @staticmethod
    def _read(cell: RecurrentCell, inputs: Tensor, mask: Tensor, *, reverse: bool) -> tuple[Tensor, Tensor]:
        def step(state: tuple[Tensor, ...], position: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
            projected, real = position
            following = cell.step(projected, state)
            return tuple(ops.where(real, new, old) for new, old in zip(following, state, strict=True))

        projected = ops.transpose(cell.project(inputs), (1, 0, 2))  # (S, B, G*D)
        real = ops.transpose(mask)[:, :, None]  # (S, B, 1)
        states, last = scan(step, cell.zero_state((ops.shape(inputs)[0],)), (projected, real), reverse=reverse)
        return ops.transpose(states[0], (1, 0, 2)), last[0]
