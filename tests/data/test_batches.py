import numpy as np

from nmt.data.batches import assemble, evaluation_batches
from nmt.text import BOS_ID, EOS_ID


def test_a_batch_holds_its_pairs_padded_behind(store):
    indices = np.array([4, 0, 9, 2, 33])
    batch = assemble(store.source, store.target, indices)
    for row, index in enumerate(indices):
        source, target = store.source[index].tolist(), store.target[index].tolist()
        width = batch.target_output_ids.shape[1]
        assert batch.source_ids[row].tolist() == source + [0] * (batch.source_ids.shape[1] - len(source))
        assert batch.target_output_ids[row].tolist() == target + [0] * (width - len(target))
        assert batch.target_input_ids[row].tolist() == [BOS_ID, *target[:-1]] + [0] * (width - len(target))
    assert {array.dtype for array in batch[:3]} == {np.dtype(np.int32)}
    assert batch.source_ids.shape[1] == store.source_lengths[indices].max()
    assert batch.target_input_ids.shape == batch.target_output_ids.shape


def test_evaluation_keeps_every_pair(corpus, text):
    pairs = [("", "ONE"), *zip(*corpus, strict=True), ("one " * 50, ""), ("", "")]
    found = []
    for batch in evaluation_batches(pairs, text=text, batch_tokens=33):
        assert max(array.size for array in batch[:3]) <= 33 or len(batch.source_ids) == 1
        for rows in zip(*batch[:3], strict=True):
            source, target_input, target = (np.trim_zeros(row, "b").tolist() for row in rows)
            assert target_input == [BOS_ID, *target[:-1]]
            found.append((source, target))
    ids = [(text.source.encode(source), text.target.encode(target)) for source, target in pairs]
    assert sorted(found) == sorted(([*source, EOS_ID], [*target, EOS_ID]) for source, target in ids)
