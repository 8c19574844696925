from __future__ import annotations

import pytest
from pydantic import ValidationError

from tlvision.hooks import ObserverHook
from tlvision.hooks import registry as hooks
from tlvision.types import InputError


def test_every_built_in_hook_keeps_the_rules_of_a_hook() -> None:
    names = hooks.hook_names()
    assert len(names) >= 6
    for name in names:
        found = hooks.hook_class(name)
        assert found.key() == name
        assert hooks.hook_schema(found).model_config["extra"] == "forbid"
        documentation = __import__(found.__module__, fromlist=["x"]).__doc__
        assert documentation, f"{name}: the file opens with what it is and where it comes from"


def test_unknown_hook_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown hook 'freez'\. Did you mean 'freeze'"):
        hooks.hook_class("freez")


def test_schema_checks_ranges_and_types() -> None:
    schema = hooks.hook_schema(hooks.hook_class("layerwise_lr"))
    assert schema.model_validate({"decay": 0.9}).decay == 0.9  # type: ignore[attr-defined]
    for wrong in ({"decay": float("nan")}, {"decay": 1.5}, {"decay": "fast"}, {}, {"decay": 0.9, "dekay": 1}):
        with pytest.raises(ValidationError):
            schema.model_validate(wrong)


def test_numbers_are_finite() -> None:
    schema = hooks.hook_schema(hooks.hook_class("l2_sp"))
    assert schema.model_validate({"alpha": 1e30})
    with pytest.raises(ValidationError, match="finite"):
        schema.model_validate({"alpha": float("inf")})


class Positional(ObserverHook):
    def __init__(self, every: int = 1) -> None: ...


class Untyped(ObserverHook):
    def __init__(self, *, every=1) -> None: ...  # type: ignore[no-untyped-def]


class NoKind:
    pass


@pytest.mark.parametrize(
    ("name", "found", "expected"),
    [
        ("positional", Positional, "'every' of __init__ must be keyword-only and typed"),
        ("untyped", Untyped, "'every' of __init__ must be keyword-only and typed"),
        ("no_kind", NoKind, "derived from ModelHook, SetupHook, ObjectiveHook, DataHook or ObserverHook"),
        ("other_name", Positional, "both must be the same"),
    ],
)
def test_a_hook_that_breaks_the_rules_is_refused_by_name(name: str, found: type, expected: str) -> None:
    with pytest.raises(InputError, match=expected) as caught:
        hooks._check(name, "some.package:Hook", found)
    assert f"hook '{name}' (some.package:Hook)" in str(caught.value)
