"""The Python client against the cluster of $KUBECONFIG: list, watch, every patch type, informer-like resume, exec.

Usage: python_client.py [NAMESPACE POD]   (the pod must have a shell)
Exits with 1 and names the step that failed.
"""

import os
import sys
import threading

from kubernetes import client, config, dynamic, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import stream

NAMESPACE = f"python-{os.getpid()}"


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
    core.create_namespaced_config_map(NAMESPACE, config_map("a", "1"))
    refused(409, lambda: core.create_namespaced_config_map(NAMESPACE, config_map("a", "1")))
    refused(404, lambda: core.read_namespaced_config_map("none", NAMESPACE))
    refused(422, lambda: core.create_namespaced_config_map(NAMESPACE, config_map("Not_A_Name", "1")))
    listed = core.list_namespaced_config_map(NAMESPACE, label_selector="app=python")
    expect([m.metadata.name for m in listed.items] == ["a"], "a list by label")


def patches(core):
    patched = core.patch_namespaced_config_map("a", NAMESPACE, {"data": {"key": "strategic"}})
    expect(patched.data["key"] == "strategic", "the default patch")
    patched = core.patch_namespaced_config_map("a", NAMESPACE, [{"op": "replace", "path": "/data/key", "value": "json"}])
    expect(patched.data["key"] == "json", "a JSON patch")


def watches(core):
    start = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    core.create_namespaced_config_map(NAMESPACE, config_map("w", "1"))
    core.patch_namespaced_config_map("w", NAMESPACE, {"data": {"key": "2"}})
    core.delete_namespaced_config_map("w", NAMESPACE)
    seen = []
    watcher = watch.Watch()
    for event in watcher.stream(core.list_namespaced_config_map, NAMESPACE, resource_version=start, timeout_seconds=20):
        seen.append((event["type"], event["object"].metadata.name))
        if event["type"] == "DELETED":
            watcher.stop()
    expect(seen == [("ADDED", "w"), ("MODIFIED", "w"), ("DELETED", "w")], f"a watch saw {seen}")


def informer(core):
    """List, then watch from the list's revision, while another thread writes: nothing is missed."""
    listed = core.list_namespaced_config_map(NAMESPACE, label_selector="app=python")
    known = {m.metadata.name for m in listed.items}

    def write():
        for i in range(5):
            core.create_namespaced_config_map(NAMESPACE, config_map(f"late-{i}", "1"))

    writer = threading.Thread(target=write)
    writer.start()
    watcher = watch.Watch()
    events = watcher.stream(
        core.list_namespaced_config_map,
        NAMESPACE,
        label_selector="app=python",
        resource_version=listed.metadata.resource_version,
        timeout_seconds=20,
    )
    for event in events:
        known.add(event["object"].metadata.name)
        if len(known) == 6:
            watcher.stop()
    writer.join()
    expect(known == {"a", *(f"late-{i}" for i in range(5))}, f"an informer knows {sorted(known)}")


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
    core, api = client.CoreV1Api(), client.ApiClient()
    core.create_namespace({"metadata": {"name": NAMESPACE}})
    steps = [
        ("create, list, refusals", lambda: crud(core)),
        ("patches", lambda: patches(core)),
        ("watch", lambda: watches(core)),
        ("informer", lambda: informer(core)),
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
