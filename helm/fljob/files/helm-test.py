"""What `helm test` runs: make a job of two workers, see it to its end, and remove it. Only the standard library."""  # noqa: INP001 - a script

from __future__ import annotations

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PAUSE_SECONDS = 2.0
REQUEST_SECONDS = 30.0
NOT_FOUND = 404


def ask(method: str, path: str, body: Any = None) -> Any:  # noqa: ANN401 - a JSON document
    """The API server's answer; None where there is no such object. Raises HTTPError for every other refusal."""
    request = urllib.request.Request(
        f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}",
            "Content-Type": "application/json",
        },
        method=method,
    )
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    try:
        with urllib.request.urlopen(request, timeout=REQUEST_SECONDS, context=context) as answer:  # noqa: S310 - the same
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == NOT_FOUND:
            return None
        raise SystemExit(f"{method} {path}: {error.code} {error.read().decode()[:1000]}") from error


def ended(job: Any) -> bool | None:  # noqa: ANN401 - an FLJob
    """Whether the job is complete; None while it goes on."""
    true = {one["type"] for one in job.get("status", {}).get("conditions", ()) if one["status"] == "True"}
    if "Complete" in true:
        return True
    return False if "Failed" in true else None


def line(job: Any) -> str:  # noqa: ANN401 - an FLJob
    """The job as `kubectl get` shows it."""
    shown = job.get("status", {}).get("display", {})
    return "  ".join(f"{name}={shown.get(name, '-')}" for name in ("state", "reason", "round", "metric"))


def remove(place: str, deadline: float) -> None:
    """Remove the job, and wait until it is gone."""
    options = {"propagationPolicy": "Foreground"}
    while ask("DELETE", place, options) is not None and time.monotonic() < deadline:
        time.sleep(PAUSE_SECONDS)


def say(text: str) -> None:
    """A line for `helm test --logs`."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def follow(place: str, deadline: float) -> Any:  # noqa: ANN401 - an FLJob
    """The job as it ended, or as it was when time was up; each change is told."""
    told = ""
    while True:
        job = ask("GET", place)
        if job is None:
            raise SystemExit("the job is gone: somebody removed it")
        if (now := line(job)) != told:
            say(told := now)
        if ended(job) is not None or time.monotonic() > deadline:
            return job
        time.sleep(PAUSE_SECONDS)


def main() -> int:
    """0 when the job completed in time."""
    job = json.loads(os.environ["JOB"])
    name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
    kind = f"/apis/{job['apiVersion']}/namespaces/{namespace}/fljobs"
    deadline = time.monotonic() + float(os.environ["TIMEOUT_SECONDS"])
    remove(f"{kind}/{name}", deadline)
    ask("POST", kind, job)
    last = follow(f"{kind}/{name}", deadline)
    if ended(last):
        remove(f"{kind}/{name}", time.monotonic() + REQUEST_SECONDS)
        return 0
    conditions = last.get("status", {}).get("conditions", "no operator has looked at the job")
    say(f"not complete within {os.environ['TIMEOUT_SECONDS']} s:\n{json.dumps(conditions, indent=2)}")
    say(f"the job is left to be looked at: kubectl describe fljob {name} -n {namespace}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
