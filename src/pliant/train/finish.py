"""After the last epoch: the entries of tiers.json."""

from typing import Any

from pliant.adaptive.cost import cost
from pliant.adaptive.network import AdaptiveNetwork


def tier_entries(
    network: AdaptiveNetwork, *, input_shape: tuple[int, int, int, int]
) -> list[dict[str, Any]]:
    """Name, configuration, cost and calibration of every tier, cheapest first.

    Args:
        network: Calibrated for every tier.
        input_shape: Batch of one, as the network takes it in use; of a PipeNet a whole frame.
    """
    entries = []
    for name, tier in network.tiers.items():
        spent = cost(network, tier.configuration, input_shape)
        entries.append(
            {
                "tier": name,
                "configuration": str(tier.configuration),
                "macs": spent.macs,
                "params": spent.params,
                "size_bytes": spent.size_bytes,
                "calibrated": tier.to_json(),
            }
        )
    return sorted(entries, key=lambda entry: entry["macs"])
