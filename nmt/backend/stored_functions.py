"""Compiled functions as bytes, without the weights that they read, and called from these bytes.

What calls them needs a small part of TensorFlow, and no Keras.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

Handle: TypeAlias = Any
"""Of a variable, a tensor of the type resource."""

_MOST = 64
"""Elements of a variable that is no weight, the state of a seed say: its value is stored with the function."""


def store_function(
    function: Callable[..., Any], weights: Mapping[str, Any], others: Sequence[Any] = ()
) -> bytes | None:
    """Return a function that was compiled, and called, as bytes.

    Args:
        function: by `nmt.backend.functions.compile_function`.
        weights: variables of Keras by name, whose values are not part of the bytes.
        others: variables that the function may read besides, and does not change.

    Returns:
        The bytes; None if it reads anything else.
    """
    concrete = function.compiled.get_concrete_function()  # type: ignore[attr-defined]
    names: dict[int, Any] = {id(weight.value.handle): name for name, weight in weights.items()}
    for each in others:
        if id(each.value.handle) not in names and each.value.shape.num_elements() <= _MOST:
            value = np.asarray(each.value)
            names[id(each.value.handle)] = [value.dtype.name, value.tolist()]
    captured = [names.get(id(each)) for each in concrete.captured_inputs]
    if None in captured:
        return None
    library, definition = concrete.graph.as_graph_def().library, concrete.function_def
    library.function.append(definition)
    prefix = f"stored_{hashlib.sha256(library.SerializeToString(deterministic=True)).hexdigest()[:16]}"
    _rename(library, prefix)
    arguments = definition.signature.input_arg[: len(definition.signature.input_arg) - len(captured)]
    head = {
        "name": prefix + definition.signature.name,
        "arguments": [each.type for each in arguments],
        "outputs": len(definition.signature.output_arg),
        "captured": captured,
    }
    return json.dumps(head).encode() + b"\n" + library.SerializeToString()


def _rename(library: Any, prefix: str) -> None:
    """Give the functions of a library names that none has which is compiled where they are called."""
    names = {each.signature.name for each in library.function}
    for each in library.function:
        each.signature.name = prefix + each.signature.name
        for node in each.node_def:
            node.op = prefix + node.op if node.op in names else node.op
            for value in node.attr.values():
                for called in (value.func, *value.list.func):
                    if called.name in names:
                        called.name = prefix + called.name


def handles_of(arrays: Mapping[str, np.ndarray]) -> dict[str, Handle]:
    """Return variables that hold arrays, by name; TensorFlow must have been started."""
    return {name: _handle(array) for name, array in arrays.items()}


def _handle(array: np.ndarray) -> Handle:
    from tensorflow.python.eager import context
    from tensorflow.python.framework import constant_op
    from tensorflow.python.ops import gen_resource_variable_ops as variables

    value = constant_op.constant(array)
    handle = variables.var_handle_op(dtype=value.dtype, shape=array.shape, shared_name=context.anonymous_name())
    variables.assign_variable_op(handle, value)
    return handle


def load_function(content: bytes, handles: Mapping[str, Handle]) -> Callable[..., list[Any]]:
    """Return a function from its bytes; TensorFlow must have been started.

    Args:
        content: as `store_function` returned it.
        handles: of the weights, by name; those that the function does not read may be there too.

    Returns:
        What takes the same arguments, and returns the tensors that the function does, in one list; for many threads.
    """
    from tensorflow.core.framework.function_pb2 import FunctionDefLibrary
    from tensorflow.python.eager import context
    from tensorflow.python.framework import constant_op

    first, _, rest = content.partition(b"\n")
    head, engine = json.loads(first), context.context()
    captured = [
        handles[each] if isinstance(each, str) else _handle(np.array(each[1], each[0])) for each in head["captured"]
    ]
    for definition in FunctionDefLibrary.FromString(rest).function:
        engine.add_function_def(definition)

    def call(*arguments: Any) -> list[Any]:
        given = zip(arguments, head["arguments"], strict=True)
        tensors = [constant_op.constant(value, dtype) for value, dtype in given]
        return engine.call_function(head["name"].encode(), [*tensors, *captured], head["outputs"])

    return call
