"""Bundles of published networks and their classes, made where they are asked for: "kinetics:s3d"."""

from dataclasses import asdict
from pathlib import Path

import torch

from rgbflow.bundle import RECORD, Bundle, fetch_bundle, load_bundle, save_stream, weights_file
from rgbflow.errors import InputError
from rgbflow.networks.families import FAMILIES, family_of
from rgbflow.networks.family import ReadyMade
from rgbflow.networks.stream_net import StreamNet
from rgbflow.networks.weights import SkippedRandomStart, load_published
from rgbflow.origin import describe_origin

KINETICS = "kinetics:"
PROTOCOL = "kinetics-400"  # the train part of the data set


def find_bundle(name: str) -> Path:
    """The folder of a bundle: of a ready-made one by a name such as "kinetics:s3d", of any other see `fetch_bundle`.

    Raises:
        InputError: if there is none, or its weights can't be fetched.
    """
    return _kinetics_bundle(name.removeprefix(KINETICS)) if name.startswith(KINETICS) else fetch_bundle(name)


def _kinetics_bundle(backbone: str) -> Path:
    """The folder of the published network; made once, beside torch's own cache of weights."""
    made = {name: family.ready_made for name, family in FAMILIES.items() if family.ready_made}
    make = made.get(backbone)
    if make is None:
        raise InputError(
            f"{KINETICS}{backbone} is no ready-made bundle: after {KINETICS} write one of {', '.join(made)}"
        )
    form, licence = make(backbone), family_of(backbone).licences["kinetics"]
    folder = Path(torch.hub.get_dir()) / "rgbflow" / f"kinetics-{backbone}"
    bundle = _record(form, licence)
    if not _holds(folder, bundle):
        with SkippedRandomStart():
            network = StreamNet(form.spec, len(form.classes))
        load_published(network, form.spec, "kinetics", form.head)
        save_stream(folder, bundle, "rgb", network.state_dict())
    return folder


def _record(form: ReadyMade, licence: str) -> Bundle:
    return Bundle(
        form.classes,
        form.preparation,
        {"rgb": form.spec},
        split={"protocol": PROTOCOL, "weights": form.source},
        origin={"rgb": {**describe_origin(), "weights": form.source}},
        licence=licence,
        frames_per_second=form.preparation.frame_rate,
    )


def _holds(folder: Path, bundle: Bundle) -> bool:
    """Whether the folder holds this bundle already, whatever made it."""
    if not (folder / RECORD).is_file() or not weights_file(folder, "rgb").is_file():
        return False
    found, wanted = asdict(load_bundle(folder)), asdict(bundle)
    return all(found[name] == wanted[name] for name in ("classes", "preparation", "streams", "split", "licence"))
