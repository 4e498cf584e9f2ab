"""Flower as a peer: its plain gRPC server and its SuperLink, each with no-op clients."""

import shutil
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.cases import Case, Result
from bench.measuring import Stopped, measure
from bench.memory import Limits
from bench.peers.environment import Environment
from bench.processes import Group

HERE = Path(__file__).parent
FLOWER = Environment(HERE.parent / ".venv-flower", HERE / "requirements.txt")
# Nothing here may wait for a network that is not there.
OFFLINE = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
SUBMIT_SECONDS = 120
CONNECTION = """
[superlink]
default = "bench"

[superlink.bench]
address = "{address}"
insecure = true
"""


@dataclass(frozen=True)
class FlowerGrpc:
    """`start_server` without TLS, one forked process per client; the server is one process."""

    limits: Limits = field(default_factory=Limits)
    name: str = "flower-grpc"

    def measure(self, case: Case) -> Result:
        """Run one case."""
        FLOWER.prepare()
        return measure(_GrpcDeployment(_free_ports(1)[0]), case, self.limits)

    def versions(self) -> dict[str, str]:
        """Name what the figures depend on."""
        return _versions()


@dataclass(frozen=True)
class FlowerSuperLink:
    """SuperLink without TLS and one SuperNode per client, in Flower's default `subprocess` isolation.

    The server is three processes (SuperLink, its SuperExec, the ServerApp); each client is two (SuperNode,
    SuperExec) and one more (ClientApp) while it works. Flower starts all but the first of each itself.
    """

    limits: Limits = field(default_factory=Limits)
    name: str = "flower-superlink"

    def measure(self, case: Case) -> Result:
        """Run one case."""
        FLOWER.prepare()
        superlink, *supernodes = _free_ports(1 + case.clients)
        return measure(_SuperLinkDeployment(superlink, supernodes), case, self.limits)

    def versions(self) -> dict[str, str]:
        """Name what the figures depend on."""
        return _versions()


@dataclass(frozen=True)
class _GrpcDeployment:
    """The programs `flower_server.py` and `flower_clients.py`, which run in Flower's environment."""

    port: int

    def start_servers(self, group: Group, case: Case, events: Path) -> None:
        """Start the one server process."""
        sizes = [str(case.clients), str(case.elements), str(case.rounds)]
        self._start(group, "flower_server.py", [*sizes, str(events)], role="server")

    def start_clients(self, group: Group, case: Case) -> None:
        """Start the process that forks the clients."""
        self._start(group, "flower_clients.py", [str(case.clients)], role="client")

    def remark(self, case: Case, rounds: list[dict[str, Any]]) -> str:
        """Say what Flower's round leaves out."""
        del case, rounds
        return "no TLS, no checkpoint"

    def _start(self, group: Group, program: str, arguments: list[str], *, role: str) -> None:
        python = FLOWER.programs / "python"
        command = [str(python), str(HERE / program), f"127.0.0.1:{self.port}", *arguments]
        variables = FLOWER.variables(**OFFLINE, FLWR_HOME=str(group.folder / role))
        group.start(command, role=role, environment=variables)


@dataclass(frozen=True)
class _SuperLinkDeployment:
    """Flower's own commands and the app in `flower_app/`."""

    port: int
    supernode_ports: list[int]

    @property
    def address(self) -> str:
        """Where the SuperLink listens."""
        return f"127.0.0.1:{self.port}"

    def start_servers(self, group: Group, case: Case, events: Path) -> None:
        """Start the SuperLink and submit the app, whose ServerApp then waits for the SuperNodes."""
        command = ["flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(self.port)]
        offline = ["--disable-runtime-dependency-installation"]
        self._start(group, [*command, *offline], role="server")
        _await_port(self.port, group)
        self._submit(group, case, events)

    def start_clients(self, group: Group, case: Case) -> None:
        """Start one SuperNode per client."""
        assert len(self.supernode_ports) == case.clients
        for port in self.supernode_ports:
            link = ["--superlink", self.address, "--host", "127.0.0.1", "--port", str(port)]
            self._start(group, ["flower-supernode", "--insecure", *link], role=f"client-{port}")

    def remark(self, case: Case, rounds: list[dict[str, Any]]) -> str:
        """Say what Flower's round leaves out."""
        del case, rounds
        return "no TLS, no checkpoint"

    def _submit(self, group: Group, case: Case, events: Path) -> None:
        home = group.folder / "submit"
        home.mkdir()
        (home / "config.toml").write_text(CONNECTION.format(address=self.address))
        # Flower may rewrite the app's folder, so it gets a copy.
        app = shutil.copytree(HERE / "flower_app", group.folder / "app")
        config = f'clients={case.clients} elements={case.elements} rounds={case.rounds} events="{events}"'
        command = ["flwr", "run", str(app), "bench", "--run-config", config]
        self._start(group, command, role="submit")

    def _start(self, group: Group, command: list[str], *, role: str) -> None:
        variables = FLOWER.variables(**OFFLINE, FLWR_HOME=str(group.folder / role))
        group.start([FLOWER.programs / command[0], *command[1:]], role=role, environment=variables)


def _versions() -> dict[str, str]:
    FLOWER.prepare()
    return FLOWER.versions("flwr", "grpcio", "protobuf", "numpy")


def _free_ports(count: int) -> list[int]:
    """Let the kernel name ports nobody uses; all are held until the last is known, so none comes twice."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _await_port(port: int, group: Group) -> None:
    """Wait until something listens, because `flwr run` does not try twice."""
    deadline = time.monotonic() + SUBMIT_SECONDS
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if (failure := group.failure()) is not None:
            raise Stopped(failure)
        time.sleep(0.1)
    raise Stopped(f"nothing listened within {SUBMIT_SECONDS} s")
