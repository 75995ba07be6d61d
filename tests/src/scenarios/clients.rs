//! Real clients: every kubectl on this machine, kube-rs, the Python and the JavaScript client.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::world::{World, eventually};
use crate::{kubectls, libraries, load};

pub(super) fn run(world: &World) -> Result<()> {
    let kubeconfig = world.kubeconfig()?;
    let kubectls = kubectls::on_this_machine();
    if kubectls.is_empty() {
        println!("  there is no kubectl on this machine: its part is left out");
    }
    for kubectls::Kubectl { program, .. } in kubectls {
        let kubectl = Kubectl { program, kubeconfig: kubeconfig.clone(), namespace: "kubectl".to_owned() };
        kubectl.session().with_context(|| format!("with {}", kubectl.program.display()))?;
        println!("  {}: all steps passed", kubectl.program.display());
    }
    libraries::run(&world.programs, &world.cache, &kubeconfig, Some(["default", "client"]))
}

struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    namespace: String,
}

const APP: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  replicas: 1
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: nginx
        image: localhost/nginx:1
        ports: [{containerPort: 80}]
      - name: shell
        image: localhost/busybox:1
        command: [sh, -c, "echo started; sleep 1000000"]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: red}
"#;

impl Kubectl {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env("KUBECONFIG", &self.kubeconfig).env("KUBE_EDITOR", "sed -i s/blue/green/").stdin(Stdio::null());
        command.args(["--namespace", &self.namespace]).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments).output()?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("kubectl {}: {}\n{stdout}{}", arguments.join(" "), output.status, String::from_utf8_lossy(&output.stderr));
        }
        Ok(stdout)
    }

    fn expect(&self, arguments: &[&str], part: &str) -> Result<()> {
        let output = self.run(arguments)?;
        ensure!(output.contains(part), "kubectl {} does not say {part:?}:\n{output}", arguments.join(" "));
        Ok(())
    }

    fn session(&self) -> Result<()> {
        self.run(&["create", "namespace", &self.namespace])?;
        let manifest = std::env::temp_dir().join(format!("kctl-e2e-{}.yaml", std::process::id()));
        std::fs::write(&manifest, APP)?;
        let file = manifest.to_str().context("a path in UTF-8")?;
        self.expect(&["apply", "-f", file], "deployment.apps/app created")?;
        self.expect(&["apply", "-f", file], "deployment.apps/app unchanged")?;
        self.expect(&["rollout", "status", "deployment/app", "--timeout=90s"], "successfully rolled out")?;
        self.objects()?;
        self.streams()?;
        self.expect(&["rollout", "restart", "deployment/app"], "restarted")?;
        self.run(&["rollout", "status", "deployment/app", "--timeout=90s"])?;
        self.expect(&["rollout", "undo", "deployment/app"], "rolled back")?;
        self.expect(&["delete", "-f", file, "--wait"], "deleted")?;
        self.expect(&["delete", "namespace", &self.namespace, "--wait", "--timeout=120s"], "deleted")?;
        std::fs::remove_file(&manifest)?;
        Ok(())
    }

    fn objects(&self) -> Result<()> {
        for (arguments, part) in [
            (&["get", "deployments"] as &[&str], "UP-TO-DATE"),
            (&["get", "all"], "replicaset.apps/app-"),
            (&["get", "pods", "-o", "wide"], "NOMINATED NODE"),
            (&["get", "pods", "-l", "app=app", "-o", "name"], "pod/app-"),
            (&["describe", "deployment", "app"], "RollingUpdateStrategy"),
            (&["describe", "pods"], "Successfully assigned"),
            (&["describe", "node"], "Allocatable"),
            (&["explain", "deployment.spec.strategy"], "rollingUpdate"),
            (&["explain", "pods.spec.containers.image"], "string"),
            (&["api-resources"], "deployments"),
            (&["api-versions"], "apps/v1"),
            (&["auth", "can-i", "create", "pods"], "yes"),
            (&["patch", "configmap", "settings", "-p", r#"{"data":{"color":"yellow"}}"#], "patched"),
            (&["patch", "configmap", "settings", "--type=merge", "-p", r#"{"data":{"color":"white"}}"#], "patched"),
            (
                &[
                    "patch",
                    "configmap",
                    "settings",
                    "--type=json",
                    "-p",
                    r#"[{"op":"replace","path":"/data/color","value":"blue"}]"#,
                ],
                "patched",
            ),
            (&["edit", "configmap", "settings"], "edited"),
            (&["get", "configmap", "settings", "-o", "jsonpath={.data.color}"], "green"),
            (&["label", "configmap", "settings", "a=b"], "labeled"),
            (&["annotate", "configmap", "settings", "a=b"], "annotate"),
            (&["scale", "deployment/app", "--replicas=1"], "scaled"),
            (&["create", "role", "reader", "--verb=get", "--resource=pods"], "created"),
            (&["create", "secret", "generic", "s", "--from-literal=a=b"], "created"),
            (&["get", "events"], "LAST SEEN"),
        ] {
            self.expect(arguments, part)?;
        }
        Ok(())
    }

    fn streams(&self) -> Result<()> {
        let pod = self.run(&["get", "pods", "-l", "app=app", "-o", "jsonpath={.items[0].metadata.name}"])?;
        let pod = pod.trim();
        self.expect(&["logs", pod, "-c", "shell"], "started")?;
        self.first_line(&["logs", "-f", pod, "-c", "shell"], "started")?;
        self.expect(&["exec", pod, "-c", "shell", "--", "echo", "hello"], "hello")?;
        let failing = self.command(&["exec", pod, "-c", "shell", "--", "sh", "-c", "exit 7"]).status()?;
        ensure!(failing.code() == Some(7), "exec exits with {failing}");
        self.standard_input(pod)?;
        self.terminal(pod)?;
        self.copy(pod)?;
        self.port_forward(pod)
    }

    fn standard_input(&self, pod: &str) -> Result<()> {
        use std::io::Write;
        let mut child = self
            .command(&["exec", "-i", pod, "-c", "shell", "--", "sha256sum"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        // The end of the input must reach the process, or sha256sum never answers.
        child.stdin.take().context("a pipe")?.write_all(b"hello\n")?;
        let output = String::from_utf8(child.wait_with_output()?.stdout)?;
        ensure!(output.starts_with("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"), "exec -i: {output}");
        Ok(())
    }

    fn terminal(&self, pod: &str) -> Result<()> {
        let line = format!(
            "{} --namespace {} exec -it {pod} -c shell -- sh -c 'test -t 0 && test -t 1 && echo a terminal'",
            self.program.display(),
            self.namespace
        );
        let output = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null())
            .output()
            .context("script (package bsdutils)")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(text.contains("a terminal"), "exec -it: {text}");
        Ok(())
    }

    fn copy(&self, pod: &str) -> Result<()> {
        let dir = std::env::temp_dir().join(format!("kctl-e2e-cp-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("there"), "and back\n")?;
        let there = dir.join("there").display().to_string();
        let back = dir.join("back").display().to_string();
        let remote = format!("{pod}:/tmp/there");
        self.run(&["cp", &there, &remote, "-c", "shell"])?;
        self.run(&["cp", &remote, &back, "-c", "shell"])?;
        ensure!(std::fs::read_to_string(dir.join("back"))? == "and back\n", "cp changed the file");
        std::fs::remove_dir_all(&dir)?;
        Ok(())
    }

    fn port_forward(&self, pod: &str) -> Result<()> {
        let mut child = self.command(&["port-forward", pod, ":80"]).stdout(Stdio::piped()).spawn()?;
        let result = (|| {
            let mut line = String::new();
            // Kept open: kubectl goes on talking, and would end with its pipe.
            let mut output = BufReader::new(child.stdout.take().context("a pipe")?);
            output.read_line(&mut line)?;
            let address = line.split_whitespace().nth(2).with_context(|| format!("port-forward says {line:?}"))?.parse()?;
            eventually("an answer through port-forward", Duration::from_secs(10), || {
                let answer = load::get(address)?;
                ensure!(answer.starts_with("nginx 1 "), "{answer}");
                Ok(())
            })
        })();
        child.kill()?;
        child.wait()?;
        result
    }

    fn first_line(&self, arguments: &[&str], want: &str) -> Result<()> {
        let mut child = self.command(arguments).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let read = BufReader::new(child.stdout.take().context("a pipe")?).read_line(&mut line);
        child.kill()?;
        child.wait()?;
        read?;
        ensure!(line.trim() == want, "kubectl {} begins with {line:?}", arguments.join(" "));
        Ok(())
    }
}
