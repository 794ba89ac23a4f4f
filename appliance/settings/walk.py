"""Through a typed model from the top to the leaves, knowing at each step where that stands in the file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from appliance.settings import models
from appliance.settings.binder import Where
from appliance.settings.schema import Field, Node, fields_of


class Spot(msgspec.Struct, frozen=True):
    """A section: ``where`` leads to it in the raw tree, ``path`` says so in XML names (``Server.Bind.Managers``)."""

    node: Any
    where: Where = ()
    path: str = "Server"

    def setting(self, attr: str) -> tuple[Where, str]:
        """The way to one setting of the section."""
        field = next(field for field in self._fields() if field.attr == attr)
        return (*self.where, field.json), f"{self.path}.{field.container or field.xml}"

    def spots(self) -> Iterator[Spot]:
        """This section, then all that are below it."""
        yield self
        for field in self._fields():
            if field.section:
                for child in self._children(field):
                    yield from child.spots()

    def below(self, kind: type[Node]) -> Iterator[Spot]:
        """Those of one class, in the order of the models."""
        return (spot for spot in self.spots() if isinstance(spot.node, kind))

    def _fields(self) -> tuple[Field, ...]:
        model: type[Node] = type(self.node)
        return fields_of(model)

    def _children(self, field: Field) -> Iterator[Spot]:
        value = getattr(self.node, field.attr)
        where, path = self.setting(field.attr)
        if field.many:
            where = (*where, field.item_json) if field.nested else where
            path = f"{path}.{field.xml}" if field.container else path
            for index, item in enumerate(value):
                yield Spot(item, (*where, index), path)
        elif value is not None:
            yield Spot(value, where, path)


def spots(server: models.Server) -> Iterator[Spot]:
    """Every section of ``server``."""
    return Spot(server).spots()
