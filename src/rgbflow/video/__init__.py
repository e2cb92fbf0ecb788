"""Files to frames and back, and the store's own format: the only folder that imports the decoder (PyAV, FFmpeg)."""

from rgbflow.video.broadcast import Broadcast
from rgbflow.video.intra import IntraReader, IntraWriter
from rgbflow.video.reading import Frame, VideoError, VideoInfo, count_frames, decode, probe, resample
from rgbflow.video.writing import write_video

__all__ = [
    "Broadcast",
    "Frame",
    "IntraReader",
    "IntraWriter",
    "VideoError",
    "VideoInfo",
    "count_frames",
    "decode",
    "probe",
    "resample",
    "write_video",
]
