"""A network as text: its layers, its totals, and what its paper prints."""

from collections.abc import Mapping

from classicnets.report.progress import aligned

LAYERS = ("layer", "type", "output", "repeat", "parameters", "multiply-adds", "activations", "field", "stride")
PRINTED = ("printed in", "of", "", "printed", "counted", "")
QUANTITIES = {"parameters": "parameters", "macs": "multiply-adds", "outputs": "outputs"}


def description(found: Mapping) -> str:
    """The text of what `classicnets describe --json` gives."""
    layers = [
        (
            layer["name"],
            layer["type"],
            "x".join(map(str, layer["output"])),
            *(f"{layer[key]:,}" if layer[key] else "" for key in ("repeat", "parameters", "macs")),
            f"{layer['activation_bytes'] / 1024:,.1f} KiB",
            *(str(layer[key] or "") for key in ("receptive_field", "stride")),
        )
        for layer in found["layers"]
    ]
    lines = [
        *aligned(LAYERS, layers, left=3),
        f"parameters: {found['parameters']:,}",
        f"multiply-adds: {found['macs']:,}",
        f"activations of one image in training: {found['activation_bytes'] / 2**20:,.2f} MiB",
        f"source: {found['source']}",
    ]
    if found["note"]:
        lines.append(f"note: {found['note']}")
    if found["printed"]:
        printed = [
            (
                row["where"],
                ", ".join(row["layers"]) or "the network",
                QUANTITIES[row["quantity"]],
                row["printed"],
                f"{row['counted']:,}",
                row["verdict"] + (f": {row['why']}" if row["why"] else ""),
            )
            for row in found["printed"]
        ]
        lines += ["", *aligned(PRINTED, printed, left=3)]
    return "\n".join(lines)
