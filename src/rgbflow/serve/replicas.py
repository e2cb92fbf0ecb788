"""The service on a Ray cluster: replicas of its application behind Ray Serve. docs/serve.md."""

from pathlib import Path

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve

from rgbflow.recognizer import Recognizer
from rgbflow.serve.access import Access, check_origin, read_token
from rgbflow.serve.app import create_app
from rgbflow.serve.limits import Limits
from rgbflow.serve.service import Networks, Service
from rgbflow.stream import EngineName, EnginePrecision

OTHER_REQUESTS = 32  # that a replica with all its sessions still answers, such as /health
HEALTH_SECONDS = 2.0  # how often Ray looks whether a replica lives
ENDING_SECONDS = 5.0  # that sessions have before a replica ends: clients reconnect, so none has to be waited for


class Replicas(BaseModel):
    """The arguments of `application`.

    Attributes:
        bundle: folder or Hugging Face Hub id, the same on every machine.
        replicas: number of replicas.
        cores: of each replica.
        gpus: of each replica.
        token_file: as for `rgbflow serve`, the same on every machine.
        origin: origins of other pages that may use the service.
        max_sessions: the most live sessions of a replica.
        device: as for `rgbflow serve`.
        engine: as for `rgbflow serve`.
        precision: as for `rgbflow serve`.
    """

    model_config = ConfigDict(extra="forbid")

    bundle: str
    replicas: int = Field(2, ge=1)
    cores: float = Field(1, gt=0)
    gpus: float = Field(0, ge=0)
    token_file: Path | None = None
    origin: tuple[str, ...] = ()
    max_sessions: int = Field(64, ge=1)
    device: str = "auto"
    engine: EngineName = "auto"
    precision: EnginePrecision = "auto"


def application(given: Replicas) -> serve.Application:
    """The application that `serve run rgbflow.serve.replicas:application` runs.

    Ray Serve gives a new session to the replica with fewer of them. Nothing can be taught: each replica has networks of
    its own, and a fit would reach only one of them.
    """

    def build() -> FastAPI:
        return replica(given)

    options = {"num_cpus": given.cores, "num_gpus": given.gpus}
    deploy = serve.deployment(
        name="rgbflow",
        num_replicas=given.replicas,
        ray_actor_options=options,
        max_ongoing_requests=given.max_sessions + OTHER_REQUESTS,
        health_check_period_s=HEALTH_SECONDS,
        graceful_shutdown_timeout_s=ENDING_SECONDS,
    )
    return deploy(serve.ingress(build)()).bind()


def replica(given: Replicas) -> FastAPI:
    """The application of one replica.

    Raises:
        InputError: if the bundle, the token's file or an origin can't be used.
    """
    access = Access(read_token(given.token_file) if given.token_file else None, tuple(map(check_origin, given.origin)))
    recognizer = Recognizer.load(given.bundle, given.device, given.engine, precision=given.precision)
    networks = Networks(recognizer, given.bundle, "given")
    return create_app(Service(networks, Limits(sessions=given.max_sessions)), access)
