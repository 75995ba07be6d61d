//! A client's WebSocket channels on one side, a kubelet's or runtime's SPDY on the other: exec and attach of WebSocket
//! clients, as kube-apiserver serves them (KEP 4006).

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::channel::{self, ChannelWriter, Channels};
use crate::remotecommand::{Command, Options};

const STATUS_TIMEOUT: Duration = Duration::from_secs(10);

/// Tells the client that the connection stands, before anything has come from the command.
pub async fn announce(client: &Channels, options: Options) -> io::Result<()> {
    let channel = match options {
        Options { stdout: true, .. } => channel::STDOUT,
        Options { stderr: true, .. } => channel::STDERR,
        _ => channel::ERROR,
    };
    client.writer(channel).announce().await
}

/// Connects a client's channels with a running command until it ends or the client goes.
pub async fn translate(mut client: Channels, command: Command) {
    let gone = client.closed();
    let version = client.protocol().version;
    let Command { stdin, stdout, stderr, resize, status } = command;
    let (from_stdin, from_resize) = (client.reader(channel::STDIN), client.reader(channel::RESIZE));
    let (to_stdout, to_stderr) = (client.writer(channel::STDOUT), client.writer(channel::STDERR));
    let mut errors = client.writer(channel::ERROR);

    let input = async {
        tokio::join!(copy_in(from_stdin, stdin), copy_in(from_resize, resize.map(crate::remotecommand::Resize::into_inner)),);
        // A client that has no more to say still waits for the output.
        std::future::pending::<()>().await;
    };
    let output = async {
        let (out, err) = tokio::join!(copy_out(stdout, to_stdout), copy_out(stderr, to_stderr));
        out.and(err)?;
        status.value().await
    };
    tokio::select! {
        result = output => {
            let status = result.unwrap_or_else(|e| internal(&e));
            // A client that does not read its status has gone.
            let _ = tokio::time::timeout(STATUS_TIMEOUT, report(&mut errors, &status, version)).await;
        }
        () = input => {}
        () = gone => {}
    }
}

/// Reports to the client that the command could not be started.
pub async fn fail(client: &Channels, message: &str) {
    let status = internal(&message);
    let mut errors = client.writer(channel::ERROR);
    let _ = tokio::time::timeout(STATUS_TIMEOUT, report(&mut errors, &status, client.protocol().version)).await;
}

/// Copies until the client closes the channel; whether the command still reads is its own affair.
async fn copy_in(mut from: impl AsyncRead + Unpin, to: Option<impl AsyncWrite + Unpin>) {
    if let Some(mut to) = to {
        let _ = tokio::io::copy(&mut from, &mut to).await;
        let _ = to.shutdown().await;
    }
}

async fn copy_out(from: Option<impl AsyncRead + Unpin>, mut to: ChannelWriter) -> io::Result<()> {
    match from {
        Some(mut from) => tokio::io::copy(&mut from, &mut to).await.map(drop),
        None => Ok(()),
    }
}

fn internal(error: &impl std::fmt::Display) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 500,
        "reason": "InternalError", "message": format!("Internal error occurred: {error}"),
        "details": {"causes": [{"message": error.to_string()}]}
    })
}

/// Version 4 and later read a status as JSON; earlier ones text, and nothing when all went well.
async fn report(errors: &mut ChannelWriter, status: &Value, version: u8) -> io::Result<()> {
    let text = if version >= 4 {
        status.to_string()
    } else if status["status"] == "Success" {
        String::new()
    } else {
        status["message"].as_str().unwrap_or_default().to_owned()
    };
    errors.write_all(text.as_bytes()).await
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::channel::Protocol;
    use crate::remotecommand::tests::fake_runtime;
    use crate::remotecommand::{self, Outcome};

    async fn run(protocol: Protocol, options: Options, streams: usize) -> (Command, tokio::task::JoinHandle<()>) {
        let (client_io, server_io) = tokio::io::duplex(64 * 1024);
        let (upstream_io, runtime_io) = tokio::io::duplex(64 * 1024);
        tokio::spawn(fake_runtime(runtime_io, streams));
        let serving = tokio::spawn(async move {
            let client = Channels::server(server_io, protocol).await;
            announce(&client, options).await.unwrap();
            let command = remotecommand::over_spdy(upstream_io, "v4.channel.k8s.io", options).await.unwrap();
            translate(client, command).await;
        });
        (remotecommand::over_websocket(client_io, protocol, options).await, serving)
    }

    #[tokio::test]
    async fn websocket_v5_to_spdy_v4() {
        let options = Options { stdin: true, stdout: true, stderr: true, tty: false };
        let (mut command, serving) = run(Protocol::V5, options, 4).await;
        let sent = vec![b'a'; 500_000];
        let mut stdin = command.stdin.take().unwrap();
        let writing = tokio::spawn(async move {
            stdin.write_all(&sent).await.unwrap();
            stdin.shutdown().await.unwrap();
        });
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let (mut stdout, mut stderr) = (command.stdout.take().unwrap(), command.stderr.take().unwrap());
        let reading = async { tokio::join!(stdout.read_to_end(&mut out), stderr.read_to_end(&mut err)) };
        let (outcome, _) = tokio::join!(command.status.outcome(), reading);
        assert_eq!(outcome.unwrap(), Outcome::Exit(7));
        assert_eq!((out.len(), &err[..]), (500_000, &b"oops"[..]));
        writing.await.unwrap();
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn sizes_reach_the_terminal() {
        let options = Options { stdin: true, stdout: true, stderr: false, tty: true };
        let (mut command, serving) = run(Protocol::V5, options, 4).await;
        command.resize.as_mut().unwrap().set(80, 24).await.unwrap();
        command.stdin.as_mut().unwrap().shutdown().await.unwrap();
        let mut out = String::new();
        let mut stdout = command.stdout.take().unwrap();
        let (_, outcome) = tokio::join!(stdout.read_to_string(&mut out), command.status.outcome());
        assert_eq!(out.trim_end(), "{\"Height\":24,\"Width\":80}");
        assert_eq!(outcome.unwrap(), Outcome::Exit(7));
        drop(command.stdin);
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_goes_ends_the_command() {
        let options = Options { stdin: true, stdout: true, stderr: true, tty: false };
        let (command, serving) = run(Protocol::named("v4.channel.k8s.io").unwrap(), options, 4).await;
        drop(command);
        tokio::time::timeout(Duration::from_secs(5), serving).await.unwrap().unwrap();
    }
}
