"""What a section of the settings is, how one setting is declared, and how one walks over all of them.

A setting is a typed field of a frozen class. Its default, its help text, its bounds and the mark that says whether it
may change when an unfinished run is continued stand together in that one place; the loader, the errors, `--explain`,
the reference page and the JSON Schema all read them from there.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from inspect import signature
from types import NoneType
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple, Self, TypeVar, get_args, get_origin

import pydantic
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, core_schema

from nmt.errors import ConfigError
from nmt.kinds import Registry

REQUIRED: Any = ...
"""The default of a setting that the user has to give."""

MAY_CHANGE = "x-may-change-on-resume"
"""Where a field carries the mark that `setting(may_change=...)` gives it."""

AUTO: Final = "auto"
"""The word that leaves a number to what is found when a run begins."""

BEFORE = "x-absent-means"
"""Where a field carries what `setting(before=...)` gives it."""

WORDS = "x-words"
"""Where the schema of a type says what it takes, if its parts alone would not say enough."""

_UNSAID: Any = object()

MISFITS = "misfits"
"""The type of the pydantic error that carries the misfits of a section."""


class Misfit(NamedTuple):
    """Settings that are valid alone but do not fit each other.

    Attributes:
        key: the setting to name first, relative to the section that reports it ("num_heads", "model.num_heads").
        message: what must hold, what came and what to try; it reads on from the key ("must be ...").
    """

    key: str
    message: str


class Section(BaseModel):
    """A group of settings: frozen, strictly typed (`true` is no number), an unknown key is an error."""

    model_config = pydantic.ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=(), validate_default=False
    )

    known: ClassVar[list[type["Section"]]] = []
    """All sections, each behind those that it holds."""

    @classmethod
    def __pydantic_init_subclass__(cls, **arguments: Any) -> None:
        Section.known.append(cls)

    @classmethod
    def replaced(cls, below: Mapping[str, Any], above: Mapping[str, Any]) -> Iterator[str]:
        """Yields which settings of a layer go where one above says the same in another way; both as YAML has them."""
        yield from ()

    def misfits(self) -> Iterator[Misfit]:
        """Yields what does not fit together among settings of this section that are each valid."""
        yield from ()

    @model_validator(mode="after")
    def _refuse_misfits(self) -> Self:
        if misfits := list(self.misfits()):
            raise PydanticCustomError(MISFITS, "misfits", {"misfits": misfits})
        return self


def setting(
    default: Any,
    help_text: str,
    *,
    may_change: bool = False,
    before: Any = _UNSAID,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    min_length: int | None = None,
) -> Any:
    """Declares one setting of a section.

    Args:
        default: the value if the user gives none, or `REQUIRED`.
        help_text: what the setting does, with its unit; shown by `--explain`, in the docs and in editors.
        may_change: whether it may differ when an unfinished run is continued.
        before: what a `config.yaml` in a model directory means that lacks the setting: what was done before there was
            one. Its runs go on with that; to be given wherever the default of a new setting does something else.
        at_least: inclusive lower bound.
        above: exclusive lower bound.
        at_most: inclusive upper bound.
        below: exclusive upper bound.
        min_length: the least number of characters of a text.

    Returns:
        The field, for the right side of an annotated class attribute.
    """
    extra: dict[str, Any] = {MAY_CHANGE: may_change} | ({} if before is _UNSAID else {BEFORE: before})
    bounds: dict[str, Any] = {"ge": at_least, "gt": above, "le": at_most, "lt": below, "min_length": min_length}
    return Field(default, description=help_text, json_schema_extra=extra, **bounds)


CountOrAuto = Annotated[int, Field(ge=1)] | Literal["auto"]
"""A number of tokens, or the word that leaves it to what is found when a run begins."""


class Setting(NamedTuple):
    """One setting, or one section, in its place.

    Attributes:
        path: as a user writes it ("model.num_heads").
        kind: the `type` of the section it belongs to, if that has several kinds, else None.
        section: the section it belongs to.
        holder: the declaration of that section, None at the top level.
        field: its declaration.
        may_change: whether it may differ when an unfinished run is continued.
    """

    path: str
    kind: str | None
    section: type[Section]
    holder: FieldInfo | None
    field: FieldInfo
    may_change: bool


def section_classes(field: FieldInfo) -> list[type[Section]]:
    """Returns the sections that a field admits: none for a plain setting or a list, several if a `type` chooses."""
    if choice := choice_of(field):
        return list(choice.sections.values())
    kinds = [kind for kind in _parts_of(field.annotation) if get_origin(kind) is not tuple]
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)]


def element_class(field: FieldInfo) -> "type[Section] | None":
    """Returns the section that each element of a list is, None if a setting takes no list of sections."""
    found = (each for kind in _parts_of(field.annotation) if get_origin(kind) is tuple for each in get_args(kind))
    return next((each for each in found if isinstance(each, type) and issubclass(each, Section)), None)


def kinds_of(field: FieldInfo) -> dict[str, type[Section]]:
    """Returns the kinds of a section by their `type`, the default first; empty if there is one kind only."""
    choice = choice_of(field)
    return choice.sections if choice else {}


def choice_of(field: FieldInfo) -> "Choice | None":
    """Returns the kinds from which a setting chooses, None if it is of one kind."""
    marks = (*field.metadata, *_types_in(field.annotation))  # of a setting that may be null it stands in the annotation
    return next((mark for mark in marks if isinstance(mark, Choice)), None)


def is_nullable(field: FieldInfo) -> bool:
    """Returns whether a setting may be null."""
    return NoneType in _types_in(field.annotation)


def marks_of(field: FieldInfo) -> dict[str, Any]:
    """Returns what `setting` noted of a field: `MAY_CHANGE`, and `BEFORE` if it was given."""
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def settings_of(section: type[Section], within: Setting | None = None, kind: str | None = None) -> Iterator[Setting]:
    """Yields every setting of every kind below a section, plain settings before the sections beside them.

    Args:
        section: where to begin; `Config` for all settings.
        within: the setting whose value the section is.
        kind: its `type`, if it is one of several kinds.
    """
    prefix, holder, may_change = (f"{within.path}.", within.field, within.may_change) if within else ("", None, False)
    for name, field in sorted(section.model_fields.items(), key=lambda item: bool(section_classes(item[1]))):
        marked = may_change or marks_of(field)[MAY_CHANGE]
        found = Setting(prefix + name, kind, section, holder, field, marked)
        yield found
        for inner_kind, inner in kinds_of(field).items() or ((None, inner) for inner in section_classes(field)):
            yield from settings_of(inner, found, inner_kind)
        if (element := element_class(field)) is not None:
            yield from settings_of(element, found._replace(path=f"{found.path}[]", may_change=False))


@cache
def schemas_of(section: type[Section]) -> dict[str, Any]:
    """Returns the JSON Schema of each setting of a section."""
    return section.model_json_schema()["properties"]


AnySection = TypeVar("AnySection", bound=Section)


class Choice:
    """The mark of a setting that chooses a kind: by its word, or by a section of settings whose `type` is the word.

    It stands in the annotation, `Annotated[ScheduleSettings, SCHEDULES]`. What a config may say, its JSON Schema, the
    reference and the messages then follow from what is registered.

    Args:
        registry: the kinds.
        needs: settings that every kind must have, since others read them.
        aside: settings that what is built does not take.

    Attributes:
        sections: the settings of each kind by its word, the default first; empty if kinds have none.
    """

    def __init__(self, registry: Registry, *, needs: tuple[str, ...] = (), aside: tuple[str, ...] = ()) -> None:
        self.registry, self._needs, self._aside = registry, ("type", *needs), {"type", *aside}
        self.sections: dict[str, type[Section]] = {}
        if not needs:  # kinds that have no settings are added to the registry itself
            registry.watchers.append(self._renew)

    def register(self, word: str, built: Any = None) -> Callable[[type[AnySection]], type[AnySection]]:
        """Register a kind; decorates the class of its settings.

        Args:
            word: by which configs know it; the default of the field `type` of its settings.
            built: the class or function that takes the settings as keywords; ours stand in the registry.

        Raises:
            ConfigError: the word is one of ours already, or a setting that every kind must have is missing.
        """

        def register(section: type[AnySection]) -> type[AnySection]:
            fields = section.model_fields
            missing = ", ".join(name for name in self._needs if name not in fields)
            if missing or fields["type"].default != word:
                wrong = f"must have the setting {missing}" if missing else "must have it as the default of type"
                raise ConfigError(f"{self.registry.place} {word}: its settings, {section.__name__}, {wrong}")
            if built is not None:
                self.registry.add(word, built)
            elif word not in self.registry.built:
                place = f"{self.registry.place} {word}"
                raise ConfigError(f"{place}: say what is built of its settings, as in register_...({word!r}, MyClass)")
            self.sections[word] = section
            self._renew()
            return section

        return register

    def _renew(self) -> None:
        """Lets every section know the kinds of now that holds a setting of them, itself or in a section within."""
        renewed: list[type[Section]] = []
        for section in Section.known:
            fields = section.model_fields.values()
            if any(choice_of(field) is self or {*section_classes(field)} & {*renewed} for field in fields):
                section.model_rebuild(force=True)
                renewed.append(section)
        schemas_of.cache_clear()

    def build(self, settings: Any, *arguments: Any, **context: Any) -> Any:
        """Builds what settings describe.

        Args:
            settings: of one of the kinds; its class or function takes them as keywords.
            arguments: go before them.
            context: what it may take besides.
        """
        built, own = self.registry[settings.type], settings.model_dump(exclude=self._aside)
        taken = signature(built).parameters
        return built(*arguments, **own, **{name: value for name, value in context.items() if name in taken})

    def __get_pydantic_core_schema__(self, source: Any, handler: pydantic.GetCoreSchemaHandler) -> Any:
        if not self.sections:
            return core_schema.literal_schema([*self.registry.built])
        choices = {word: handler.generate_schema(section) for word, section in self.sections.items()}
        default = next(iter(choices))  # what a section is that does not say its type
        return core_schema.tagged_union_schema(
            choices,
            lambda value: str(value.get("type", default)) if isinstance(value, dict) else getattr(value, "type", None),
        )


class OneOrMany:
    """The mark of a setting that is one section, or a list of sections that have names and more settings.

    It stands in the annotation, `Annotated[CorpusSettings | tuple[NamedCorpusSettings, ...], OneOrMany(...)]`, so that
    what is wrong with one of them is said of that one alone.

    Args:
        one: the section that stands alone.
        element: each section of a list.
    """

    one_key, many_key = "<one>", "<many>"

    def __init__(self, one: type[Section], element: type[Section]) -> None:
        self._one, self._element = one, element

    def __get_pydantic_core_schema__(self, source: Any, handler: pydantic.GetCoreSchemaHandler) -> Any:
        one, element = (handler.generate_schema(section) for section in (self._one, self._element))
        many = core_schema.tuple_schema([element], variadic_item_index=0, strict=False)
        return core_schema.tagged_union_schema(
            {self.one_key: one, self.many_key: many},
            lambda value: self.many_key if isinstance(value, list | tuple) else self.one_key,
        )


def _parts_of(annotation: Any) -> list[Any]:
    """Returns the types that an annotation joins, tuples whole, without what `Annotated` adds to them."""
    if get_origin(annotation) is tuple or not (arguments := get_args(annotation)):
        return [annotation]
    return [kind for argument in arguments for kind in _parts_of(argument)]


def _types_in(annotation: Any) -> list[Any]:
    """Returns the types that an annotation joins, without what `Annotated` adds to them."""
    arguments = get_args(annotation)
    return [kind for argument in arguments for kind in _types_in(argument)] if arguments else [annotation]


PATH_ERROR = "path"
"""The type of the pydantic error of a path that cannot be used; its message reads on from the setting's name."""

UNDEFINED_VARIABLE = "undefined_variable"
"""The type of the pydantic error of a path whose environment variable is not set."""

CONFIG_NAME = "config.yaml"
"""The file of a model directory that holds its settings."""

EXPORT_NAME = "export.json"
"""Holds what an export for another engine says of itself; a model directory has none."""

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def expand_path(path: str) -> str:
    """Returns a path with every `${NAME}` replaced from the environment, then a leading `~` by the home directory.

    Raises:
        PydanticCustomError: the path is empty, a variable is not set, or `~name` is nobody's home.
    """
    for variable in _VARIABLE.findall(path):
        if not os.environ.get(variable):
            state = "empty" if variable in os.environ else "not set"
            raise PydanticCustomError(UNDEFINED_VARIABLE, "variable", {"variable": variable, "state": state})
    expanded = os.path.expanduser(_VARIABLE.sub(lambda match: os.environ[match.group(1)], path))
    problem = ""
    if not path.strip():
        problem = "must be a path, got an empty text"
    elif "\0" in expanded:
        problem = "must be a path, got a text with a NUL character"
    elif "${" in expanded:
        problem = f"contains '${{' that begins no variable, got '{path}': write ${{NAME}}, of letters, digits and _"
    elif re.match(r"\$[A-Za-z_]", path):
        problem = f"begins with '$', got '{path}': write ${{NAME}} for a variable, or ./$..."
    elif expanded.startswith("~"):
        problem = f"begins with '~', but no such user has a home here, got '{path}': write ./~..."
    if problem:
        raise PydanticCustomError(PATH_ERROR, "{problem}", {"problem": problem})
    return expanded


def _expand_one_or_many(value: Any) -> Any:
    if isinstance(value, str):
        return expand_path(value)
    if isinstance(value, list | tuple) and value and all(isinstance(path, str) for path in value):
        return tuple(expand_path(path) for path in value)
    raise PydanticCustomError("path_type", "must be a path or a list of paths")


_PATH_SCHEMA = {"type": "string", WORDS: "a path"}
_PATHS_SCHEMA = {"anyOf": [{"type": "string"}, {"items": {"type": "string"}, "type": "array"}]}

FilePath = Annotated[str, AfterValidator(expand_path), pydantic.WithJsonSchema(_PATH_SCHEMA)]
"""A path."""

FilePaths = Annotated[
    str | tuple[str, ...],
    BeforeValidator(_expand_one_or_many),
    pydantic.WithJsonSchema({**_PATHS_SCHEMA, WORDS: "a path or a list of paths"}),
]
"""A path or a list of paths; the files of a list are read one after the other."""
