//! Credential plugins: programs that a kubeconfig names (`users[].user.exec`, `client.authentication.k8s.io`).

use std::{
    io::IsTerminal,
    process::{Command, Stdio},
};

use client::kubeconfig::{AuthProvider, Cluster, Exec};
use serde_json::{Value, json};

use super::{Error, PluginPolicy, Result, plugin_policy};

const GROUP: &str = "client.authentication.k8s.io";

/// What a plugin answered. No Debug: it holds secrets.
#[derive(PartialEq, Eq)]
pub struct Credentials {
    pub token: Option<String>,
    /// Certificate and key, PEM.
    pub pair: Option<(String, String)>,
}

/// Runs the plugin.
pub fn ask(exec: &Exec, cluster: &Cluster, policy: &PluginPolicy) -> Result<Credentials> {
    let failed = |about: String| Error::Connect(format!("getting credentials: {about}"));
    check_version(exec)?;
    let interactive = interactive(exec, std::io::stdin().is_terminal()).map_err(failed)?;
    policy.check(&exec.command, plugin_policy::look_up).map_err(failed)?;
    let mut command = Command::new(&exec.command);
    command.args(exec.args.iter().flatten());
    command.envs(exec.env.iter().flatten().map(|variable| (&variable.name, &variable.value)));
    command.env("KUBERNETES_EXEC_INFO", question(exec, cluster, interactive).to_string());
    command.stdin(if interactive { Stdio::inherit() } else { Stdio::null() }).stderr(Stdio::inherit());
    let output = command.output().map_err(|error| {
        let hint = exec.install_hint.as_ref().map_or_else(String::new, |hint| format!("\n\n{}\n", hint.trim_end()));
        match error.kind() {
            std::io::ErrorKind::NotFound => {
                let base = format!("exec: executable {} not found", exec.command);
                let general = "\n\nIt looks like you are trying to use a client-go credential plugin that is not installed.\n\n\
                               To learn more about this feature, consult the documentation available at:\n      \
                               https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins";
                failed(format!("{base}{general}{hint}"))
            }
            _ => failed(format!("exec: {error}")),
        }
    })?;
    if !output.status.success() {
        let code = output.status.code().unwrap_or(-1);
        return Err(failed(format!("exec: executable {} failed with exit code {code}", exec.command)));
    }
    let answer = serde_json::from_slice(&output.stdout).map_err(|error| failed(format!("decoding stdout: {error}")))?;
    credentials(&answer, &exec.api_version).map_err(failed)
}

/// Authentication providers left kubectl in 1.26; the message says what took their place.
pub fn refuse_provider(provider: &AuthProvider) -> Error {
    let instead = match provider.name.as_str() {
        "gcp" => "gke-gcloud-auth-plugin",
        "azure" => "kubelogin",
        name => return Error::message(format!("no Auth Provider found for name {name:?}")),
    };
    Error::message(format!(
        "The {} auth plugin has been removed.\nPlease use the {instead:?} kubectl/client-go credential plugin instead.",
        provider.name
    ))
}

fn check_version(exec: &Exec) -> Result<()> {
    let known = ["v1", "v1beta1"].iter().any(|version| exec.api_version == format!("{GROUP}/{version}"));
    if known {
        return Ok(());
    }
    Err(Error::message(format!("exec plugin: invalid apiVersion {:?}", exec.api_version)))
}

/// Whether the plugin may talk with the user.
fn interactive(exec: &Exec, terminal: bool) -> Result<bool, String> {
    match exec.interactive_mode.as_str() {
        "Never" => Ok(false),
        // Version v1beta1 has it as the default; v1 must say it.
        "IfAvailable" => Ok(terminal),
        "" if exec.api_version.ends_with("/v1beta1") => Ok(terminal),
        "Always" if terminal => Ok(true),
        "Always" => Err("exec plugin cannot support interactive mode: standard input is not a terminal".into()),
        other => Err(format!("exec plugin cannot support interactive mode: unknown interactiveMode: {other:?}")),
    }
}

/// What the plugin is told.
fn question(exec: &Exec, cluster: &Cluster, interactive: bool) -> Value {
    let mut spec = json!({"interactive": interactive});
    if exec.provide_cluster_info {
        let mut about = json!({"server": cluster.server});
        let data = cluster.certificate_authority_data.clone().or_else(|| {
            use base64::{Engine, engine::general_purpose::STANDARD};
            std::fs::read(cluster.certificate_authority.as_ref()?).ok().map(|pem| STANDARD.encode(pem))
        });
        for (name, value) in [
            ("tls-server-name", cluster.tls_server_name.clone().map(Value::from)),
            ("certificate-authority-data", data.map(Value::from)),
            ("proxy-url", cluster.proxy_url.clone().map(Value::from)),
            ("insecure-skip-tls-verify", cluster.insecure_skip_tls_verify.then_some(Value::Bool(true))),
        ] {
            if let Some(value) = value {
                about[name] = value;
            }
        }
        spec["cluster"] = about;
    }
    json!({"kind": "ExecCredential", "apiVersion": exec.api_version, "spec": spec})
}

fn credentials(answer: &Value, api_version: &str) -> Result<Credentials, String> {
    if answer["kind"] != "ExecCredential" {
        return Err(format!(
            "decoding stdout: no kind {:?} is registered for version {api_version:?}",
            machinery::meta::kind(answer)
        ));
    }
    if answer["apiVersion"] != api_version {
        let returned = machinery::meta::api_version(answer);
        return Err(format!("exec plugin is configured to use API version {api_version}, plugin returned version {returned}"));
    }
    let status = &answer["status"];
    if !status.is_object() {
        return Err("exec plugin didn't return a status field".into());
    }
    let text = |field: &str| status[field].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let token = text("token");
    let pair = match (text("clientCertificateData"), text("clientKeyData")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => return Err("exec plugin returned only certificate or key, not both".into()),
    };
    if token.is_none() && pair.is_none() {
        return Err("exec plugin didn't return a token or cert/key pair".into());
    }
    Ok(Credentials { token, pair })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(mode: &str, version: &str) -> Exec {
        let api_version = format!("{GROUP}/{version}");
        Exec { api_version, command: "plugin".into(), interactive_mode: mode.into(), ..Exec::default() }
    }

    #[test]
    fn who_may_talk() {
        let check = |mode: &str, version: &str, terminal, want: Option<bool>| {
            assert_eq!(interactive(&exec(mode, version), terminal).ok(), want, "{mode} {version}");
        };
        check("Never", "v1", true, Some(false));
        check("IfAvailable", "v1", true, Some(true));
        check("IfAvailable", "v1", false, Some(false));
        check("Always", "v1", true, Some(true));
        check("Always", "v1", false, None);
        check("", "v1", true, None);
        check("", "v1beta1", true, Some(true));
        assert!(check_version(&exec("", "v1alpha1")).is_err() && check_version(&exec("", "v1")).is_ok());
    }

    #[test]
    fn answers() {
        let version = "client.authentication.k8s.io/v1";
        let answer = |status: Value| json!({"kind": "ExecCredential", "apiVersion": version, "status": status});
        let check = |answer: Value, want: Result<(Option<&str>, bool), &str>| {
            let got = credentials(&answer, version).map(|found| (found.token, found.pair.is_some()));
            let want = want.map(|(token, pair)| (token.map(str::to_owned), pair)).map_err(str::to_owned);
            assert_eq!(got, want);
        };
        check(answer(json!({"token": "t"})), Ok((Some("t"), false)));
        check(answer(json!({"clientCertificateData": "c", "clientKeyData": "k"})), Ok((None, true)));
        check(answer(json!({"clientKeyData": "k"})), Err("exec plugin returned only certificate or key, not both"));
        check(answer(json!({})), Err("exec plugin didn't return a token or cert/key pair"));
        check(answer(json!(null)), Err("exec plugin didn't return a status field"));
        check(
            json!({"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1beta1"}),
            Err(
                "exec plugin is configured to use API version client.authentication.k8s.io/v1, plugin returned version client.authentication.k8s.io/v1beta1",
            ),
        );
    }

    #[test]
    fn what_a_plugin_is_told() {
        let cluster = Cluster { server: "https://a".into(), tls_server_name: Some("n".into()), ..Cluster::default() };
        let plugin = Exec { provide_cluster_info: true, ..exec("Never", "v1") };
        let spec = json!({"interactive": false, "cluster": {"server": "https://a", "tls-server-name": "n"}});
        assert_eq!(question(&plugin, &cluster, false)["spec"], spec);
        assert_eq!(question(&exec("Never", "v1"), &cluster, true)["spec"], json!({"interactive": true}));
    }
}
