"""What a user sets: validated once, read from TOML, from flags and from Python by the same class.

Subclass `Settings` with annotated fields, each with a docstring below it. What does not validate is refused
by one `InputError` that names the field, the reason and the remedy.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args, get_origin

import annotated_types
import pydantic
from pydantic.fields import FieldInfo

from cloudgan.errors import InputError

AnyPath = Annotated[Path, pydantic.Field(strict=False)]
"""A path, given as a `Path` or as text."""

Location = tuple[int | str, ...]
"""Where a value stands: names of fields, and positions in lists."""

_nested: ContextVar[bool] = ContextVar("nested", default=False)


class Settings(pydantic.BaseModel):
    """Immutable settings; `true` is no number, "5" is no whole number, and an unknown key is refused.

    Lists are taken where a field is a tuple, as TOML has no tuples. Fields may be settings themselves, or
    tuples of them.

    Raises:
        InputError: On construction, where a value does not validate.
    """

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    title: ClassVar[str] = "settings"
    """What a file of these settings is called in messages."""
    remedy: ClassVar[str] = "give one"
    """What to do about a value of the wrong kind, or about a missing one."""

    def __init__(self, **values: Any) -> None:
        values = {name: _without_lists(value) for name, value in values.items()}
        if _nested.get():  # the outermost settings know the whole location of what is wrong
            super().__init__(**values)
            return
        token = _nested.set(True)
        try:
            super().__init__(**values)
        except pydantic.ValidationError as error:
            raise _InvalidError(*_describe(type(self), error)) from error
        finally:
            _nested.reset(token)

    @classmethod
    def load(cls, file: Path | None, overrides: Mapping[str, Any] | None = None) -> Self:
        """The settings of a TOML file, overridden by others.

        Args:
            file: The file, or None. A hyphen in a key stands for an underscore.
            overrides: Values by field name; None stands for one that was not given.

        Raises:
            InputError: The file cannot be read or has unknown keys, or a value is missing or wrong.
        """
        given = {name: value for name, value in (overrides or {}).items() if value is not None}
        table = {} if file is None else cls.resolve_paths(cls._read(file), file.resolve().parent)
        try:
            return cls(**table | given)
        except _InvalidError as invalid:
            if file is None or invalid.field in given or (given and invalid.field not in table):
                raise
            raise InputError(f"the {cls.title} {file}: {invalid}") from invalid

    @classmethod
    def _read(cls, file: Path) -> dict[str, Any]:
        try:
            table = tomllib.loads(file.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise InputError(
                f"the {cls.title} {file} cannot be read ({error.strerror}); give a TOML file"
            ) from error
        except ValueError as error:
            raise InputError(f"the {cls.title} {file} is no TOML ({error}); mend it") from error
        named: dict[str, Any] = _with_underscores(table, (cls,))
        return named

    @classmethod
    def resolve_paths(cls, table: dict[str, Any], folder: Path) -> dict[str, Any]:
        """A file's table with its relative paths counted from the file's folder; a hook for subclasses."""
        return table

    @classmethod
    def spell(cls, location: Location) -> str:
        """How a user writes a field: `networks.width`, `data[1].path`; a hook for subclasses."""
        text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
        return text.removeprefix(".")

    def replace(self, **changes: Any) -> Self:
        """The same settings but for some fields, validated anew."""
        return type(self)(**dict(self) | changes)

    def as_json(self) -> dict[str, Any]:
        """The values by name, as JSON has them."""
        return self.model_dump(mode="json")

    def as_toml(self) -> str:
        """The settings as TOML that `load` reads back; fields that are None are left out."""
        return "".join(_toml_lines(self.as_json(), ""))


class _InvalidError(InputError):
    """Carries the field of the outermost settings that is wrong, to tell a flag from a file."""

    def __init__(self, message: str, field: str | None) -> None:
        super().__init__(message)
        self.field = field


def find_models(annotation: Any) -> tuple[type[pydantic.BaseModel], ...]:
    """The models that a field's annotation admits, through unions, tuples and `Annotated`."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return (annotation,)
    if get_origin(annotation) is Literal:
        return ()
    return tuple(model for part in get_args(annotation) for model in find_models(part))


def _without_lists(value: Any) -> Any:
    return tuple(map(_without_lists, value)) if isinstance(value, list) else value


def _with_underscores(value: Any, models: Sequence[type[pydantic.BaseModel]]) -> Any:
    """TOML with the keys of its tables as fields are named; tables that are no settings keep their keys."""
    if isinstance(value, list):
        return [_with_underscores(each, models) for each in value]
    if not isinstance(value, dict) or not models:
        return value
    table = {}
    for key, inner in value.items():
        name = key.replace("-", "_")
        inside = [model.model_fields[name].annotation for model in models if name in model.model_fields]
        known = [model for each in inside for model in find_models(each)]
        if isinstance(inner, dict) and dict in map(get_origin, inside):  # whose keys are the user's own
            table[name] = {each: _with_underscores(value, known) for each, value in inner.items()}
        else:
            table[name] = _with_underscores(inner, known)
    return table


def _toml_lines(table: Mapping[str, Any], path: str) -> Iterator[str]:
    """Lines of a table, then those of the tables in it: TOML wants them in this order."""
    # Text, numbers, flags and lists of them are written alike in JSON and TOML.
    known = {name: value for name, value in table.items() if value is not None}
    tables = {name: value for name, value in known.items() if isinstance(value, dict) or _is_array(value)}
    for name, value in known.items():
        if name not in tables:
            yield f"{name} = {json.dumps(value, ensure_ascii=False)}\n"
    for name, value in tables.items():
        brackets = "[{}]" if isinstance(value, dict) else "[[{}]]"
        for each in [value] if isinstance(value, dict) else value:
            yield f"\n{brackets.format(path + name)}\n"
            yield from _toml_lines(each, f"{path}{name}.")


def _is_array(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


# From pydantic's errors to one sentence

_KINDS = {
    "int_type": "whole number",
    "int_from_float": "whole number",
    "float_type": "number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "list",
    "dict_type": "table",
    "model_type": "table",
    "model_attributes_type": "table",
    "path_type": "path",
}
_BOUNDS = {"greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number"}


def _describe(cls: type[Settings], error: pydantic.ValidationError) -> tuple[str, str | None]:
    """What is wrong first, in one sentence, and the outermost field that has it."""
    errors = error.errors(include_url=False)
    first = errors[0]
    location, table, field = _trace(cls, first["loc"])
    outermost = str(location[0]) if location else None
    alike = [_trace(cls, each["loc"])[0] for each in errors if each["type"] == first["type"]]
    if first["type"] == "missing":
        names = " and ".join(cls.spell(each) for each in alike)
        return f"{names} must be given; {cls.remedy}", outermost
    if first["type"] == "extra_forbidden":
        keys = ", ".join(sorted(Settings.spell(each) for each in alike if each[:-1] == location[:-1]))
        return f"there is no key {keys}; there are {', '.join(sorted(table.model_fields))}", outermost
    return _sentence(cls, cls.spell(location), dict(first), field), outermost


def _sentence(cls: type[Settings], name: str, error: dict[str, Any], field: FieldInfo | None) -> str:
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    value = list(value) if isinstance(value, tuple) else value  # as the user wrote it
    if kind in _KINDS:
        return f"{name} {value!r} is no {_KINDS[kind]}; {cls.remedy}"
    if kind in _BOUNDS and field is not None:
        return f"{name} {_plain(value)} {_bounds(field)}"
    if kind in ("literal_error", "union_tag_invalid"):
        choices = context.get("expected") or context["expected_tags"]
        return f"{name} {_plain(value)} is unknown; give {choices.replace(chr(39), '')}"
    if kind in ("too_long", "too_short", "missing_argument"):
        return f"{name} {value!r} has not the right number of values; {cls.remedy}"
    if kind == "value_error":  # what a validator of a subclass says
        said = str(context["error"])
        return f"{name}: {said}".removeprefix(": ") if isinstance(value, dict) else f"{name} {value} {said}"
    said = error["msg"]
    return f"{name} {value!r} is refused ({said[:1].lower()}{said[1:]}); {cls.remedy}"


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _bounds(field: FieldInfo) -> str:
    """The reason and the remedy where a number lies outside the bounds of its field."""
    limits: dict[str, Any] = {}
    for each in field.metadata:
        for name, kind in (("ge", annotated_types.Ge), ("gt", annotated_types.Gt),
                           ("le", annotated_types.Le), ("lt", annotated_types.Lt)):  # fmt: skip
            if isinstance(each, kind):
                limits[name] = getattr(each, name)
    low, high = limits.get("ge", limits.get("gt")), limits.get("le", limits.get("lt"))
    example = f"{_plain(field.default)}, say" if isinstance(field.default, int | float) else "one that is"
    if low is not None and high is not None:
        without = "".join(f" (without {_plain(limits[each])})" for each in ("gt", "lt") if each in limits)
        return f"is not between {_plain(low)} and {_plain(high)}{without}; give {example}"
    if low is not None:
        return (
            f"is below {low}; give {low} or more" if "ge" in limits else f"is not above {low}; give {example}"
        )
    if high is not None:
        return (
            f"is above {high}; give {high} or less"
            if "le" in limits
            else f"is not below {high}; give {example}"
        )
    return f"is no finite number; give {example}"


def _trace(
    cls: type[pydantic.BaseModel], loc: Sequence[int | str]
) -> tuple[Location, type[pydantic.BaseModel], FieldInfo | None]:
    """An error's location without pydantic's names for the members of unions, its table and its field."""
    location: list[int | str] = []
    table, field = cls, None
    candidates: tuple[type[pydantic.BaseModel], ...] = (cls,)
    for part in loc:
        chosen = [model for model in candidates if len(candidates) > 1 and _is_called(model, part)]
        if chosen:
            candidates = (chosen[0],)
            continue
        location.append(part)
        is_own_key = field is not None and get_origin(field.annotation) is dict
        if isinstance(part, int) or not candidates or is_own_key:
            field = None if is_own_key else field
            continue
        table = candidates[0]
        field = table.model_fields.get(part)
        candidates = () if field is None else find_models(field.annotation)
    return tuple(location), table, field


def _is_called(model: type[pydantic.BaseModel], part: int | str) -> bool:
    """Whether a union's member is meant: by the name of its class, or by its tag."""
    tags = (
        get_args(f.annotation) for f in model.model_fields.values() if get_origin(f.annotation) is Literal
    )
    return part == model.__name__ or any(part in choices for choices in tags)
