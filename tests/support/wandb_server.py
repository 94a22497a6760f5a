"""A test double of the W&B server on 127.0.0.1: as much of it as runs, artifacts and sweeps ask for.

W&B's own client talks to it, as it is installed; a question that it does not know is answered with no data.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY = "tester"


@dataclass
class WandbServer:
    """What the server was told.

    Attributes:
        rejects: answers every question with 401, as for a key that it does not know.
        silent: takes requests and never answers, until it is stopped.
        runs: run id -> what it was created with (groupName, jobType, tags, config ...).
        streams: run id -> file -> line number -> line, of history, summary and the like.
        exits: run id -> the exit code with which it ended.
        artifacts: artifact id -> what it was created with, and its state.
        files: path -> content of every file uploaded; those of an artifact begin with its id.
        used: (run id, artifact id) for each artifact declared as an input.
        sweeps: sweep id -> its config, as YAML.
        trials: run id -> settings, of the runs that agents are to be given, one after another.
        proposed: settings of the runs that a scheduler has asked for; with the first of them the sweep is at its end.
    """

    rejects: bool = False
    silent: bool = False
    address: str = ""
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    streams: dict[str, dict[str, dict[int, str]]] = field(default_factory=dict)
    exits: dict[str, int] = field(default_factory=dict)
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    used: list[tuple[str, str]] = field(default_factory=list)
    sweeps: dict[str, str] = field(default_factory=dict)
    trials: dict[str, dict[str, Any]] = field(default_factory=dict)
    proposed: list[dict[str, Any]] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def artifact_id(self, name: str) -> str | None:
        """The id of the committed artifact "name:alias"."""
        collection, _, alias = name.partition(":")
        for key, artifact in self.artifacts.items():
            aliases = {entry["alias"] for entry in artifact["aliases"]}
            if artifact["artifactCollectionName"] == collection and alias in aliases and artifact["committed"]:
                return key
        return None

    def answer(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        """The data that a GraphQL operation gives."""
        match operation:
            case "Viewer" | "GetDefaultEntity":
                user = {"id": "u", "entity": ENTITY, "username": ENTITY, "email": "", "teams": {"edges": []}}
                return {"viewer": user}
            case "UpsertBucket":
                run = self.runs.setdefault(given["name"], {})
                run |= {name: value for name, value in given.items() if value is not None}
                project = {"id": "p", "name": given["project"], "entity": {"id": "e", "name": ENTITY}}
                bucket = {"id": given["name"], "name": given["name"], "displayName": "", "project": project}
                return {"upsertBucket": {"bucket": bucket, "inserted": True}}
            case "CreateRunFiles":
                files = [{"name": name, **self._upload(f"{given['run']}/{name}")} for name in given["files"]]
                return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}
            case "CreateArtifact":
                # as the server does: the same content under the same name is the same version
                names = ("artifactCollectionName", "digest")
                same = [k for k, a in self.artifacts.items() if all(a[name] == given[name] for name in names)]
                key = same[0] if same else f"artifact-{len(self.artifacts)}"
                artifact = self.artifacts.setdefault(key, {**given, "committed": False})
                state = "COMMITTED" if artifact["committed"] else "PENDING"
                return {"createArtifact": {"artifact": {"id": key, "state": state, "artifactSequence": {}}}}
            case "CreateArtifactManifest":
                key = given["artifactID"]
                file = {"id": "f", **self._upload(f"{key}/manifest.json")}
                return {"createArtifactManifest": {"artifactManifest": {"id": key, "file": file}}}
            case "CreateArtifactFiles":
                paths = [(file["artifactID"], file["name"]) for file in given["artifactFiles"]]
                nodes = [
                    {"storagePath": name, "artifact": {"id": k}, **self._upload(f"{k}/{name}")} for k, name in paths
                ]
                return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}
            case "CommitArtifact":
                self.artifacts[given["artifactID"]]["committed"] = True
                return {"commitArtifact": {"artifact": {"id": given["artifactID"], "digest": ""}}}
            case "Run":
                run = self.runs.get(given["name"])
                return {"project": {"run": run and _public_run(given["name"], run)}}
            case "ArtifactMembershipByName":
                key = self.artifact_id(given["name"])
                found = key and _membership(key, self.artifacts[key], given["project"])
                return {"project": {"artifactCollectionMembership": found}}
            case "UseArtifact":
                self.used.append((given["runName"], given["artifactID"]))
                return {"useArtifact": {"artifact": {"id": given["artifactID"]}}}
            case "UpsertSweep":
                name = f"sweep-{len(self.sweeps)}"
                self.sweeps[name] = given["config"]
                project = {"id": "p", "name": given["projectName"], "entity": {"id": "e", "name": ENTITY}}
                return {"upsertSweep": {"sweep": {"name": name, "project": project}, "configValidationWarnings": []}}
            case "SweepWithRuns":
                sweep = {"id": "s", "name": given["sweep"], "config": self.sweeps[given["sweep"]]}
                return {"project": {"sweep": {**sweep, "runs": {"edges": []}}}}
            case "CreateAgent":
                return {"createAgent": {"agent": {"id": "agent"}}}
            case "Heartbeat":
                return {"agentHeartbeat": {"agent": {"id": given["id"]}, "commands": json.dumps(self._commands(given))}}
            case "ServerFeaturesQuery":
                return {"serverInfo": {"features": [{"name": "SWEEPS_LOCAL_SCHEDULER", "isEnabled": True}]}}
            case "SweepConfig" | "SweepRunsWithHistory" | "SweepWatchedRuns":
                runs = {"pageInfo": {"hasNextPage": False, "endCursor": None}, "edges": []}
                sweep = {"id": "s", "config": self.sweeps[given["sweep"]], "controllerRunName": "scheduler"}
                state = "FINISHED" if self.proposed else "RUNNING"
                return {"project": {"sweep": {**sweep, "state": state, "runs": runs}, "runs": runs}}
            case "EnqueueSweepRun":
                settings = {path: setting["value"] for path, setting in json.loads(given["config"]).items()}
                self.proposed.append(settings)
                return {"enqueueSweepRun": {"id": f"proposed-{len(self.proposed)}", "runQueueItemId": "i"}}
        return {}

    def _commands(self, heartbeat: dict[str, Any]) -> list[dict[str, Any]]:
        """What an agent is to do next: nothing while it is at work, then the next run, and in the end to leave."""
        if json.loads(heartbeat["runState"]):
            return []
        if not self.trials:
            return [{"type": "exit"}]
        run_id = next(iter(self.trials))
        settings = {path: {"value": value} for path, value in self.trials.pop(run_id).items()}
        return [{"type": "run", "run_id": run_id, "program": "workbench", "args": settings}]

    def _upload(self, path: str) -> dict[str, Any]:
        return {"uploadUrl": f"{self.address}/put/{path}", "uploadHeaders": []}


def _public_run(run_id: str, run: dict[str, Any]) -> dict[str, Any]:
    """A run as W&B's public API asks for it."""
    empty = {"systemMetrics": "{}", "summaryMetrics": "{}", "user": {"name": ENTITY, "username": ENTITY}}
    return {"id": run_id, "name": run_id, "state": "finished", "config": run["config"], "projectId": "1", **empty}


def _membership(key: str, artifact: dict[str, Any], project_name: str) -> dict[str, Any]:
    """A version of an artifact as W&B's public API asks for it."""
    project = {"id": "p", "internalId": "1", "name": project_name, "entity": {"name": ENTITY}}
    collection = {"__typename": "ArtifactSequence", "name": artifact["artifactCollectionName"], "project": project}
    version = {
        "__typename": "Artifact",
        "id": key,
        "artifactSequence": collection,
        "versionIndex": 0,
        "artifactType": {"name": artifact["artifactTypeName"]},
        "description": None,
        "metadata": artifact["metadata"],
        "ttlDurationSeconds": -1,
        "ttlIsInherited": True,
        "tags": [],
        "historyStep": None,
        "state": "COMMITTED",
        "size": 0,
        "digest": artifact["digest"],
        "commitHash": "",
        "fileCount": 0,
        "createdAt": "2026-01-01T00:00:00",
        "updatedAt": None,
        "aliases": [],
    }
    return {
        "__typename": "ArtifactCollectionMembership",
        "id": f"membership-{key}",
        "versionIndex": 0,
        "createdAt": "2026-01-01T00:00:00",
        "aliases": [],
        "artifactCollection": collection,
        "artifact": version,
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    double: WandbServer

    def _take(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server = self.double
        if server.silent:
            server.stopped.wait()
            return
        if server.rejects:
            self._reply(401, {"errors": [{"message": "user is not logged in"}]})
            return
        answer: dict[str, Any] = {}
        if self.path == "/graphql":
            question = json.loads(body)
            variables = question.get("variables") or {}
            operation = re.search(r"(?:query|mutation)\s+(\w+)", question["query"])
            answer = {"data": server.answer(operation[1] if operation else "", variables.get("input") or variables)}
        elif self.path.endswith("/file_stream"):
            run_id, told = self.path.split("/")[-2], json.loads(body)
            if told.get("complete"):
                server.exits[run_id] = told["exitcode"]
            streams = server.streams.setdefault(run_id, {})
            for name, chunk in told.get("files", {}).items():
                streams.setdefault(name, {}).update(enumerate(chunk["content"], chunk["offset"]))
        elif self.command == "PUT":
            server.files[self.path.removeprefix("/put/")] = body
        self._reply(200, answer)

    do_GET = do_POST = do_PUT = do_HEAD = _take  # noqa: N815

    def _reply(self, code: int, answer: dict[str, Any]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Tests say themselves what they miss."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that leaves while it is answered is no error."""


@contextmanager
def wandb_server(*, rejects: bool = False, silent: bool = False) -> Iterator[WandbServer]:
    """A server for the while, on a port that is free."""
    double = WandbServer(rejects=rejects, silent=silent)
    handler = type("Handler", (_Handler,), {"double": double})
    with _Server(("127.0.0.1", 0), handler) as http:
        double.address = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield double
        finally:
            double.stopped.set()
            http.shutdown()
            thread.join()
