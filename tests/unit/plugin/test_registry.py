from __future__ import annotations

from types import SimpleNamespace

import pytest

from tlvision.plugin import get_plugin, plugin_names
from tlvision.plugin.registry import check_plugin_object
from tlvision.types import InputError


def test_every_installed_plugin_keeps_the_contract() -> None:
    assert {"toy", "yolo"} <= set(plugin_names())
    for name in plugin_names():
        plugin = get_plugin(name)
        assert plugin.architectures()
        assert plugin.task_of(plugin.architectures()[0]) in plugin.tasks
        assert plugin.licence


def test_an_unknown_plugin_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no plugin 'yolo8' is installed\. Did you mean 'yolo'"):
        get_plugin("yolo8")


def complete() -> dict[str, object]:
    return {
        "name": "mine", "tasks": ("detect",), "upstream": "", "upstream_versions": "", "licence": "MIT",
        "capabilities": {}, "architectures": tuple, "task_of": str, "build": str,
    }  # fmt: skip


@pytest.mark.parametrize("missing", sorted(complete()))
def test_a_missing_member_is_named_with_plugin_and_origin(missing: str) -> None:
    members = complete()
    check_plugin_object("mine", "my_package:plugin", SimpleNamespace(**members))
    del members[missing]
    with pytest.raises(InputError, match=rf"plugin 'mine' \(my_package:plugin\): .*'{missing}"):
        check_plugin_object("mine", "my_package:plugin", SimpleNamespace(**members))


def test_a_plugin_that_calls_itself_otherwise_is_refused() -> None:
    with pytest.raises(InputError, match="calls itself 'mine'"):
        check_plugin_object("yours", "my_package:plugin", SimpleNamespace(**complete()))
