"""What the settings say of the corpora of a run: how they are filtered, found encoded, told from others and mixed."""

import hashlib
import json
from collections.abc import Mapping

from nmt.config import Config
from nmt.data import Corpus, TokenStore, find_store
from nmt.data.encoding import NO_FILTERS, PairFilters
from nmt.settings.data import DataSettings, StageSettings, UntilSettings
from nmt.streams.mixture import MixedCorpus
from nmt.streams.shares import Stage
from nmt.text import TextPair


def filters_of(data: DataSettings, name: str) -> PairFilters:
    """Return what pairs of a training corpus are left out, by its name in the settings."""
    filters = getattr(data.corpora[name], "filters", None)
    return NO_FILTERS if filters is None else PairFilters(**filters.model_dump())


def find_stores(config: Config, text: TextPair) -> dict[str, TokenStore] | None:
    """Return the training corpora by their names in the settings if all lie encoded by the tokenizers of the run.

    None of their text is wrong then.

    Raises:
        DataError: a file of a corpus is missing.
    """
    stores = dict[str, TokenStore]()
    for name in config.data.names("train"):
        found = find_store_of(config, text, name)
        if found is None:
            return None
        stores[name] = found
    return stores


def find_store_of(config: Config, text: TextPair, name: str) -> TokenStore | None:
    """Return one training corpus likewise, by its name in the settings."""
    corpus_now, place = Corpus.of(config.data, name), config.token_store_directory
    return find_store(
        place, *corpus_now.paths, text=text, max_length=config.data.max_length, layout=corpus_now.layout,
        filters=filters_of(config.data, name), keep_text=config.data.variation is not None,
    )  # fmt: skip


def hash_of_corpora(hashes: Mapping[str, str]) -> str:
    """Return the hash of the text of all training corpora from that of each by its name; of one corpus it is that."""
    if [*hashes] == ["train"]:
        return hashes["train"]
    return hashlib.sha256(json.dumps([*hashes.items()]).encode()).hexdigest()


def mixture_of(
    data: DataSettings, text: TextPair, stores: Mapping[str, TokenStore]
) -> tuple[list[MixedCorpus], list[Stage]]:
    """Return the corpora of a mixture and its stages, as the settings describe them.

    Args:
        data: the settings.
        text: the tokenizers.
        stores: the encoded corpora by their names in the settings.
    """
    corpora, listed = list[MixedCorpus](), data.train if isinstance(data.train, tuple) else ()
    for settings in listed:
        source, target = text.begins(settings.tag)
        tag_id = next(iter([*source, *target]), None)
        store = stores[f"train.{settings.name}"]
        corpora.append(MixedCorpus(settings.name, store, tag_id, tag_side=int(bool(target))))
    by_size = {each.name: len(each.store) ** (1.0 / data.temperature) for each in corpora}
    own = {each.name: by_size[each.name] if each.weight is None else each.weight for each in listed}
    stages = []
    for number, stage in enumerate(data.stages or (StageSettings(),), start=1):
        weights, until = own if stage.weights is None else stage.weights, stage.until or UntilSettings(updates=1)
        mixed = [name for name in own if weights.get(name)]
        stages.append(
            Stage(
                stage.name or str(number),
                tuple(weights.get(name, 0.0) for name in own),
                updates=until.updates if stage.until else None,
                epochs=until.epochs,
                of=[*own].index(until.of or mixed[0]),
            )
        )
    return corpora, stages
