"""The Python client against the cluster of $KUBECONFIG: objects, every patch type, watch, informer, leader election, exec.

Usage: python_client.py [NAMESPACE POD]   (the pod must have a shell)
       python_client.py --candidate NAME NAMESPACE   (one of those that the leader election starts)
Exits with 1 and names the step that failed.
"""

import logging
import os
import queue
import subprocess
import sys
import threading
import time

from kubernetes import client, config, dynamic, watch
from kubernetes.client.rest import ApiException
from kubernetes.informer import ADDED, DELETED, MODIFIED, SharedInformer
from kubernetes.leaderelection.electionconfig import Config as ElectionConfig
from kubernetes.leaderelection.leaderelection import LeaderElection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock
from kubernetes.stream import stream

NAMESPACE = f"python-{os.getpid()}"
LIMIT_SECONDS = 20
LEASE_SECONDS = 4


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


def refused(code, call):
    try:
        call()
    except ApiException as error:
        expect(error.status == code, f"expected {code}, got {error.status}: {error.body}")
        return
    raise AssertionError(f"expected {code}, but it was accepted")


def config_map(name, value):
    return {"metadata": {"name": name, "labels": {"app": "python"}}, "data": {"key": value}}


def crud(core):
    created = core.create_namespaced_config_map(NAMESPACE, config_map("a", "1"))
    refused(409, lambda: core.create_namespaced_config_map(NAMESPACE, config_map("a", "1")))
    refused(404, lambda: core.read_namespaced_config_map("none", NAMESPACE))
    refused(422, lambda: core.create_namespaced_config_map(NAMESPACE, config_map("Not_A_Name", "1")))
    created.data["key"] = "2"
    replaced = core.replace_namespaced_config_map("a", NAMESPACE, created)
    expect(replaced.data["key"] == "2", "a replaced object")
    refused(409, lambda: core.replace_namespaced_config_map("a", NAMESPACE, created))
    listed = core.list_namespaced_config_map(NAMESPACE, label_selector="app=python")
    expect([m.metadata.name for m in listed.items] == ["a"], "a list by label")
    core.create_namespaced_config_map(NAMESPACE, config_map("gone", "1"))
    core.delete_namespaced_config_map("gone", NAMESPACE)
    refused(404, lambda: core.read_namespaced_config_map("gone", NAMESPACE))


def patches(api):
    maps = dynamic.DynamicClient(api).resources.get(api_version="v1", kind="ConfigMap")
    bodies = {
        "application/strategic-merge-patch+json": {"data": {"key": "strategic"}},
        "application/merge-patch+json": {"data": {"key": "merge"}},
        "application/json-patch+json": [{"op": "replace", "path": "/data/key", "value": "json"}],
    }
    for kind, body in bodies.items():
        patched = maps.patch(name="a", namespace=NAMESPACE, body=body, content_type=kind)
        expect(patched.data.key == kind.split("/")[1].split("-")[0], f"a patch of type {kind}")
    body = {"apiVersion": "v1", "kind": "ConfigMap", **config_map("a", "applied")}
    refused(409, lambda: maps.server_side_apply(body=body, namespace=NAMESPACE, field_manager="python"))
    applied = maps.server_side_apply(body=body, namespace=NAMESPACE, field_manager="python", force_conflicts=True)
    expect(applied.data.key == "applied", "an apply by force")


def until(core, revision, last):
    """What a watch from that revision sees up to that event, and the revision there."""
    seen = []
    watcher = watch.Watch()
    events = watcher.stream(
        core.list_namespaced_config_map, NAMESPACE, resource_version=revision, timeout_seconds=LIMIT_SECONDS
    )
    for event in events:
        seen.append((event["type"], event["object"].metadata.name))
        if seen[-1] == last:
            revision = event["object"].metadata.resource_version
            watcher.stop()
    return seen, revision


def watches(core):
    """A watch, and another one that goes on where it ended."""
    start = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    core.create_namespaced_config_map(NAMESPACE, config_map("w", "1"))
    core.patch_namespaced_config_map("w", NAMESPACE, {"data": {"key": "2"}})
    core.delete_namespaced_config_map("w", NAMESPACE)
    seen, revision = until(core, start, ("MODIFIED", "w"))
    expect(seen == [("ADDED", "w"), ("MODIFIED", "w")], f"a watch saw {seen}")
    seen, _ = until(core, revision, ("DELETED", "w"))
    expect(seen == [("DELETED", "w")], f"a watch that goes on saw {seen}")


def informer(core):
    """The cache sees what is created, changed and deleted after it was filled."""
    maps = SharedInformer(core.list_namespaced_config_map, NAMESPACE, label_selector="app=python")
    events = queue.Queue()
    for kind in (ADDED, MODIFIED, DELETED):
        maps.add_event_handler(kind, lambda found, kind=kind: events.put((kind, found.metadata.name)))
    maps.start()
    expect(events.get(timeout=LIMIT_SECONDS) == (ADDED, "a"), "an informer begins with a list")
    for i in range(3):
        core.create_namespaced_config_map(NAMESPACE, config_map(f"late-{i}", "1"))
    core.patch_namespaced_config_map("late-0", NAMESPACE, {"data": {"key": "2"}})
    core.delete_namespaced_config_map("late-2", NAMESPACE)
    seen = [events.get(timeout=LIMIT_SECONDS) for _ in range(5)]
    expect(seen == [*((ADDED, f"late-{i}") for i in range(3)), (MODIFIED, "late-0"), (DELETED, "late-2")], f"an informer saw {seen}")
    names = sorted(found.metadata.name for found in maps.cache.list())
    expect(names == ["a", "late-0", "late-1"], f"an informer knows {names}")
    expect(maps.cache.get_by_key(f"{NAMESPACE}/late-0").data["key"] == "2", "an informer knows what changed")
    # To stop it closes its connection, and calls that an error.
    logging.getLogger("kubernetes.informer").setLevel(logging.CRITICAL)
    maps.stop()


def candidate(name, namespace):
    """Stands for election until it is killed, and says when it leads."""
    lock = LeaseLock("leader", namespace, name)
    leads = lambda: print("leads", flush=True)
    LeaderElection(ElectionConfig(lock, LEASE_SECONDS, LEASE_SECONDS - 1, 1, leads, None)).run()


def election(core):
    """Two processes on one Lease: one leads; when it dies, the other one does."""
    leading = queue.Queue()

    def stand(name):
        process = subprocess.Popen([sys.executable, "-Wignore", __file__, "--candidate", name, NAMESPACE], stdout=subprocess.PIPE)
        threading.Thread(target=lambda: [leading.put(name) for _ in process.stdout], daemon=True).start()
        return process

    candidates = {name: stand(name) for name in ("one", "two")}
    holder = lambda: client.CoordinationV1Api().read_namespaced_lease("leader", NAMESPACE).spec.holder_identity
    try:
        first = leading.get(timeout=LIMIT_SECONDS)
        expect(holder() == first, f"{first} holds the lease")
        time.sleep(LEASE_SECONDS + 1)
        expect(leading.empty() and holder() == first, "nobody else leads while it renews")
        candidates[first].kill()
        second = leading.get(timeout=LIMIT_SECONDS)
        expect(second != first and holder() == second, f"{second} takes over from {first}")
    finally:
        for process in candidates.values():
            process.kill()
            process.wait()


def discovery(api):
    """The dynamic client finds resources by discovery, and applies on the server."""
    dyn = dynamic.DynamicClient(api)
    deployments = dyn.resources.get(api_version="apps/v1", kind="Deployment")
    expect(deployments.namespaced and "deploy" in deployments.short_names, "discovery of deployments")
    maps = dyn.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", **config_map("applied", "1")}
    applied = maps.server_side_apply(body=body, namespace=NAMESPACE, field_manager="python")
    expect(applied.metadata.managedFields[0].manager == "python", "an apply names its manager")
    body["data"]["key"] = "2"
    refused(409, lambda: maps.server_side_apply(body=body, namespace=NAMESPACE, field_manager="other"))


def execute(core, namespace, pod):
    command = ["sh", "-c", "echo out; echo err >&2; exit 3"]
    process = stream(
        core.connect_get_namespaced_pod_exec, pod, namespace, command=command, stdout=True, stderr=True, _preload_content=False
    )
    process.run_forever(timeout=20)
    expect(process.read_stdout() == "out\n", "stdout of exec")
    expect(process.read_stderr() == "err\n", "stderr of exec")
    expect(process.returncode == 3, f"exit code {process.returncode}")
    core.read_namespaced_pod_log(pod, namespace, tail_lines=1)


def main():
    config.load_kube_config()
    if len(sys.argv) == 4 and sys.argv[1] == "--candidate":
        candidate(sys.argv[2], sys.argv[3])
        return
    core, api = client.CoreV1Api(), client.ApiClient()
    core.create_namespace({"metadata": {"name": NAMESPACE}})
    steps = [
        ("create, list, refusals", lambda: crud(core)),
        ("patches", lambda: patches(api)),
        ("watch", lambda: watches(core)),
        ("informer", lambda: informer(core)),
        ("leader election", lambda: election(core)),
        ("discovery and apply", lambda: discovery(api)),
    ]
    if len(sys.argv) == 3:
        steps.append(("exec and logs", lambda: execute(core, sys.argv[1], sys.argv[2])))
    try:
        for name, step in steps:
            print(f"python: {name}", flush=True)
            step()
    finally:
        core.delete_namespace(NAMESPACE)
    print("python: all steps passed")


if __name__ == "__main__":
    main()
