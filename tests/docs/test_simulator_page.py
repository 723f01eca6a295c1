"""docs/simulator.md says every switch of the simulator in the words of the code."""

from typing import Any

import pytest
from pydantic.fields import FieldInfo

from membrane_sync.testing.simulator import STYLES
from membrane_sync.testing.simulator.control import STRINGS
from membrane_sync.testing.simulator.project import CONNECTOR
from membrane_sync.testing.simulator.switches import MODELS, Switches
from tests.docs.pages import sections, text_of


def row(name: str, field: FieldInfo) -> str:
    """The line of a switch in its table."""
    return f"| `{name}` | {field.description} | {_default(field)} |"


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True)
    if field.is_required():
        return "required"
    if value in (None, (), {}):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{', '.join(value)}`" if isinstance(value, tuple) else f"`{value}`"


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_switch_is_in_its_table(model: type[Switches]) -> None:
    table = dict(sections(text_of("simulator.md"), 3))[model.__name__]
    rows = [row(name, field) for name, field in model.model_fields.items()]
    assert [line for line in table.splitlines() if line.startswith("| `")] == rows


@pytest.mark.parametrize("spec", STYLES, ids=lambda spec: spec.key)
def test_every_collection_is_listed_with_what_its_file_says(spec: Any) -> None:
    file = CONNECTOR / "data_collections" / f"{spec.key}.yaml"
    note = file.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    assert f"| `{spec.key}` | {note} |" in text_of("simulator.md")


def test_every_control_address_is_listed() -> None:
    page = text_of("simulator.md")
    assert [name for name in STRINGS if f"`{name}`" not in page] == []
