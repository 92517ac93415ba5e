"""What translates for a verb: Keras, or CTranslate2 with an export or with the engine of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from nmt.control.controls import NO_CONTROL, Control, Sampling
from nmt.directory.engines import find_engine, identity_of, shortlist_hash
from nmt.directory.model_directory import FoundModel, is_export, read_export_settings, read_facts
from nmt.errors import ConfigError, ExportError
from nmt.inference import engines, output_directory
from nmt.inference.members import find_members, open_in_keras, open_translator
from nmt.inference.stored_searches import StoredSearches
from nmt.settings.section import AUTO
from nmt.translation.ctranslate2_engine import CTranslate2Translator, load_package, refuse_request
from nmt.translation.line_translator import LineTranslator
from nmt.types import PathLike
from nmt.version import __version__


def _make(found: FoundModel, *, threads: int | None) -> Path:
    """Make an engine; TensorFlow is imported now."""
    from nmt.export.engines import make_engine

    return make_engine(found, threads=threads)


class Engines:
    """Models, or an export, that were found, and what can translate with them; nothing is opened yet.

    Args:
        directories: model directories, or that of an export alone.
        asked_for: `auto`, `keras` or `ctranslate2`; as `search.engine` says if None.
        control: what is asked of words.
        sampling: how translations are drawn, if they are.
        others: what else is asked that Keras alone can do, in words.
        threads: processor cores to use; all unless given.
        member_weights: as for `open_translator`, like what follows.
        log_linear: whether the mean is that of log probabilities.
        **which: `checkpoint`, `weights` and `overrides` of `find_members`.

    Raises:
        NMTError: as `find_members`; or CTranslate2 is asked for, and cannot do this or is not installed.
    """

    def __init__(
        self,
        directories: Sequence[PathLike],
        asked_for: str | None,
        *,
        control: Control = NO_CONTROL,
        sampling: Sampling | None = None,
        others: Sequence[str] = (),
        threads: int | None = None,
        member_weights: Sequence[float] | None = None,
        log_linear: bool = False,
        **which: Any,
    ) -> None:
        self.threads, self.asked_for = threads, asked_for
        if asked_for == engines.CTRANSLATE2 and len(directories) > 1:
            raise ConfigError(f"CTranslate2 translates with one model, got {len(directories)}: use --engine keras")
        self.how: dict[str, Any] = {"member_weights": member_weights, "log_linear": log_linear}
        self.is_export = len(directories) == 1 and is_export(directories[0]) and asked_for != engines.KERAS
        if self.is_export:
            if which.get("checkpoint") or which.get("weights"):
                raise ConfigError("an export holds one checkpoint: give --checkpoint and --weights to nmt export")
            config = read_export_settings(directories[0], which.get("overrides", ()))
            self.found, self.asked_for = [FoundModel(Path(directories[0]), None, None, config)], engines.CTRANSLATE2
        else:
            self.found = find_members(directories, member_weights=member_weights, **which)
        self.config = self.found[0].config
        self._choice: engines.Choice | None = None
        self._asks_model = bool(sampling or others)
        self._keep: Callable[[], None] = lambda: None
        self._lacks = engines.lacking(self.found, control=control, sampling=sampling, others=others)
        if self.wanted == engines.CTRANSLATE2:
            if others:
                raise ConfigError(
                    f"CTranslate2 does not tell what its model looks at, and cannot have {', '.join(others)}: use "
                    "--engine keras, with the model directory"
                )
            refuse_request(control, sampling, self.config.search)
            load_package()

    @property
    def wanted(self) -> str:
        """The engine that is asked for, or `auto`."""
        return self.asked_for or self.config.search.engine

    def refuse_output(self, output: PathLike | None, inputs: Sequence[tuple[str, PathLike | None]]) -> None:
        """Refuse to write over what is read, see `output_directory.refuse_output`."""
        for each in self.found:
            output_directory.refuse_output(output, inputs=inputs, directory=each.directory, config=each.config)

    def waits_for_lines(self) -> bool:
        """Whether the number of lines decides."""
        undecided = self._choice is None and self.wanted == AUTO and not self._lacks and engines.is_installed()
        return undecided and find_engine(self.found[0]) is None

    def choose(self, num_lines: int = 0) -> engines.Choice:
        """Choose once, for so many lines, and say so; the engine is made if it has to."""
        if self._choice is None:
            if self.is_export:
                directory = self.found[0].directory
                choice = engines.Choice(engines.CTRANSLATE2, "as this is an export for it", directory)
            else:
                choice = engines.choose_engine(
                    self.found,
                    self.asked_for,
                    lacks=self._lacks,
                    num_lines=num_lines,
                    make=partial(_make, threads=self.threads),
                )
            self._choice = choice.log()
        return self._choice

    def open(self) -> tuple[LineTranslator, list[tuple[str, str]]]:
        """Open what was chosen, and return it with the checkpoint and the kind of weights of each model."""
        choice = self.choose()
        if choice.directory is not None:
            facts, otherwise = read_facts(choice.directory), None
            if self.wanted == AUTO:
                otherwise = partial(open_in_keras, self.found[0], self.threads)
            try:
                made = CTranslate2Translator.open(
                    choice.directory, self.config, threads=self.threads, otherwise=otherwise
                )
            except ExportError as error:
                if self.is_export:
                    raise
                raise ExportError(
                    f"{error}; here: delete {choice.directory}, and it is made anew, or use --engine keras"
                ) from error
            return made, [(facts.checkpoint, facts.weights)]
        stored = StoredSearches.of(self.found[0], self.threads) if len(self.found) == 1 else None
        quick = None if self._asks_model else stored and stored.open()
        if stored and quick:
            self._keep = quick.keep
            return quick, [(stored.identity.checkpoint, stored.identity.weights)]
        translator, opened = open_translator(self.found, threads=self.threads, **self.how)
        which = [(each.checkpoint, each.weights) for each in opened]
        if stored and which == [(stored.identity.checkpoint, stored.identity.weights)]:
            self._keep = partial(stored.write, translator)
        return translator, which

    def keep_searches(self) -> None:
        """Store the searches that Keras has compiled, from which the next start is quicker."""
        self._keep()

    def depends(self, num_lines: int) -> dict[str, Any]:
        """List by which engine, weights and settings so many lines are translated."""
        name = self.choose(num_lines).name
        models = (
            [read_facts(self.found[0].directory).model_sha256[:12]]
            if self.is_export
            else [str(identity_of(each)) for each in self.found]
        )
        search = self.config.search.model_dump(mode="json", exclude={"engine"})
        return {
            "nmt": __version__,
            "engine": name,
            "shortlist": shortlist_hash(self.found[0].directory) if self.config.search.shortlist else None,
            **{f"RUN {number}": each for number, each in enumerate(models, 1)},
            "data.segmentation": self.config.data.segmentation,
            **{f"search.{key}": value for key, value in search.items()},
        }
