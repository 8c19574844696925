"""The kits that hold every plugin and every hook to their contracts; importing them imports no torch.

Three lines in a plugin's test file run it whole:

    from tlvision.conformance import plugin_checks

    @pytest.mark.parametrize("check", plugin_checks("toy"), ids=str)
    def test_contract(check): check()

`hook_checks` does the same for a hook.
"""

from tlvision.conformance.hook_kit import HookCheck, hook_checks
from tlvision.conformance.kit import Outcome, PluginCheck, plugin_checks

__all__ = ["HookCheck", "Outcome", "PluginCheck", "hook_checks", "plugin_checks"]
