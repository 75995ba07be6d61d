//! The command line against an API server that says what it is told to: output, messages and exit codes, as kubectl's.
//!
//! Each case is a command, what the server answers to which request, and what must be printed. Requests that no answer is
//! given for are 404, so a case also shows what a command asks.

mod server;

use serde_json::{Value, json};
use server::{Answer, Server};

/// What a command printed, and with which code it ended.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    stdout: String,
    stderr: String,
    code: i32,
}

fn kctl(server: &Server, line: &str) -> Outcome {
    let words = line.split_whitespace();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_kctl"))
        .args(words)
        .env_clear()
        .env("HOME", server.home())
        .env("KUBECONFIG", server.kubeconfig())
        .env("TZ", "UTC")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Outcome { stdout: text(&output.stdout), stderr: text(&output.stderr), code: output.status.code().unwrap() }
}

#[track_caller]
fn check(line: &str, answers: Vec<Answer>, stdout: &str, stderr: &str, code: i32) {
    let server = Server::start(answers);
    let got = kctl(&server, line);
    let want = Outcome { stdout: stdout.into(), stderr: stderr.into(), code };
    assert_eq!(got, want, "kctl {line}\nasked: {:#?}", server.requests());
}

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "resourceVersion": "5", "labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}})
}

fn list(items: Vec<Value>) -> Value {
    json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "9"}, "items": items})
}

fn table(names: &[&str], next: &str) -> Value {
    let rows: Vec<Value> = names
        .iter()
        .map(|name| json!({"cells": [name, "1/1", "5m"], "object": {"metadata": {"name": name, "namespace": "default"}}}))
        .collect();
    json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "Table", "metadata": {"continue": next},
        "columnDefinitions": [
            {"name": "Name", "type": "string", "format": "name", "priority": 0},
            {"name": "Ready", "type": "string", "priority": 0},
            {"name": "Age", "type": "string", "priority": 0},
        ],
        "rows": rows,
    })
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": code})
}

const PODS: &str = "/api/v1/namespaces/default/pods";

#[test]
fn get_prints_tables_and_loses_no_page() {
    check(
        "get pods",
        vec![
            Answer::ok("GET", &format!("{PODS}?limit=500"), table(&["a", "a-longer-name"], "next")),
            Answer::ok("GET", &format!("{PODS}?limit=500&continue=next"), table(&["z"], "")),
        ],
        "NAME            READY   AGE\na               1/1     5m\na-longer-name   1/1     5m\nz               1/1     5m\n",
        "",
        0,
    );
}

#[test]
fn get_prints_whole_objects() {
    check("get pod a -o name", vec![Answer::ok("GET", &format!("{PODS}/a"), pod("a"))], "pod/a\n", "", 0);
    check(
        "get po -o jsonpath={.items[*].metadata.name}",
        vec![Answer::ok("GET", &format!("{PODS}?limit=500"), list(vec![pod("a"), pod("b")]))],
        "a b",
        "",
        0,
    );
    check(
        "get pod a -o custom-columns=NAME:.metadata.name,APP:.metadata.labels.app",
        vec![Answer::ok("GET", &format!("{PODS}/a"), pod("a"))],
        "NAME   APP\na      web\n",
        "",
        0,
    );
    check(
        "get pod a -o yaml",
        vec![Answer::ok("GET", &format!("{PODS}/a"), pod("a"))],
        "apiVersion: v1\nkind: Pod\nmetadata:\n  labels:\n    app: web\n  name: a\n  namespace: default\n  resourceVersion: \"5\"\nspec:\n  containers:\n  - name: c\n",
        "",
        0,
    );
}

#[test]
fn what_is_not_there() {
    let missing = status(404, "NotFound", "pods \"x\" not found");
    let answer = || vec![Answer::new("GET", &format!("{PODS}/x"), 404, missing.clone())];
    check("get pod x", answer(), "", "Error from server (NotFound): pods \"x\" not found\n", 1);
    check("get pod x --ignore-not-found", answer(), "", "", 0);
    check(
        "get pods",
        vec![Answer::ok("GET", &format!("{PODS}?limit=500"), table(&[], ""))],
        "",
        "No resources found in default namespace.\n",
        0,
    );
    check("get nothing", vec![], "", "error: the server doesn't have a resource type \"nothing\"\n", 1);
}

#[test]
fn delete_says_what_and_waits() {
    let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "details": {"uid": "u1"}});
    check(
        "delete pod a",
        vec![
            Answer::ok("DELETE", &format!("{PODS}/a"), gone),
            Answer::ok("GET", &format!("{PODS}?fieldSelector=metadata.name%3Da"), list(vec![])),
        ],
        "pod \"a\" deleted from default namespace\n",
        "",
        0,
    );
    check("delete pod a --dry-run=client", vec![], "pod \"a\" deleted from default namespace (dry run)\n", "", 0);
}

#[test]
fn changes() {
    let patched = || Answer::ok("PATCH", &format!("{PODS}/a?fieldManager=kctl-label"), pod("a"));
    let get = || Answer::ok("GET", &format!("{PODS}/a"), pod("a"));
    check("label pod a tier=front", vec![get(), patched()], "pod/a labeled\n", "", 0);
    check("label pod a app-", vec![get(), patched()], "pod/a unlabeled\n", "", 0);
    check("label pod a app=other", vec![get()], "", "error: 'app' already has a value (web), and --overwrite is false\n", 1);
    check("annotate pod a x=y --dry-run=client", vec![get()], "pod/a annotated (dry run)\n", "", 0);
}

#[test]
fn apply_creates_and_changes() {
    let server = Server::start(vec![]);
    let file = server.home().join("pod.yaml");
    std::fs::write(&file, "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n").unwrap();
    let line = format!("apply -f {}", file.display());
    let query = "fieldManager=kubectl-client-side-apply&fieldValidation=Strict";
    let path = format!("{PODS}/a?{query}");
    check(&line, vec![Answer::ok("POST", &format!("{PODS}?{query}"), pod("a"))], "pod/a created\n", "", 0);
    let applied = |text: &str| {
        let mut pod = pod("a");
        pod["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": text});
        Answer::ok("GET", &format!("{PODS}/a"), pod)
    };
    let last =
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"annotations\":{},\"name\":\"a\",\"namespace\":\"default\"}}\n";
    check(&line, vec![applied(last)], "pod/a unchanged\n", "", 0);
    let patched = || Answer::ok("PATCH", &path, pod("a"));
    check(&line, vec![applied("{\"metadata\":{\"labels\":{\"app\":\"web\"}}}"), patched()], "pod/a configured\n", "", 0);
    let warning = "Warning: resource pods/a is missing the kubectl.kubernetes.io/last-applied-configuration annotation which is \
        required by kctl apply. kctl apply should only be used on resources created declaratively by either kctl create \
        --save-config or kctl apply. The missing annotation will be patched automatically.\n";
    check(&line, vec![Answer::ok("GET", &format!("{PODS}/a"), pod("a")), patched()], "pod/a configured\n", warning, 0);
    let invalid = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 422, "message": "Pod \"a\" is invalid",
        "details": {"kind": "Pod", "name": "a", "causes": [
            {"field": "spec.containers", "message": "Required value"}, {"field": "spec.x", "message": "Invalid value: 1"},
        ]},
    });
    check(
        &line,
        vec![Answer::new("POST", &format!("{PODS}?{query}"), 422, invalid)],
        "",
        "The Pod \"a\" is invalid: \n* spec.containers: Required value\n* spec.x: Invalid value: 1\n",
        1,
    );
}

#[test]
fn create_prints_without_asking_the_server() {
    check(
        "create deployment web --image=nginx --replicas=3 --dry-run=client -o yaml",
        vec![],
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  labels:\n    app: web\n  name: web\nspec:\n  replicas: 3\n  selector:\n    matchLabels:\n      app: web\n  strategy: {}\n  template:\n    metadata:\n      labels:\n        app: web\n    spec:\n      containers:\n      - image: nginx\n        name: nginx\n        resources: {}\nstatus: {}\n",
        "",
        0,
    );
}

#[test]
fn a_server_that_is_away() {
    let server = Server::start(vec![]);
    let address = server.address();
    let config = std::fs::read_to_string(server.kubeconfig()).unwrap();
    let config = config.replace("\"certificate-authority\":\"ca.crt\"", "\"insecure-skip-tls-verify\":true");
    let home = server.home().to_owned();
    drop(server);
    std::fs::create_dir_all(&home).unwrap();
    let file = home.join("config");
    std::fs::write(&file, config).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_kctl"))
        .args(["get", "--raw", "/version", "--kubeconfig"])
        .arg(&file)
        .env_clear()
        .env("HOME", &home)
        .output()
        .unwrap();
    let message = format!("The connection to the server {address} was refused - did you specify the right host or port?\n");
    assert_eq!((String::from_utf8_lossy(&output.stderr).as_ref(), output.status.code()), (message.as_str(), Some(1)));
    std::fs::remove_dir_all(&home).unwrap();
}

#[test]
fn a_watch_shows_changes_though_columns_are_named_once() {
    let mut first = table(&["a"], "");
    first["metadata"]["resourceVersion"] = "7".into();
    let mut later = table(&["a-with-a-long-name"], "");
    later["columnDefinitions"] = json!(null);
    let events =
        format!("{}\n{}\n", json!({"type": "ADDED", "object": table(&["b"], "")}), json!({"type": "MODIFIED", "object": later}));
    let path = format!("{PODS}?watch=true&allowWatchBookmarks=true&resourceVersion=7");
    // When the watch ends it is opened again; that it is not there ends the command.
    check(
        "get pods -w",
        vec![Answer::ok("GET", PODS, first), Answer::once("GET", &path, events)],
        "NAME   READY   AGE\na      1/1     5m\nb      1/1     5m\na-with-a-long-name   1/1     5m\n",
        &format!("Error from server (NotFound): no answer to GET {path}\n"),
        1,
    );
}

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    let server = Server::start(vec![Answer::ok("GET", &format!("{PODS}?limit=500"), table(&["a"], ""))]);
    for line in ["get pods", "create deployment web --image=x --dry-run=client -o yaml", "completion bash", "options"] {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_kctl"))
            .args(line.split_whitespace())
            .env_clear()
            .env("HOME", server.home())
            .env("KUBECONFIG", server.kubeconfig())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((String::from_utf8_lossy(&output.stderr).as_ref(), output.status.code()), ("", Some(0)), "{line}");
    }
}

#[test]
fn credential_plugins_are_asked() {
    let server = Server::start(vec![Answer::ok("GET", &format!("{PODS}/a"), pod("a"))]);
    let plugin = server.home().join("plugin");
    let run = |answer: &str| {
        std::fs::write(&plugin, format!("#!/bin/sh\necho '{answer}'\n")).unwrap();
        std::fs::set_permissions(&plugin, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(server.kubeconfig()).unwrap()).unwrap();
        let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": plugin, "interactiveMode": "Never"});
        config["users"][0]["user"] = json!({"exec": exec});
        let file = server.home().join("with-plugin");
        std::fs::write(&file, config.to_string()).unwrap();
        kctl(&server, &format!("get pod a -o name --kubeconfig={}", file.display()))
    };
    let answer =
        |status: Value| json!({"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "status": status});
    let got = run(&answer(json!({"token": "t"})).to_string());
    assert_eq!(got, Outcome { stdout: "pod/a\n".into(), stderr: String::new(), code: 0 });
    let got = run(&answer(json!({})).to_string());
    let stderr =
        "Unable to connect to the server: getting credentials: exec plugin didn't return a token or cert/key pair\n".into();
    assert_eq!(got, Outcome { stdout: String::new(), stderr, code: 1 });
}
