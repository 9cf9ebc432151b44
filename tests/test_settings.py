"""Settings: one sentence about what is wrong, wherever it stands."""

from pathlib import Path
from typing import Annotated, Literal

import pydantic
import pytest

from cloudgan.errors import InputError
from cloudgan.settings import AnyPath, Settings


class Layer(Settings):
    width: int = pydantic.Field(64, gt=0)
    """Filters."""
    dropout: float = pydantic.Field(0.5, ge=0, lt=1)
    kind: Literal["batch", "instance"] = "batch"


class Scenes(Settings):
    kind: Literal["scenes"] = "scenes"
    path: AnyPath


class Search(Settings):
    kind: Literal["search"]
    stac: str


class Example(Settings):
    title = "recipe"

    name: str
    layer: Layer = Layer()
    data: tuple[Annotated[Scenes | Search, pydantic.Field(discriminator="kind")], ...] = ()
    shear: tuple[float, float] = (15.0, 0.0)
    extra: dict[str, float] = pydantic.Field({})
    count: int | None = pydantic.Field(None, ge=1)

    @pydantic.field_validator("name")
    @classmethod
    def _refuse_blanks(cls, name: str) -> str:
        if " " in name:
            raise ValueError("has a blank in it; write it in one word")
        return name

    @pydantic.model_validator(mode="after")
    def _refuse_none(self) -> "Example":
        if self.count == 13:
            raise ValueError("a count of 13 has no data; give 12")
        return self


def test_values_are_read_strictly_and_whole_numbers_are_numbers():
    made = Example(name="a", layer={"dropout": 0}, data=[{"kind": "scenes", "path": "x"}], shear=[1, 2])
    assert made.layer == Layer(dropout=0.0)
    assert made.data == (Scenes(path=Path("x")),)
    assert made.shear == (1.0, 2.0)
    assert Layer.model_fields["width"].description == "Filters."


def test_settings_are_immutable_and_replaced_with_validation():
    made = Example(name="a")
    with pytest.raises(pydantic.ValidationError):
        made.name = "b"
    assert made.replace(name="b").name == "b"
    with pytest.raises(InputError, match=r"^name 5 is no text"):
        made.replace(name=5)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "name must be given; give one"),
        ({"name": True}, "name True is no text; give one"),
        ({"layer": {"width": "5"}}, "layer.width '5' is no whole number; give one"),
        ({"layer": {"width": 1.0}}, "layer.width 1.0 is no whole number; give one"),
        ({"layer": {"width": True}}, "layer.width True is no whole number; give one"),
        ({"layer": {"width": 0}}, "layer.width 0 is not above 0; give 64, say"),
        ({"layer": {"dropout": 1}}, "layer.dropout 1 is not between 0 and 1 (without 1); give 0.5, say"),
        ({"layer": {"dropout": float("nan")}}, "layer.dropout nan is not between 0 and 1 (without 1); give"),
        ({"layer": {"kind": "none"}}, "layer.kind none is unknown; give batch or instance"),
        ({"layer": {"depth": 3, "a": 1}}, "there is no key layer.a, layer.depth; there are dropout, kind"),
        ({"layer": 3}, "layer 3 is no table; give one"),
        ({"data": {"path": "x"}}, "data {'path': 'x'} is no list; give one"),
        ({"data": [{"kind": "scenes", "path": "x"}, {"kind": "scenes"}]}, "data[1].path must be given"),
        ({"data": [{"kind": "search", "stac": 1}]}, "data[0].stac 1 is no text"),
        ({"data": [{"kind": "search", "stac": "a", "b": 1}]}, "there is no key data[0].b; there are kind"),
        ({"data": [{"kind": "film"}]}, "data[0] {'kind': 'film'} is unknown; give scenes, search"),
        ({"shear": [1, 2, 3]}, "shear [1, 2, 3] has not the right number of values; give one"),
        ({"count": 0}, "count 0 is below 1; give 1 or more"),
        ({"name": "a b"}, "name a b has a blank in it; write it in one word"),
        ({"count": 13}, "a count of 13 has no data; give 12"),
        ({"nam": 1}, "there is no key nam; there are count, data, extra, layer, name, shear"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_sentence(values, sentence):
    with pytest.raises(InputError) as refused:
        Example(**({"name": "a"} if values else {}) | values)
    assert str(refused.value).startswith(sentence)


def test_a_file_is_read_and_named(tmp_path):
    file = tmp_path / "a.toml"
    file.write_text(
        'name = "a"\n[layer]\nkind = "instance"\n[extra]\na-b = 1\n[[data]]\nkind = "scenes"\npath = "x"\n'
    )
    made = Example.load(file, {"name": "b", "count": None})
    assert (made.name, made.layer.kind, made.extra) == ("b", "instance", {"a-b": 1.0})
    with pytest.raises(InputError, match=r"^name 3 is no text"):
        Example.load(file, {"name": 3})
    file.write_text('name = "a"\n[layer]\nwidth = 0')
    with pytest.raises(InputError, match=r"^the recipe .*a\.toml: layer\.width 0 is not above 0"):
        Example.load(file, {"name": "b"})


def test_what_is_written_as_toml_is_read_back(tmp_path):
    made = Example(
        name='a"quoted"é',
        layer=Layer(width=3),
        data=[Scenes(path=Path("x")), Search(kind="search", stac="s")],
    )
    file = tmp_path / "a.toml"
    file.write_text(made.as_toml(), encoding="utf-8")
    assert Example.load(file) == made
