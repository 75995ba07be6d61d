//! Streams to a container: what `exec`, `attach`, `run -it` and `cp` have in common.

use std::{io::IsTerminal, sync::Arc};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use stream::{
    channel::Protocol,
    remotecommand::{Command, Options, Outcome, Resize, over_websocket},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
};

use super::detach::DetachKeys;
use crate::kube::{Error, Request, Result, Session};

/// Version 5 can close standard input alone; older servers have 4.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// Starts a command, or attaches to one. `query` is that of the request besides the streams.
pub async fn start(session: &Session, request: Request, options: Options) -> Result<Command> {
    let mut request = request;
    for (name, on) in
        [("stdin", options.stdin), ("stdout", options.stdout), ("stderr", options.stderr && !options.tty), ("tty", options.tty)]
    {
        if on {
            request = request.query(name, true);
        }
    }
    let (io, protocol) = session.upgrade(request, &PROTOCOLS).await?;
    let protocol = Protocol::named(&protocol)
        .ok_or_else(|| Error::message(format!("the server chose an unknown stream protocol {protocol:?}")))?;
    Ok(over_websocket(io, protocol, options).await)
}

/// Connects a command with this terminal until it ends, and returns its exit code. The keys to detach end the session early,
/// with code 0.
pub async fn connect(command: Command, options: Options, keys: Option<DetachKeys>) -> Result<u8> {
    let detached = Arc::new(Notify::new());
    tokio::select! {
        code = connected(command, options, keys, detached.clone()) => code,
        () = detached.notified() => Ok(0),
    }
}

async fn connected(mut command: Command, options: Options, keys: Option<DetachKeys>, detached: Arc<Notify>) -> Result<u8> {
    let _raw = if options.tty { Raw::enter() } else { None };
    if let Some(resize) = command.resize.take() {
        tokio::spawn(follow_size(resize));
    }
    if let Some(mut stdin) = command.stdin.take() {
        tokio::spawn(async move {
            // The command may end before its input: it decides.
            let detach = match keys {
                Some(keys) => copy_keys(keys, &mut stdin).await.unwrap_or(false),
                None => {
                    let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut stdin).await;
                    false
                }
            };
            if detach {
                return detached.notify_one();
            }
            let _ = stdin.shutdown().await;
            std::future::pending::<()>().await;
        });
    }
    let copy = async |from: Option<stream::remotecommand::BoxRead>,
                      mut to: Box<dyn tokio::io::AsyncWrite + Unpin + Send>|
           -> std::io::Result<()> {
        let Some(mut from) = from else { return Ok(()) };
        let mut buffer = vec![0; 32 * 1024];
        loop {
            let count = from.read(&mut buffer).await?;
            if count == 0 {
                return to.flush().await;
            }
            to.write_all(&buffer[..count]).await?;
            to.flush().await?;
        }
    };
    let (out, err) = tokio::join!(
        copy(command.stdout.take(), Box::new(tokio::io::stdout())),
        copy(command.stderr.take(), Box::new(tokio::io::stderr())),
    );
    out.and(err)?;
    exit_code(command.status.outcome().await?)
}

/// Passes keys on until the input ends, or those to detach were pressed: then true.
async fn copy_keys(keys: DetachKeys, to: &mut (impl tokio::io::AsyncWrite + Unpin)) -> std::io::Result<bool> {
    let mut watch = keys.watch();
    let (mut stdin, mut buffer, mut passed) = (tokio::io::stdin(), vec![0; 4096], Vec::new());
    loop {
        let count = stdin.read(&mut buffer).await?;
        if count == 0 {
            return Ok(false);
        }
        passed.clear();
        let detached = watch.pass(&buffer[..count], &mut passed);
        to.write_all(&passed).await?;
        to.flush().await?;
        if detached {
            return Ok(true);
        }
    }
}

/// What a command's end means for ours.
pub fn exit_code(outcome: Outcome) -> Result<u8> {
    match outcome {
        Outcome::Success => Ok(0),
        Outcome::Exit(code) => Ok(u8::try_from(code & 0xff).unwrap_or(1)),
        Outcome::Failed(message) => Err(Error::message(message)),
    }
}

/// Whether -t can be had; says so when not.
pub fn terminal(wanted: bool, stdin: bool) -> bool {
    if wanted && !(stdin && std::io::stdin().is_terminal()) {
        eprintln!("Unable to use a TTY - input is not a terminal or the right kind of file");
        return false;
    }
    wanted
}

async fn follow_size(mut resize: Resize) {
    let Ok(mut changed) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::window_change()) else { return };
    loop {
        if let Ok(size) = tcgetwinsize(std::io::stdin())
            && resize.set(size.ws_col, size.ws_row).await.is_err()
        {
            return;
        }
        if changed.recv().await.is_none() {
            return;
        }
    }
}

/// The terminal passes every key on; restored when dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> Option<Self> {
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}
