"""The kit that holds every plugin to the contract; importing it imports no torch.

Three lines in a plugin's test file run it whole:

    from tlvision.conformance import plugin_checks

    @pytest.mark.parametrize("check", plugin_checks("toy"), ids=str)
    def test_contract(check): check()
"""

from tlvision.conformance.kit import Outcome, PluginCheck, plugin_checks

__all__ = ["Outcome", "PluginCheck", "plugin_checks"]
