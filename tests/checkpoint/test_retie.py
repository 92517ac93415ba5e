"""A checkpoint restored into a model with other ties, against sums and means written here by role."""

from dataclasses import replace
from typing import NamedTuple

import keras
import numpy as np
import pytest

from nmt.backend.functions import value_and_gradients
from nmt.checkpoint.derived import RULES, Merged, Split, TieChange, retie
from nmt.checkpoint.manager import CheckpointManager
from nmt.checkpoint.manifest import Contents
from nmt.checkpoint.weights import load_weights, named_slots, read_contents
from nmt.errors import CheckpointError
from nmt.training.optimization import EmaWeights
from nmt.tying import named_variables, tie_groups, variable_roles, verify_ties

KINDS = ("rnn", "transformer")
SOURCE, TARGET, OUTPUT = (
    f"{owner}/embeddings" for owner in ("source_embedding", "target_embedding", "output_projection")
)
CLASSES = {
    "none": [{SOURCE}, {TARGET}, {OUTPUT}],
    "source_target": [{SOURCE, TARGET}, {OUTPUT}],
    "target_output": [{SOURCE}, {TARGET, OUTPUT}],
    "all": [{SOURCE, TARGET, OUTPUT}],
}
"""Which of the three roles are one variable."""

RATE, BETA_1, BETA_2, EPSILON, ITERATIONS = 0.05, 0.9, 0.999, 1e-7, 5


def class_of(role, ties):
    """The roles that share a variable with this one, itself included."""
    return next((frozenset(roles) for roles in CLASSES[ties] if role in roles), frozenset([role]))


def merged_classes(role, old, new):
    """The old variables, each once, that make up the new variable of a role."""
    return {class_of(member, old) for member in class_of(role, new)}


def one_of(values, classes):
    """The array of each class, read through any of its roles."""
    return [values[min(roles)].astype(np.float64) for roles in classes]


class Case(NamedTuple):
    """A model whose every number is random, its optimizer and average, and all of it by role."""

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    average: EmaWeights

    def by_role(self):
        roles = variable_roles(self.model)
        index = {id(variable): place for place, variable in enumerate(self.model.trainable_variables)}
        names = {id(variable): path for path, variable in named_variables(self.model).items()}

        def read(find):
            return {path: np.asarray(find(variable)).copy() for path, variable in roles.items()}

        return {
            "model": read(lambda v: v),
            "average": read(lambda v: self.average.variables[names[id(v)]]),
            "momentums": read(lambda v: self.optimizer._momentums[index[id(v)]]),
            "velocities": read(lambda v: self.optimizer._velocities[index[id(v)]]),
        }


@pytest.fixture(scope="module")
def made():
    return {}


@pytest.fixture
def make(build, made):
    def make(kind, ties, purpose):
        """Build each combination once; a restored one is overwritten whole."""
        if (kind, ties, purpose) not in made:
            model = build(kind, ties, seed=1)
            optimizer = keras.optimizers.Adam(RATE, beta_1=BETA_1, beta_2=BETA_2, epsilon=EPSILON)
            optimizer.build(model.trainable_variables)
            made[kind, ties, purpose] = Case(model, optimizer, EmaWeights(model, 0.9))
        return made[kind, ties, purpose]

    return make


@pytest.fixture(scope="module")
def folders():
    return {}


@pytest.fixture
def saved(make, folders, tmp_path_factory):
    def saved(kind, ties):
        """The directory with a checkpoint of random numbers, and these numbers by role."""
        case = make(kind, ties, "saved")
        if (kind, ties) not in folders:
            folders[kind, ties] = tmp_path_factory.mktemp(f"{kind}-{ties}")
            random = np.random.default_rng(len(folders))
            lists = (case.model.trainable_variables, case.average.variables.values(), case.optimizer._momentums)
            for variable in (each for variables in lists for each in variables):
                variable.assign(random.normal(size=variable.shape))
            for variable in case.optimizer._velocities:
                variable.assign(random.uniform(0.1, 2.0, size=variable.shape))
            case.optimizer.iterations.assign(ITERATIONS)
            with CheckpointManager(folders[kind, ties]) as manager:
                arguments = {"optimizer": case.optimizer, "ema": case.average.variables, "state": {"epoch": 4}}
                manager.save(3, model=case.model, score=1.0, **arguments)
        return folders[kind, ties], case.by_role()

    return saved


def expected(before, old, new):
    """All parts by role: means of weights and of their average, sums of moments, over distinct old variables."""
    parts = {}
    for part, values in before.items():
        combine = np.mean if part in ("model", "average") else np.sum
        parts[part] = {
            role: combine(one_of(values, merged_classes(role, old, new)), axis=0).astype("float32") for role in values
        }
    return parts


def assert_equal(found, wanted):
    assert found.keys() == wanted.keys()
    for role, value in wanted.items():
        np.testing.assert_array_equal(found[role], value, err_msg=role)


@pytest.mark.parametrize("new", CLASSES)
@pytest.mark.parametrize("old", CLASSES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_pair_of_ties_is_restored_and_updated_as_by_hand(make, saved, kind, old, new):
    directory, before = saved(kind, old)
    case = make(kind, new, "restored")
    with CheckpointManager(directory) as manager:
        state, name, change, _ = manager.restore(
            case.model, case.optimizer, case.average.variables, on_tie_change="average"
        )
    assert (state, name) == ({"epoch": 4}, "update-00000003")
    parts = expected(before, old, new)
    for part, values in case.by_role().items():
        assert_equal(values, parts[part])
    verify_ties(case.model, case.model.declared_ties(), case.optimizer)
    assert {frozenset(group.roles) for group in tie_groups(case.model)} == {
        frozenset(roles) for roles in CLASSES[new] if len(roles) > 1
    }
    assert len(case.model.trainable_variables) == len(before["model"]) - 3 + len(CLASSES[new])
    assert len(named_slots(case.model, case.optimizer)) == 2 * len(case.model.trainable_variables) + 1
    check_report(change, before["model"], old, new)
    check_next_update(case, parts)


def check_report(change, before, old, new):
    """Name what was merged and split, and how far apart what was merged had been."""
    if old == new:
        assert change is None
        return
    merged = {
        roles: classes
        for roles in map(frozenset, CLASSES[new])
        if len(classes := merged_classes(min(roles), old, new)) > 1
    }
    split = [roles for roles in CLASSES[old] if len({class_of(role, new) for role in roles}) > 1]
    assert len(change.merged) == len(merged)
    assert [set(each.group.split("=")) for each in change.split] == [
        {r.split("/")[0] for r in roles} for roles in split
    ]
    for each in change.merged:
        roles = frozenset(f"{owner}/embeddings" for owner in each.group.split("="))
        matrices = one_of(before, merged[roles])
        assert len(each.variables) == len(matrices)
        assert each.largest_difference == pytest.approx(max(np.abs(a - b).max() for a in matrices for b in matrices))
        assert f"differed by up to {each.largest_difference:.3g}" in change.describe()
    assert all(f"{each.group} was split" in change.describe() for each in change.split)


def check_next_update(case, parts):
    """Apply given gradients: Adam (Kingma & Ba 2015, algorithm 1, in the form that ends its section 2), in NumPy."""
    roles, random = variable_roles(case.model), np.random.default_rng(9)
    gradients = [random.normal(size=v.shape).astype("float32") for v in case.model.trainable_variables]
    case.optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients], case.model.trainable_variables)
    by_variable = {id(v): g.astype(np.float64) for v, g in zip(case.model.trainable_variables, gradients, strict=True)}
    t = ITERATIONS + 1
    rate = RATE * np.sqrt(1 - BETA_2**t) / (1 - BETA_1**t)
    for role, variable in roles.items():
        g = by_variable[id(variable)]
        m = BETA_1 * parts["momentums"][role] + (1 - BETA_1) * g
        v = BETA_2 * parts["velocities"][role] + (1 - BETA_2) * g**2
        by_hand = parts["model"][role] - rate * m / (np.sqrt(v) + EPSILON)
        np.testing.assert_allclose(np.asarray(variable), by_hand, rtol=1e-5, atol=1e-5, err_msg=role)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_a_merged_matrix_is_the_sum_over_its_roles(make, saved, batch, kind):
    """Why moments are added: the same matrices, tied and not."""
    directory, _ = saved(kind, "none")
    tied, untied = make(kind, "all", "restored").model, make(kind, "none", "restored").model
    load_weights(directory, tied, on_tie_change="average")
    for role, variable in variable_roles(untied).items():
        variable.assign(variable_roles(tied)[role])

    def gradients(model):
        def loss():
            logits = model(batch)
            return keras.ops.mean(keras.ops.logsumexp(logits, axis=-1) - logits[..., 3]), None

        found = value_and_gradients(loss, model.trainable_variables)[2]
        return {id(v): np.asarray(g) for v, g in zip(model.trainable_variables, found, strict=True)}

    whole, parts = gradients(tied), gradients(untied)
    roles = variable_roles(untied)
    total = sum(parts[id(roles[role])] for role in (SOURCE, TARGET, OUTPUT))
    np.testing.assert_allclose(whole[id(variable_roles(tied)[SOURCE])], total, atol=1e-5)
    assert np.abs(total).max() > 0.01


@pytest.mark.parametrize("weights", ["raw", "ema"])
@pytest.mark.parametrize(("old", "new"), [("none", "all"), ("source_target", "target_output"), ("all", "none")])
def test_weights_alone_are_loaded_across_a_change_too(make, saved, weights, old, new):
    directory, before = saved("rnn", old)
    model = make("rnn", new, "restored").model
    loaded = load_weights(directory, model, weights=weights, on_tie_change="average")
    values = before["model" if weights == "raw" else "average"]
    assert_equal(
        {r: np.asarray(v) for r, v in variable_roles(model).items()}, expected({"model": values}, old, new)["model"]
    )
    assert (loaded.name, loaded.weights, loaded.manifest.update) == ("update-00000003", weights, 3)
    check_report(loaded.tie_change, values, old, new)


@pytest.mark.parametrize(
    ("old", "new", "rule", "role"),
    [
        ("none", "all", "source", SOURCE),
        ("none", "all", "target", TARGET),
        ("none", "all", "output", OUTPUT),
        ("none", "target_output", "output", OUTPUT),
        ("target_output", "source_target", "target", TARGET),
        ("target_output", "all", "output", TARGET),
        ("source_target", "all", "output", OUTPUT),
    ],
)
def test_a_rule_may_take_the_matrix_of_one_role(make, saved, old, new, rule, role):
    directory, before = saved("rnn", old)
    case = make("rnn", new, "restored")
    with CheckpointManager(directory) as manager:
        change = manager.restore(case.model, case.optimizer, case.average.variables, on_tie_change=rule).tie_change
    after, sums = case.by_role(), expected(before, old, new)
    for part in ("model", "average"):
        for each in (SOURCE, TARGET, OUTPUT):
            origin = role if role in class_of(each, new) else each
            np.testing.assert_array_equal(after[part][each], before[part][origin], err_msg=each)
    for part in ("momentums", "velocities"):
        assert_equal(after[part], sums[part])
    assert f"as the matrix of {rule}" in change.describe()


@pytest.mark.parametrize("rule", RULES[1:])
def test_a_mere_split_copies_whatever_the_rule(make, saved, rule):
    directory, before = saved("rnn", "all")
    case = make("rnn", "none", "restored")
    with CheckpointManager(directory) as manager:
        change = manager.restore(case.model, case.optimizer, case.average.variables, on_tie_change=rule).tie_change
    for part, values in case.by_role().items():
        assert_equal(values, before[part])
    assert change == TieChange(
        rule, (), (Split("source_embedding=target_embedding=output_projection", (SOURCE, TARGET, OUTPUT)),)
    )
    assert change.describe() == (
        f"source_embedding=target_embedding=output_projection was split into copies ({SOURCE}, {TARGET}, {OUTPUT})"
    )


@pytest.mark.parametrize(
    ("old", "new", "rule", "message"),
    [
        ("all", "none", "error", r"ties source_.*, but the model ties nothing: .* average, source, target, output$"),
        ("none", "source_target", "error", r"with on_tie_change, one of average, source, target$"),
        ("none", "source_target", "output", r"a role of source_embedding=target_embedding, .*got output: try average,"),
        ("source_target", "target_output", "source", r"got source: try average, target, output$"),
        ("all", "all", "mean", "on_tie_change must be one of error, average, source, target, output, got mean"),
    ],
)
def test_what_cannot_be_decided_is_refused_before_anything_changes(make, saved, old, new, rule, message):
    directory, _ = saved("rnn", old)
    case = make("rnn", new, "restored")
    before = case.by_role()
    with pytest.raises(CheckpointError, match=message), CheckpointManager(directory) as manager:
        manager.restore(case.model, case.optimizer, case.average.variables, on_tie_change=rule)
    with pytest.raises(CheckpointError, match=message):
        load_weights(directory, case.model, on_tie_change=rule)
    after = case.by_role()
    for part, values in before.items():
        assert_equal(after[part], values)


def test_the_contents_given_are_left_as_they_are(saved, make):
    contents = read_contents(saved("rnn", "none")[0]).contents
    kept = {name: {path: array.copy() for path, array in part.items()} for name, part in contents.arrays.items()}
    groups = [g._asdict() for g in make("rnn", "all", "restored").model.declared_ties()]
    changed, _ = retie(contents, groups, "average")
    for name, part in contents.arrays.items():
        assert_equal(part, kept[name])
    assert retie(changed, groups, "error")[0] is changed
    assert list(changed.variables) == [path for path in contents.variables if path not in (TARGET, OUTPUT)]
    assert (changed.state, changed.update, changed.optimizer_class) == ({"epoch": 4}, 3, "Adam")


def contents_of(optimizer=None, ema=None, optimizer_class="Adam", **arrays):
    """A checkpoint of small arrays, "a" standing for the path a/kernel."""
    model = {f"{name}/kernel": np.asarray(array) for name, array in arrays.items()}
    variables = {path: {"shape": list(array.shape), "dtype": "float32"} for path, array in model.items()}
    return Contents(
        update=7,
        score=None,
        model=model,
        optimizer=optimizer,
        ema=ema,
        variables=variables,
        optimizer_class=optimizer_class,
    )


def tie(*names):
    roles = [f"{name}/kernel" for name in names]
    return {"name": "=".join(names), "roles": roles, "variable": roles[0], "shape": [2]}


F = np.float32


def test_slots_are_known_by_the_longest_path_and_states_of_no_variable_stay():
    names = ("momentums/a/kernel", "momentums/b/kernel", "momentums/outer/a/kernel", "velocities/b/kernel")
    slots = {name: np.array([10.0**power, 0], F) for power, name in enumerate(names)}
    slots |= {"iterations": np.array(4), "inner/learning": np.array(0.5, F)}
    contents = contents_of(a=F([1, 2]), b=F([3, 5]), **{"outer/a": F([7, 8])}, optimizer=slots)
    found = retie(contents, [tie("b", "a")], "average")[0].optimizer
    assert {name: array.tolist() for name, array in found.items()} == {
        "momentums/b/kernel": [11, 0],
        "momentums/outer/a/kernel": [100, 0],
        "velocities/b/kernel": [1000, 0],
        "iterations": 4,
        "inner/learning": 0.5,
    }


@pytest.mark.parametrize(
    ("make", "slot"),
    [
        (lambda: keras.optimizers.ScheduleFreeAdamW(0.1), "momentums of ScheduleFreeAdamW"),
        (lambda: keras.optimizers.Ftrl(0.1), "accumulators of Ftrl"),
        (lambda: keras.optimizers.Adagrad(0.1), "accumulators of Adagrad"),
        (
            lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Ftrl(0.1)),
            r"inner_optimizer/accumulators of LossScaleOptimizer\(Ftrl\)",
        ),
    ],
)
def test_slots_whose_sum_means_nothing_are_copied_but_never_merged(build, tmp_path, make, slot):
    models = {ties: build("rnn", ties, seed=len(ties)) for ties in ("none", "all")}
    with CheckpointManager(tmp_path) as manager:
        manager.save(1, model=models["none"], optimizer=make())
        with pytest.raises(CheckpointError, match=f"keeps {slot}, which cannot be merged .* restore without the opt"):
            manager.restore(models["all"], make(), on_tie_change="average")
        assert manager.restore(models["all"], on_tie_change="average").tie_change.merged
        manager.save(2, model=models["all"], optimizer=make())
        assert manager.restore(models["none"], make(), on_tie_change="average").tie_change.split


@pytest.mark.parametrize("optimizer_class", ["Lion", "LossScaleOptimizer(SGD)", None])
def test_moments_of_an_optimizer_that_no_config_chooses_are_not_merged(optimizer_class):
    slots = {f"momentums/{name}/kernel": F([place + 2, 4]) for place, name in enumerate("ab")}
    contents = contents_of(slots, optimizer_class="SGD", a=F([1, 2]), b=F([3, 5]))
    found = retie(contents, [tie("a", "b")], "average")[0].optimizer
    assert {name: array.tolist() for name, array in found.items()} == {"momentums/a/kernel": [5, 8]}
    with pytest.raises(CheckpointError, match=r"keeps momentums of .* cannot be merged"):
        retie(replace(contents, optimizer_class=optimizer_class), [tie("a", "b")], "average")


def test_of_a_variable_that_is_not_trained_the_value_is_its_average():
    contents = contents_of(
        a=F([1, 2]), b=F([3, 5]), ema={"b/kernel": F([5, 6])}, optimizer={"momentums/b/kernel": F([8, 9])}
    )
    changed, change = retie(contents, [tie("a", "b")], "average")
    assert changed.ema["a/kernel"].tolist() == [3, 4]
    assert changed.optimizer["momentums/a/kernel"].tolist() == [8, 9]
    assert change.merged == (Merged("a=b", ("a/kernel", "b/kernel"), 3.0),)


@pytest.mark.parametrize(
    ("arrays", "group", "rule", "message"),
    [
        (
            {"a": F([1, 2]), "b": F([1, 2, 3])},
            "ab",
            "average",
            r"one shape can be merged, got a/kernel of \(2,\) f.* b/",
        ),
        (
            {"a": np.array([1]), "b": np.array([2])},
            "ab",
            "average",
            r"only floating-point .* got a/kernel of \(1,\) int",
        ),
        ({"a": F([1, 2])}, "ac", "average", "update-00000007 does not fit: it has no c/kernel, which the model ties"),
        ({"a": F([1, 2]), "b": F([1, 2])}, "ab", "source", "a role of a=b, which is merged, got source: try average$"),
    ],
)
def test_what_cannot_be_merged_is_refused(arrays, group, rule, message):
    with pytest.raises(CheckpointError, match=message):
        retie(contents_of(**arrays), [tie(*group)], rule)
