"""A network as text: its layers, its totals, and what its paper prints."""

from collections.abc import Mapping

from classicnets.report.text import table

LAYERS = ("layer", "type", "output", "repeat", "parameters", "multiply-adds", "activations", "field", "stride")
PRINTED = ("printed in", "of", "", "printed", "counted", "")
QUANTITIES = {"parameters": "parameters", "macs": "multiply-adds", "outputs": "outputs"}


def description(network: Mapping) -> str:
    """Return the text of what `classicnets describe --json` gives."""
    layers = [
        (
            layer["name"],
            layer["type"],
            "x".join(map(str, layer["output"])),
            *(f"{layer[key]:,}" if layer[key] else "" for key in ("repeat", "parameters", "macs")),
            f"{layer['activation_bytes'] / 1024:,.1f} KiB",
            *(str(layer[key] or "") for key in ("receptive_field", "stride")),
        )
        for layer in network["layers"]
    ]
    lines = [
        *table(LAYERS, layers),
        f"parameters: {network['parameters']:,}",
        f"multiply-adds: {network['macs']:,}",
        f"activations of one image in training: {network['activation_bytes'] / 2**20:,.2f} MiB",
        f"source: {network['source']}",
    ]
    if training := network["training"]:
        process = training["process_bytes"]
        lines.append(
            f"a training step on {training['batch']:,} images: {training['array_bytes'] / 2**20:,.0f} MiB of arrays"
            + (f", {process / 2**20:,.0f} MiB of the process with what it holds now" if process else " on one device")
        )
    if network["note"]:
        lines.append(f"note: {network['note']}")
    if network["printed"]:
        printed = [
            (
                row["where"],
                ", ".join(row["layers"]) or "the network",
                QUANTITIES[row["quantity"]],
                row["printed"],
                f"{row['counted']:,}",
                row["verdict"] + (f": {row['why']}" if row["why"] else ""),
            )
            for row in network["printed"]
        ]
        lines += ["", *table(PRINTED, printed)]
    return "\n".join(lines)
