"""A recogniser that has learned no action of its user yet: networks with the weights of rgbflow, ready to be taught."""

from dataclasses import replace

from rgbflow.bundle import Bundle
from rgbflow.learn.config import TrainConfig
from rgbflow.learn.spec import form_of_input
from rgbflow.networks.stream_net import StreamNet
from rgbflow.networks.torch_engine import TorchEngine
from rgbflow.networks.weights import MOTION, initialise
from rgbflow.recognizer import Recognizer
from rgbflow.stream import STREAMS, FlowSettings, Preparation, Stream, StreamSpec

IMAGENET = "imagenet"  # the name that stands for such a recogniser
# Chosen on three sets, with what else was tried: docs/results/teach.md.
BACKBONE, INPUT_SIZE, STACK_LENGTH, BOUND, FLOW_STD = "tf_efficientnet_lite0", 192, 10, 10.0, 0.05
FRAME_RATE = 25.0  # frames per second that `live` takes for granted before a take says another


def imagenet_start(device: str = "auto") -> Recognizer:
    """Networks of both streams with the weights that are installed with rgbflow; their classifiers say nothing yet.

    The rgb network knows images, the flow network motions of synthetic people (docs/results/motion.md).
    Frames are squeezed to squares that are seen whole: people do not stay in the centre of a picture.

    Raises:
        InputError: if the weights are missing from the installation and can't be fetched.
    """
    preparation = Preparation(256, FlowSettings(bound=BOUND), square=True)
    specs, networks = {}, {}
    for stream in STREAMS:
        specs[stream] = start_spec(stream)
        networks[stream] = StreamNet(specs[stream], 1)
        initialise(networks[stream], specs[stream], MOTION)
    split = {"protocol": "none", "seed": 0, "leak_percent": 0.0, "sha256": ""}
    bundle = Bundle(("nothing",), preparation, specs, split, licence="Apache-2.0", frames_per_second=FRAME_RATE)
    return Recognizer(bundle, TorchEngine(specs, networks, device))


def start_spec(stream: Stream) -> StreamSpec:
    """The record of a stream: its frames are seen whole, its flow at a scale that is fixed."""
    config = TrainConfig(
        backbone=BACKBONE,
        input_size=INPUT_SIZE,
        stack_length=STACK_LENGTH,
        crop_fraction=1.0,
        subtract_mean_flow=True,
    )
    spec = form_of_input(stream, config)
    return spec if stream == "rgb" else replace(spec, std=(FLOW_STD, FLOW_STD))
