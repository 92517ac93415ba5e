import json
import subprocess
import sys
from pathlib import Path

import pytest

from nmt.checkpoint.folder import write_checkpoint
from nmt.checkpoint.index import Index, candidates, has_checkpoint, read_index, read_index_file, scan_index, write_index
from nmt.checkpoint.manifest import Contents, Judged
from nmt.directory.inspection import find_checkpoints
from nmt.errors import CheckpointError


def write(folder, update, score, **facts):
    folder.mkdir(exist_ok=True)
    return write_checkpoint(folder, Contents(update, score, {}, facts=facts))


@pytest.mark.parametrize(
    ("scores", "keep_last", "keep_best", "kept"),
    [
        ([1.0, 5.0, 3.0, 2.0, 4.0], 1, 1, {2, 5}),
        ([1.0, 5.0, 3.0, 2.0, 4.0], 2, 3, {2, 3, 4, 5}),
        ([1.0, 5.0, 3.0, 2.0, 4.0], 1, 0, {2, 5}),
        ([None, None, None], 2, 2, {2, 3}),
        ([None, 1.0, None, None], 1, 1, {2, 4}),
        ([2.0, 2.0, 2.0], 1, 1, {3}),
        ([2.0, 2.0, 1.0], 1, 1, {2, 3}),
        ([2.0, 2.0, 1.0, 0.0], 1, 2, {1, 2, 4}),
    ],
)
def test_pruning_keeps_the_newest_and_the_best(scores, keep_last, keep_best, kept):
    index = Index({f"update-{i:08d}": score for i, score in enumerate(scores, 1)})
    assert index.kept(keep_last=keep_last, keep_best=keep_best) == {f"update-{i:08d}" for i in kept}


def test_the_best_of_equal_scores_is_the_newest_where_0_1_0_wrote_them():
    assert Index({"update-00000001": 3.0, "update-00000002": 3.0, "update-00000003": 2.0}).best == "update-00000002"
    assert Index({"update-00000001": None}).best is None
    assert Index({}).latest is None


def judged_index(*found):
    """An index of updates 1, 2, ... from pairs of score and what else was found."""
    names = [f"update-{number:08}" for number in range(1, len(found) + 1)]
    scores = {name: score for name, (score, _) in zip(names, found, strict=True)}
    judged = {name: judged for name, (_, judged) in zip(names, found, strict=True) if judged is not None}
    return Index(scores, judged)


@pytest.mark.parametrize(
    ("found", "best", "version"),
    [
        ([(9.0, Judged(3.0)), (9.0, Judged(2.0)), (8.0, Judged(1.0))], 1, 2),  # a tie is no new best
        ([(9.0, None), (9.0, None), (9.0, Judged(2.0))], 2, 2),  # 0.1.0 went on by this version
        ([(0.2, Judged(3.0)), (0.0, Judged(2.0))], 2, 2),  # below 1 the loss tells more
        ([(0.0, Judged(3.0)), (1.0, Judged(9.0))], 2, 1),
        ([(-3.0, None), (-2.0, None), (-2.5, Judged(2.5))], 2, 1),  # judged by the loss
        ([(5.0, Judged(3.0, "ema")), (6.0, Judged(2.0, "ema"))], 2, 1),
        ([(5.0, Judged(3.0, "raw")), (6.0, Judged(2.0, "ema"))], 2, 2),
        ([(None, Judged(None)), (None, None)], None, 1),
    ],
)
def test_the_best_is_found_again_and_0_1_0_refuses_what_it_would_read_otherwise(tmp_path, found, best, version):
    index = judged_index(*found)
    write_index(tmp_path, index)
    values = json.loads((tmp_path / "index.json").read_text())
    assert read_index_file(tmp_path / "index.json").known == index
    assert values["best"] == index.best == (best and f"update-{best:08}")
    assert values["format_version"] == version


def test_where_one_has_diverged_the_last_good_one_is_kept_and_read_first():
    good, diverged = [(9.0, Judged(2.0)), (8.0, Judged(2.5))], [(None, Judged(None))]
    assert judged_index(*good, (None, None)).kept(keep_last=1, keep_best=1) == {"update-00000001", "update-00000003"}
    kept = judged_index(*good, *3 * diverged).kept(keep_last=2, keep_best=1)
    assert kept == {f"update-{number:08}" for number in (1, 2, 4, 5)}
    index = judged_index((None, None), *diverged)
    assert candidates(Path("run"), index, None) == ["update-00000001", "update-00000002"]
    assert candidates(Path("run"), index, "latest") == ["update-00000002", "update-00000001"]


def test_the_file_tells_latest_best_and_scores(tmp_path):
    index = Index({"update-00000007": -0.5, "update-00000009": None})
    write_index(tmp_path, index)
    assert json.loads((tmp_path / "index.json").read_text()) == {
        "format_version": 1,
        "latest": "update-00000009",
        "best": "update-00000007",
        "scores": {
            "update-00000007": {"update": 7, "score": -0.5},
            "update-00000009": {"update": 9, "score": None},
        },
    }


BROKEN = (
    None,
    "",
    "{",
    "[]",
    '{"format_version": 1}',
    '{"format_version": 1, "scores": {"x": {"score": "y"}}}',
    '{"format_version": 1, "best": null, "scores": {"x": {"score": true}}}',
    f'{{"format_version": 1, "best": null, "scores": {{"update-00000001": {{"score": {10**400}}}}}}}',
)


@pytest.mark.parametrize("broken", BROKEN)
def test_without_a_usable_index_the_folders_tell(tmp_path, broken):
    folder = tmp_path / "checkpoints"
    write(folder, 3, 1.5)
    write(folder, 20, None)
    if broken is not None:
        (folder / "index.json").write_text(broken)
    assert read_index(folder).scores == {"update-00000003": 1.5, "update-00000020": None}


def test_scores_on_an_earlier_validation_corpus_count_until_there_is_a_new_one(tmp_path):
    folder = tmp_path / "checkpoints"
    write(folder, 3, 1.5)
    write(folder, 5, 1.0, validation_changes=0)
    write(folder, 6, None, validation_changes=1)
    assert scan_index(folder) == Index({"update-00000003": 1.5, "update-00000005": 1.0, "update-00000006": None})
    write(folder, 7, 0.5, validation_changes=1)
    write(folder, 8, None, validation_changes=1)
    assert scan_index(folder).scores == {f"update-0000000{i}": 0.5 if i == 7 else None for i in (3, 5, 6, 7, 8)}


def test_an_index_that_lags_behind_is_completed_and_forgets_what_is_gone(tmp_path):
    folder = tmp_path / "checkpoints"
    write(folder, 3, 1.5)
    write_index(folder, Index({"update-00000001": 9.0, "update-00000003": 1.5}))
    write(folder, 20, 2.5)
    assert read_index(folder) == scan_index(folder)
    assert read_index(folder).best == "update-00000020"


def test_a_newer_index_is_refused(tmp_path):
    (tmp_path / "index.json").write_text('{"format_version": 9}')
    with pytest.raises(CheckpointError, match="format version 9"):
        read_index(tmp_path)


def test_listing_is_in_the_order_of_updates_not_of_names(tmp_path):
    folder = tmp_path / "checkpoints"
    for update in (123456789, 99999999, 7):
        write(folder, update, float(update))
    assert [info.update for info in find_checkpoints(tmp_path)] == [7, 99999999, 123456789]
    assert {info.weights for info in find_checkpoints(tmp_path)} == {"raw"}


def test_other_names_are_no_checkpoints(tmp_path):
    assert not has_checkpoint(tmp_path / "nowhere")
    folder = tmp_path / "checkpoints"
    for name in (".update-00000003.12.tmp", "update-00000003.damaged", "update-3", "update-", "best"):
        (folder / name).mkdir(parents=True)
    (folder / "update-00000004").write_text("a file")
    assert not has_checkpoint(tmp_path)
    assert find_checkpoints(tmp_path) == ()
    (folder / "update-00000003").mkdir()
    assert has_checkpoint(tmp_path)


@pytest.mark.slow
def test_nothing_of_it_loads_keras():
    program = (
        "import sys, nmt.checkpoint.derived, nmt.checkpoint.index, nmt.directory.inspection; "
        "sys.exit('keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
