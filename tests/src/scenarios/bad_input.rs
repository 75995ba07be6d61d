//! Bad input: each answer is a `Status` with the right code, nothing is stored, nothing leaks.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use client::kubeconfig::{Kubeconfig, User};
use client::{Client, Config};
use http::{Method, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::world::World;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";

pub(super) fn run(world: &World) -> Result<()> {
    daemon::install_crypto();
    let kubeconfig = world.kubeconfig()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let admin = Client::from_kubeconfig(&kubeconfig)?;
        let before = names(&admin).await?;
        bodies(&admin).await.context("bodies")?;
        ensure!(names(&admin).await? == before, "something was stored");
        unknown_fields(&admin).await.context("unknown fields")?;
        credentials(&admin, &kubeconfig).await.context("credentials")
    })?;
    manifests(world).context("kctl apply")
}

struct Answer {
    code: u16,
    warnings: Vec<String>,
    body: Value,
}

async fn ask(client: &Client, method: Method, path: &str, kind: &str, body: impl Into<Bytes>) -> Result<Answer> {
    let request =
        Request::builder().method(method).uri(path).header("content-type", kind).header("accept", JSON).body(body.into())?;
    let exchange = async {
        let response = client.raw(request).await?;
        let code = response.status().as_u16();
        let warnings =
            response.headers().get_all("warning").iter().map(|w| String::from_utf8_lossy(w.as_bytes()).into_owned()).collect();
        let bytes = response.into_body().collect().await.map_err(|e| anyhow::anyhow!(e))?.to_bytes();
        let body = serde_json::from_slice(&bytes)
            .with_context(|| format!("{code} without JSON: {}", String::from_utf8_lossy(&bytes)))?;
        anyhow::Ok(Answer { code, warnings, body })
    };
    tokio::time::timeout(Duration::from_secs(30), exchange).await.context("no answer")?
}

async fn names(client: &Client) -> Result<Vec<String>> {
    let list = client.get_value(MAPS).await?;
    let items = list["items"].as_array().context("items")?;
    Ok(items.iter().filter_map(|i| i["metadata"]["name"].as_str().map(str::to_owned)).collect())
}

fn refusal(what: &str, answer: &Answer, code: u16) -> Result<()> {
    ensure!(answer.code == code, "{what}: {} instead of {code}: {}", answer.code, answer.body);
    ensure!(answer.body["kind"] == "Status" && answer.body["code"] == code, "{what} is no Status: {}", answer.body);
    ensure!(answer.body["message"].as_str().is_some_and(|m| !m.is_empty()), "{what} has no message");
    Ok(())
}

async fn bodies(admin: &Client) -> Result<()> {
    let large = json!({"metadata": {"name": "large"}, "data": {"a": "x".repeat(4 << 20)}}).to_string();
    let deep = format!("{{\"metadata\":{{\"name\":\"deep\"}},\"data\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let mut bomb = "metadata: {name: bomb}\na0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for i in 1..12 {
        let alias = format!("*a{},", i - 1).repeat(10);
        bomb.push_str(&format!("a{i}: &a{i} [{}]\n", alias.trim_end_matches(',')));
    }
    for (what, kind, body, code) in [
        ("malformed JSON", JSON, r#"{"metadata": {"name": "a",,}}"#.to_owned(), 400),
        ("JSON cut off", JSON, r#"{"metadata": {"name""#.to_owned(), 400),
        ("an array", JSON, "[]".to_owned(), 400),
        ("malformed YAML", YAML, "metadata: {name: a\ndata: ]".to_owned(), 400),
        ("another kind", JSON, r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"}}"#.to_owned(), 400),
        ("a string where a map must be", JSON, r#"{"metadata":{"name":"a"},"data":"x"}"#.to_owned(), 400),
        ("deep nesting", JSON, deep, 400),
        ("an alias bomb", YAML, bomb, 400),
        ("an unknown content type", "text/plain", "hello".to_owned(), 415),
        ("a body over the limit", JSON, large, 413),
        ("a name that is none", JSON, r#"{"metadata":{"name":"Not_A_Name"}}"#.to_owned(), 422),
        ("no name", JSON, r#"{"metadata":{}}"#.to_owned(), 422),
    ] {
        refusal(what, &ask(admin, Method::POST, MAPS, kind, body).await.context(what)?, code)?;
    }
    for (what, method, path, code) in [
        ("no such object", Method::GET, "/api/v1/namespaces/default/configmaps/none", 404),
        ("no such resource", Method::GET, "/apis/apps/v1/namespaces/default/nothings", 404),
        ("a verb that is not served", Method::PUT, MAPS, 405),
        ("a wrong selector", Method::GET, "/api/v1/pods?labelSelector=a%20in%20(", 400),
        ("a wrong continue token", Method::GET, "/api/v1/pods?limit=1&continue=nonsense", 400),
        ("a namespace that is not there", Method::POST, "/api/v1/namespaces/none/configmaps", 404),
    ] {
        let body = if method == Method::GET { "" } else { r#"{"metadata":{"name":"a"}}"# };
        let answer = ask(admin, method, path, JSON, body).await.context(what);
        // Paths that lead nowhere are answered in plain text, as upstream does; clients go by the code.
        match answer {
            Ok(answer) => refusal(what, &answer, code)?,
            Err(error) => ensure!(format!("{error:#}").contains(&format!("{code} without JSON")), "{what}: {error:#}"),
        }
    }
    Ok(())
}

async fn unknown_fields(admin: &Client) -> Result<()> {
    let body = r#"{"metadata":{"name":"strict"},"data":{},"color":"red"}"#;
    let strict = ask(admin, Method::POST, &format!("{MAPS}?fieldValidation=Strict"), JSON, body).await?;
    refusal("an unknown field, strictly", &strict, 400)?;
    ensure!(strict.body["message"].as_str().is_some_and(|m| m.contains("unknown field \"color\"")), "{}", strict.body);
    let warned = ask(admin, Method::POST, &format!("{MAPS}?fieldValidation=Warn"), JSON, body).await?;
    ensure!(
        warned.code == 201 && warned.warnings.iter().any(|w| w.contains(r#"unknown field \"color\""#)),
        "{:?}",
        warned.warnings
    );
    ensure!(warned.body.get("color").is_none(), "an unknown field was stored");
    ask(admin, Method::DELETE, &format!("{MAPS}/strict"), JSON, "").await?;
    Ok(())
}

/// A client of the same server with another bearer token.
fn with_token(kubeconfig: &Path, token: &str) -> Result<Client> {
    let loaded = Kubeconfig::read(kubeconfig)?;
    let (cluster, _, _) = loaded.select(None)?;
    Ok(Client::new(Config::new(cluster, &User { token: Some(token.to_owned()), ..User::default() })?))
}

async fn credentials(admin: &Client, kubeconfig: &Path) -> Result<()> {
    // A real token whose payload was changed, one of another authority, and plain nonsense.
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}});
    let answer = admin.post_value("/api/v1/namespaces/default/serviceaccounts/default/token", &request).await?;
    let token = answer["status"]["token"].as_str().context("a token")?.to_owned();
    let parts: Vec<&str> = token.split('.').collect();
    ensure!(parts.len() == 3, "a JWT has three parts");
    let foreign = format!("{}.{}.{}", parts[0], parts[1], "A".repeat(parts[2].len()));
    for (what, token) in [("a forged signature", foreign.as_str()), ("nonsense", "nonsense")] {
        let answer = ask(&with_token(kubeconfig, token)?, Method::GET, MAPS, JSON, "").await.context(what)?;
        refusal(what, &answer, 401)?;
        ensure!(!answer.body.to_string().contains(token), "{what}: the answer repeats the token");
    }
    let account = with_token(kubeconfig, &token)?;
    let secrets = ask(&account, Method::GET, "/api/v1/namespaces/kube-system/secrets", JSON, "").await?;
    refusal("another namespace's secrets", &secrets, 403)?;
    let message = secrets.body["message"].as_str().unwrap_or_default();
    ensure!(message.contains("User \"system:serviceaccount:default:default\" cannot list resource \"secrets\""), "{message}");
    // A name that exists and one that does not are refused alike.
    let known = ask(&account, Method::GET, "/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt", JSON, "").await?;
    let unknown = ask(&account, Method::GET, "/api/v1/namespaces/kube-system/configmaps/none", JSON, "").await?;
    refusal("an object that exists", &known, 403)?;
    refusal("an object that does not", &unknown, 403)
}

fn manifests(world: &World) -> Result<()> {
    for (what, manifest, parts) in [
        ("malformed YAML", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n data: {", &["line"] as &[&str]),
        ("an unknown field", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ncolor: red\n", &["color"]),
        ("a kind that is not there", "apiVersion: v1\nkind: Nothing\nmetadata: {name: a}\n", &["Nothing"]),
    ] {
        let text = format!("cat > /tmp/bad.yaml <<'EOF'\n{manifest}\nEOF\nkctl apply -f /tmp/bad.yaml");
        let output = world.host_output(&["sh", "-c", &text])?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(1), "{what}: {} {error}", output.status);
        for part in parts {
            ensure!(error.contains(part), "{what} does not name {part}: {error}");
        }
    }
    Ok(())
}
