"""Make a set to try own images on: drawings of the same things by several vendors.

    npm pack emoji-datasource@16.0.0 emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0
    python -m benchmarks.emoji --packages . --out emoji

writes `emoji/<vendor>/<class>/<code>.png`: 14 classes, 64 x 64 pixels, transparent as shipped, the
same things for every vendor. The packages bring their own licences; nothing of them is part of this
project.
"""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

MOST = {"flag": 80, "face": 80, "person": 80}
"""Classes of which so many are taken, evenly spaced."""
NOT_VEHICLES = frozenset(
    "busstop construction fuelpump motorway octagonal_sign oil_drum railway_track rotating_light "
    "station traffic_light vertical_traffic_light wheel".split()
)
EXACT = {
    "food-fruit": "fruit",
    "food-vegetable": "fruit",
    "drink": "drink",
    "clothing": "clothing",
    "place-building": "building",
    "place-religious": "building",
    "country-flag": "flag",
    "person-role": "person",
    "sport": "sports_equipment",
    "heart": "heart",
}
STARTS = {
    "animal-": "animal",
    "plant-": "plant",
    "transport-": "vehicle",
    "face-": "face",
    "hand-": "hand_gesture",
}


def class_of(entry: dict[str, Any]) -> str | None:
    """Return the class of an entry of `emoji.json`, or None where it has none."""
    name, group = entry["short_name"], entry["subcategory"]
    if group == "time":
        return "clock" if "clock" in name else None
    if group == "transport-sign" or name in NOT_VEHICLES:
        return None
    starts = (label for start, label in STARTS.items() if group.startswith(start))
    return EXACT.get(group) or next(starts, None)


def chosen(entries: list[dict[str, Any]], vendors: list[str]) -> Iterator[tuple[str, str]]:
    """Yield class and file name of what every vendor has drawn."""
    by_class: dict[str, list[str]] = {}
    for entry in sorted(entries, key=lambda e: int(e["sort_order"])):
        name = class_of(entry)
        if name and all(entry.get(f"has_img_{vendor}") for vendor in vendors):
            by_class.setdefault(name, []).append(entry["image"])
    for name, images in sorted(by_class.items()):
        limit = min(MOST.get(name, len(images)), len(images))
        yield from ((name, images[i * len(images) // limit]) for i in range(limit))


@click.command()
@click.option("--packages", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--vendor", "vendors", multiple=True, default=("google", "twitter"))
def main(packages: Path, out: Path, vendors: tuple[str, ...]) -> None:
    """Write the images of the vendors' packages as domains and classes."""
    with tarfile.open(next(packages.glob("emoji-datasource-[0-9]*.tgz"))) as archive:
        listed = archive.extractfile("package/emoji.json")
        assert listed is not None
        images = list(chosen(json.load(listed), list(vendors)))
    for vendor in vendors:
        with tarfile.open(next(packages.glob(f"emoji-datasource-{vendor}-*.tgz"))) as archive:
            for name, image in images:
                file = archive.extractfile(f"package/img/{vendor}/64/{image}")
                assert file is not None
                path = out / vendor / name / image
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(file.read())
    for name, count in sorted(Counter(name for name, _ in images).items()):
        click.echo(f"{name:<18}{count}")
    click.echo(f"{len(images)} images of {len(vendors)} vendors in {out}")


if __name__ == "__main__":
    main()
