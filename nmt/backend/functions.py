"""Compiling functions, differentiating them, and loops in them."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from functools import partial, wraps
from threading import RLock
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from nmt.backend.products import FLOAT32, products_in
from nmt.types import PAD_ID, Tensor

Spec: TypeAlias = tf.TensorSpec
"""Shape and type of an argument; None is a size that differs from call to call."""


_tracing = RLock()
"""Held by whoever traces: TensorFlow 2.21 died of a segmentation fault while threads traced functions side by side."""


def compile_function(
    function: Callable[..., Any], signature: Sequence[Spec], *, xla: bool = False
) -> Callable[..., Any]:
    """Compile a function of tensors into one graph.

    Args:
        function: takes and returns nests of tensors.
        signature: one `Spec` an argument; the function is traced once, for all shapes.
        xla: compile with XLA too, anew for each shape; on a processor this has been twice as slow.

    Returns:
        The compiled function, which threads may share; one at a time traces.
    """

    def trace(*arguments: Any) -> Any:
        token = _ALIKE.set(None if xla else {})
        try:
            return function(*arguments)
        finally:
            _ALIKE.reset(token)

    compiled = tf.function(trace, input_signature=signature, autograph=False, jit_compile=xla or None)

    @wraps(function)
    def call(*arguments: Any) -> Any:
        if not call.is_traced and not tf.config.functions_run_eagerly():  # type: ignore[attr-defined]
            with _tracing:
                compiled.get_concrete_function()
            call.is_traced = True  # type: ignore[attr-defined]
        return compiled(*arguments)

    call.compiled, call.is_traced = compiled, False  # type: ignore[attr-defined]
    return call


def is_traced(function: Callable[..., Any]) -> bool:
    """Return whether a compiled function has been called, and not eagerly."""
    return function.is_traced  # type: ignore[attr-defined]


def output_specs(function: Callable[..., Any]) -> Any:
    """Return what a compiled function returns, a nest of `Spec`: to compile another that takes it."""
    with _tracing:
        outputs = function.compiled.get_concrete_function().structured_outputs  # type: ignore[attr-defined]
    return tf.nest.map_structure(lambda each: Spec(each.shape, each.dtype), outputs)


_ALIKE: ContextVar[dict[Any, Any] | None] = ContextVar("functions of layers that are alike", default=None)


def call_layer(layer: keras.layers.Layer, like: Callable[..., Any], *inputs: Any, training: bool = False) -> Any:
    """Call a method of a layer; in a function that is compiled, by one trace for all layers that are alike.

    Layers one by one, and again for each part of a batch, are most of what is traced before a first result; as
    functions of inputs and weights they are all the same, and so are their gradients.

    Args:
        layer: whose method it is.
        like: the same method of a layer of the same settings, so that its variables are equal and in the same order;
            of the layer itself, say.
        *inputs: nests of tensors.
        training: whether it trains, in a method that asks.
    """
    alike, options = _ALIKE.get(), {"training": training} if training else {}
    if alike is None or tf.executing_eagerly() or tf.distribute.has_strategy():
        return getattr(layer, like.__name__)(*inputs, **options)
    owner: keras.layers.Layer = like.__self__  # type: ignore[attr-defined]
    trains = tuple(variable.trainable for variable in layer.variables)
    key = (id(owner), like.__name__, training, trains)
    if key not in alike:
        alike[key] = _AlikeLayers(partial(like, **options), owner, trains)
    return alike[key](layer.variables, inputs)


class _AlikeLayers:
    """One function for all layers that are like one of them, with the same variables frozen.

    TensorFlow optimises it wherever it is called. To optimise it once by itself would save a second or two more of the
    start, and makes an update of the Multi30k Transformer a fifth slower.

    Args:
        function: the method of one of them.
        like: that layer.
        trains: which of its variables have gradients.
    """

    def __init__(self, function: Callable[..., Any], like: keras.layers.Layer, trains: Sequence[bool]) -> None:
        self._function, self._variables, self._trains = function, like.variables, trains
        self._compiled = tf.function(self._call, autograph=False)

    def __call__(self, variables: Sequence[keras.Variable], inputs: Any) -> Any:
        """Call the layer that has these variables; they are assigned what its own call would assign."""
        values = [tf.convert_to_tensor(variable.value) for variable in variables]
        outputs, assigned = self._compiled(values, inputs)
        for index, value in assigned.items():
            variables[index].assign(value)
        return outputs

    def _call(self, values: Sequence[Tensor], inputs: Any) -> tuple[Any, dict[int, Tensor]]:
        """Return what the layer returns, and the values that it assigned to variables, seeds among them."""
        # A frozen matrix has no gradient, which would cost a product.
        given = [
            value if trains else tf.stop_gradient(value) for value, trains in zip(values, self._trains, strict=True)
        ]
        variables = self._variables
        with _Assignments(zip(variables, given, strict=True)) as scope:
            outputs = self._function(*inputs)
        return outputs, {
            index: scope.get_current_value(each) for index, each in enumerate(variables) if id(each) in scope.assigned
        }


class _Assignments(keras.StatelessScope):
    """Values of variables, and the identities of those that are assigned to."""

    def __init__(self, values: Any) -> None:
        super().__init__(values)
        self.assigned = set[int]()

    def add_update(self, update: tuple[keras.Variable, Tensor]) -> None:
        """Note an assignment, which is seen in the scope alone."""
        super().add_update(update)
        self.assigned.add(id(update[0]))


def last_elements(variables: Sequence[keras.Variable]) -> Callable[[], Tensor]:
    """Return a function of the last element of each variable, (N,) float32: a cheap look at whether any has changed."""
    values = [variable.value for variable in variables]

    def look() -> Tensor:
        return tf.stack([tf.cast(tf.reshape(value, [-1])[-1], "float32") for value in values])

    return compile_function(look, [])


def value_and_gradients(
    function: Callable[[], tuple[Tensor, Any]], variables: Sequence[keras.Variable]
) -> tuple[Tensor, Any, list[Tensor]]:
    """Evaluate a function and differentiate its first result.

    Args:
        function: takes nothing and returns a scalar and anything else.
        variables: what to differentiate by.

    Returns:
        The scalar, the rest, and one dense gradient a variable. An embedding's gradient arrives as slices with
        repeated ids, which neither Keras's global norm nor its Adam adds up: here it is summed into a matrix.
    """
    values = [variable.value for variable in variables]
    # What else is there, frozen variables say, is not recorded, and its gradients are in no graph.
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        value, rest = function()
    gradients = tape.gradient(value, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return value, rest, [tf.convert_to_tensor(gradient) for gradient in gradients]


def while_loop(condition: Callable[[Any], Tensor], body: Callable[[Any], Any], loop_variables: Any) -> Any:
    """Repeat `body` as long as `condition` holds.

    While TensorFlow traces a graph this is one `tf.while_loop`, and a variable may change its size along any axis
    from one turn to the next: an axis whose size `body` changes becomes unknown, all others stay static. One that is
    empty at the start is taken to grow. Others are found by tracing `body`, anew if there are any, so that it has to be
    free of side effects. Run eagerly, it is a plain Python loop.

    Args:
        condition: maps the loop variables to a scalar boolean.
        body: maps the loop variables to new ones, in the same nest, each of the same dtype and rank.
        loop_variables: a nest (tuples, named tuples, lists, dictionaries) of tensors.

    Returns:
        The loop variables for which `condition` no longer holds.
    """
    if tf.executing_eagerly():
        while bool(condition(loop_variables)):
            loop_variables = body(loop_variables)
        return loop_variables
    loop_variables = tf.nest.map_structure(tf.convert_to_tensor, loop_variables)
    shapes = tf.nest.map_structure(lambda tensor: _growing(tensor.shape), loop_variables)

    def checked_body(variables: Any) -> tuple[Any]:
        nonlocal shapes
        outputs = body(variables)
        seen = tf.nest.map_structure(
            lambda shape, output: shape.most_specific_compatible_shape(output.shape), shapes, outputs
        )
        if tf.nest.flatten(seen) != tf.nest.flatten(shapes):
            shapes = seen
            raise _ShapesGrewError
        return (outputs,)

    # At first all other sizes are taken for constant; when tracing shows otherwise, it begins anew.
    while True:
        with suppress(_ShapesGrewError):
            (result,) = tf.while_loop(
                condition, checked_body, (loop_variables,), shape_invariants=(shapes,), parallel_iterations=1
            )
            return result


def _growing(shape: tf.TensorShape) -> tf.TensorShape:
    """Return a shape with empty axes unknown."""
    return tf.TensorShape(None if shape.rank is None else [size or None for size in shape])


class _ShapesGrewError(Exception):
    """The body changes sizes that were taken for the same at every turn."""


Step = Callable[[Any, Any], Any]
"""Takes the carried nest and one position of the inputs; returns the next carried nest."""


def scan(step: Step, initial: Any, inputs: Any, *, reverse: bool = False) -> tuple[Any, Any]:
    """Carry a nest through time.

    The loop is one `tf.while_loop` whose carried tensors are loop variables; `keras.ops.scan` keeps them in arrays that
    are written and read at every turn.

    Args:
        step: maps (carried, position of the inputs) to the next carried nest, of the same shapes.
        initial: the carried nest before the first position.
        inputs: a nest of tensors (T, ...).
        reverse: go from the last position to the first; the results stay in the order of the inputs.

    Returns:
        The carried nest after each position, every leaf (T, ...), and the one after the last turn.
    """
    inputs = tf.nest.map_structure(tf.convert_to_tensor, inputs)
    initial = tf.nest.map_structure(tf.convert_to_tensor, initial)
    length = tf.shape(tf.nest.flatten(inputs)[0])[0]
    read = tf.nest.map_structure(lambda leaf: tf.TensorArray(leaf.dtype, size=length).unstack(leaf), inputs)
    written = [tf.TensorArray(leaf.dtype, size=length, element_shape=leaf.shape) for leaf in tf.nest.flatten(initial)]

    def turn(count: Tensor, carried: Any, written: list[tf.TensorArray]) -> tuple[Tensor, Any, list[tf.TensorArray]]:
        position = length - 1 - count if reverse else count
        with products_in(FLOAT32):  # to round the matrices again at each turn would cost more than it saves
            carried = step(carried, tf.nest.map_structure(lambda array: array.read(position), read))
        leaves = tf.nest.flatten(carried)
        return count + 1, carried, [a.write(position, leaf) for a, leaf in zip(written, leaves, strict=True)]

    shapes = tf.nest.map_structure(lambda leaf: leaf.shape, initial)
    _, carried, written = tf.while_loop(
        lambda count, *_: count < length,
        turn,
        (tf.constant(0), initial, written),
        shape_invariants=(tf.TensorShape([]), shapes, [tf.TensorShape(None)] * len(written)),
        maximum_iterations=length,
    )
    return tf.nest.pack_sequence_as(initial, [array.stack() for array in written]), carried


def gather_beams(values: Tensor, beams: Tensor) -> Tensor:
    """Take, in every sentence, the rows that `beams` names.

    Args:
        values: (B, N, ...).
        beams: (B, M) int32, each in [0, N).

    Returns:
        (B, M, ...), in which `[b, m]` is `values[b, beams[b, m]]`.
    """
    return tf.gather(values, beams, axis=1, batch_dims=1)


def select_rows(values: Tensor, mask: Tensor) -> Tensor:
    """Return the rows of values (B, T, ...) where mask (B, T) is True, as (N, ...)."""
    return tf.boolean_mask(values, mask)


def cut_rows(ids: Tensor, parts: int) -> list[Tensor]:
    """Cut ids (B, T) into parts (ceil(B / parts), T), in order; the last ones are filled up with rows of padding.

    Parts of one size need one set of compiled kernels, and batches of B and of B + 1 rows may share it.
    """
    if parts == 1:
        return [ids]
    missing = -tf.shape(ids)[0] % parts
    return tf.split(tf.pad(ids, [[0, missing], [0, 0]], constant_values=PAD_ID), parts)
