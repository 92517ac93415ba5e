"""The loop whose variables grow, against the same loop run eagerly, in Python."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from keras import ops

from nmt.backend.functions import while_loop


class Variables(NamedTuple):
    step: object
    nest: dict


def start(rows, columns):
    return Variables(
        step=ops.convert_to_tensor(0, dtype="int32"),
        nest={
            "constant": ops.zeros((rows, columns)),
            "grows": ops.zeros((rows, 0, columns)),
            # Its static shape is lost only once that of the leaf above is.
            "follows": (ops.zeros((rows, 1, columns)), ops.zeros((columns, 2, 1))),
        },
    )


def unfinished(variables):
    return variables.step < 4


def grow(variables):
    nest = variables.nest
    constant = nest["constant"] + 1.0
    grows = ops.concatenate([nest["grows"], constant[:, None]], axis=1)
    follows = (
        grows[:, -2:] + 1.0,
        ops.concatenate([nest["follows"][1], ops.ones((nest["constant"].shape[1], 2, 1))], 2),
    )
    return Variables(variables.step + 1, {"constant": constant, "grows": grows, "follows": follows})


def test_compiled_loop_equals_its_twin():
    @tf.function(autograph=False, input_signature=[tf.TensorSpec((), tf.int32)])
    def compiled(rows):
        return while_loop(unfinished, grow, start(rows, 5))

    for rows in (2, 3):
        graph, twin = compiled(rows), while_loop(unfinished, grow, start(rows, 5))
        tf.nest.map_structure(np.testing.assert_array_equal, graph, twin)
        assert graph.nest["grows"].shape == (rows, 4, 5)
        assert graph.nest["follows"][1].shape == (5, 2, 5)
    assert compiled.experimental_get_tracing_count() == 1


def test_only_axes_that_change_lose_their_static_size():
    shapes = []

    def body(variables):
        shapes.append(tf.nest.map_structure(lambda leaf: leaf.shape.as_list(), variables))
        return grow(variables)

    @tf.function(autograph=False)
    def compiled():
        return while_loop(unfinished, body, start(2, 5))

    compiled()
    assert shapes[-1].nest == {
        "constant": [2, 5],
        "grows": [2, None, 5],
        "follows": ([2, None, 5], [5, 2, None]),
    }


def test_loop_reads_tensors_of_the_graph_around_it():
    @tf.function(autograph=False, input_signature=[tf.TensorSpec((None, 3))])
    def compiled(memory):
        def body(grown):
            return ops.concatenate([grown, memory[:, None] * 2.0], axis=1)

        return while_loop(lambda grown: ops.shape(grown)[1] < 3, body, ops.zeros((ops.shape(memory)[0], 0, 3)))

    memory = np.arange(6.0).reshape(2, 3).astype("float32")
    np.testing.assert_array_equal(compiled(memory), np.repeat(2 * memory[:, None], 3, axis=1))


def test_a_loop_whose_growing_axes_begin_empty_is_traced_once():
    traced = []

    @tf.function(autograph=False)
    def compiled():
        def body(carried):
            traced.append(carried[0].shape.as_list())
            return (ops.concatenate([carried[0], ops.ones((3, 1))], axis=1),)

        return while_loop(lambda carried: ops.shape(carried[0])[1] < 4, body, (ops.zeros((3, 0)),))

    assert compiled()[0].shape == (3, 4)
    assert traced == [[3, None]]
