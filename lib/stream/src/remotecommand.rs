//! Running commands in containers: the client's side of exec and attach, over SPDY (v1 to v4) or WebSocket channels.

use std::io;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::Io;
use crate::channel::{self, Channels};
use crate::spdy::{Config, Session};

/// Versions to offer over SPDY, best first.
pub const SPDY_PROTOCOLS: [&str; 4] = ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];

/// A status says why it ended; longer ones are cut.
const STATUS_BYTES_MAX: u64 = 1024 * 1024;

/// Which streams the command has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

impl Options {
    /// The query of an exec or attach request: `stdin=true&tty=1…`. A terminal has no stderr of its own.
    pub fn from_query<'q>(pairs: impl IntoIterator<Item = (&'q str, &'q str)>) -> Self {
        let mut options = Self::default();
        for (name, value) in pairs {
            // As upstream reads booleans of a query.
            let on = !value.eq_ignore_ascii_case("false") && value != "0";
            match name {
                "stdin" => options.stdin = on,
                "stdout" => options.stdout = on,
                "stderr" => options.stderr = on,
                "tty" => options.tty = on,
                _ => {}
            }
        }
        if options.tty {
            options.stderr = false;
        }
        options
    }

    pub fn any(self) -> bool {
        self.stdin || self.stdout || self.stderr
    }
}

pub type BoxRead = Box<dyn AsyncRead + Send + Unpin>;
pub type BoxWrite = Box<dyn AsyncWrite + Send + Unpin>;

/// A running command. Close `stdin` with `shutdown`; read the output, then ask for the outcome.
pub struct Command {
    pub stdin: Option<BoxWrite>,
    pub stdout: Option<BoxRead>,
    pub stderr: Option<BoxRead>,
    pub resize: Option<Resize>,
    pub status: StatusStream,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Command").finish_non_exhaustive()
    }
}

/// Tells the terminal's size.
pub struct Resize(BoxWrite);

impl Resize {
    pub async fn set(&mut self, width: u16, height: u16) -> io::Result<()> {
        let text = format!("{}\n", json!({"Width": width, "Height": height}));
        self.0.write_all(text.as_bytes()).await?;
        self.0.flush().await
    }

    /// The stream itself, for those who pass sizes on unread.
    pub fn into_inner(self) -> BoxWrite {
        self.0
    }
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Success,
    /// It ran and exited with this code.
    Exit(i32),
    /// It did not run, or was lost.
    Failed(String),
}

/// Where the outcome comes from.
pub struct StatusStream {
    from: BoxRead,
    /// Version 4 and later send a `metav1.Status`, earlier ones plain text on failure.
    json: bool,
}

impl StatusStream {
    /// The status as it was sent, made a `metav1.Status` if it was not; success when nothing was sent.
    pub async fn value(self) -> io::Result<Value> {
        let mut text = Vec::new();
        self.from.take(STATUS_BYTES_MAX).read_to_end(&mut text).await?;
        if text.is_empty() {
            return Ok(json!({"metadata": {}, "status": "Success"}));
        }
        if self.json {
            return serde_json::from_slice(&text)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("error stream protocol error: {e}")));
        }
        let message = String::from_utf8_lossy(&text).into_owned();
        Ok(json!({"metadata": {}, "status": "Failure", "reason": "InternalError", "message": message, "code": 500}))
    }

    pub async fn outcome(self) -> io::Result<Outcome> {
        self.value().await.map(|v| outcome(&v))
    }
}

/// Reads a `metav1.Status` of a command.
pub fn outcome(status: &Value) -> Outcome {
    if status["status"] == "Success" {
        return Outcome::Success;
    }
    if status["reason"] == "NonZeroExitCode" {
        let causes = status["details"]["causes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let code = causes.iter().find(|c| c["reason"] == "ExitCode").and_then(|c| c["message"].as_str()?.parse().ok());
        if let Some(code) = code {
            return Outcome::Exit(code);
        }
    }
    Outcome::Failed(status["message"].as_str().unwrap_or("the command ended without a status").to_owned())
}

/// Starts a command over an upgraded SPDY connection. `protocol` is what the server chose; empty is version 1.
pub async fn over_spdy<T: Io>(io: T, protocol: &str, options: Options) -> io::Result<Command> {
    let version = match protocol {
        "" | "channel.k8s.io" => 1,
        "v2.channel.k8s.io" => 2,
        "v3.channel.k8s.io" => 3,
        "v4.channel.k8s.io" => 4,
        other => {
            let message = format!("the server chose an unknown stream protocol {other:?}");
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
    };
    let session = Session::new(io, Config::client())?;
    let open = async |kind: &str| session.open(&[("streamType", kind)]).await;
    let mut error = open("error").await?;
    // Nothing is ever sent there. Version 1 servers wait for the client to close last.
    if version > 1 {
        error.shutdown().await?;
    }
    let stdin = if options.stdin { Some(open("stdin").await?) } else { None };
    let stdout = if options.stdout { Some(read_only(open("stdout").await?).await?) } else { None };
    let stderr = if options.stderr && !options.tty { Some(read_only(open("stderr").await?).await?) } else { None };
    let resize = if options.tty && version >= 3 { Some(open("resize").await?) } else { None };
    Ok(Command {
        stdin: stdin.map(|s| Box::new(s) as BoxWrite),
        stdout: stdout.map(|s| Box::new(s) as BoxRead),
        stderr: stderr.map(|s| Box::new(s) as BoxRead),
        resize: resize.map(|s| Resize(Box::new(s))),
        status: StatusStream { from: Box::new(error), json: version >= 4 },
    })
}

async fn read_only(mut stream: crate::spdy::Stream) -> io::Result<crate::spdy::Stream> {
    stream.shutdown().await?;
    Ok(stream)
}

/// Starts a command over an upgraded WebSocket connection.
pub async fn over_websocket<T: Io>(io: T, protocol: channel::Protocol, options: Options) -> Command {
    let mut channels = Channels::client(io, protocol).await;
    Command {
        stdin: options.stdin.then(|| Box::new(channels.writer(channel::STDIN)) as BoxWrite),
        stdout: options.stdout.then(|| Box::new(channels.reader(channel::STDOUT)) as BoxRead),
        stderr: (options.stderr && !options.tty).then(|| Box::new(channels.reader(channel::STDERR)) as BoxRead),
        resize: options.tty.then(|| Resize(Box::new(channels.writer(channel::RESIZE)))),
        status: StatusStream { from: Box::new(channels.reader(channel::ERROR)), json: protocol.version >= 4 },
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::spdy;

    #[test]
    fn outcomes() {
        for (status, want) in [
            (json!({"status": "Success"}), Outcome::Success),
            (
                json!({"status": "Failure", "reason": "NonZeroExitCode",
                    "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}}),
                Outcome::Exit(3),
            ),
            (json!({"status": "Failure", "message": "no such file"}), Outcome::Failed("no such file".to_owned())),
        ] {
            assert_eq!(outcome(&status), want);
        }
    }

    #[test]
    fn options_of_a_query() {
        let o = Options::from_query([("stdin", "true"), ("stdout", "1"), ("stderr", "true"), ("tty", "1"), ("x", "y")]);
        assert_eq!(o, Options { stdin: true, stdout: true, stderr: false, tty: true });
        assert!(!Options::from_query([("stdout", "false")]).any());
    }

    /// A runtime's streaming server: echoes stdin, reports sizes on stderr, exits with 7.
    pub(crate) async fn fake_runtime<T: Io>(io: T, streams: usize) {
        let session = Session::new(io, spdy::Config::server()).unwrap();
        let mut by_type = std::collections::HashMap::new();
        for _ in 0..streams {
            let s = session.accept().await.expect("all streams are opened");
            by_type.insert(s.header("streamtype").unwrap().to_owned(), s);
        }
        let mut stdin = by_type.remove("stdin").unwrap();
        let mut stdout = by_type.remove("stdout").unwrap();
        let mut error = by_type.remove("error").unwrap();
        if let Some(mut resize) = by_type.remove("resize") {
            let mut size = [0; 25];
            resize.read_exact(&mut size).await.unwrap();
            stdout.write_all(&size).await.unwrap();
        }
        tokio::io::copy(&mut stdin, &mut stdout).await.unwrap();
        if let Some(mut stderr) = by_type.remove("stderr") {
            stderr.write_all(b"oops").await.unwrap();
            stderr.shutdown().await.unwrap();
        }
        stdout.shutdown().await.unwrap();
        let status = json!({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": "command terminated with non-zero exit code: exit status 7",
            "details": {"causes": [{"reason": "ExitCode", "message": "7"}]}});
        error.write_all(status.to_string().as_bytes()).await.unwrap();
        error.shutdown().await.unwrap();
        session.closed().await;
    }

    #[tokio::test]
    async fn a_command_over_spdy() {
        let (a, b) = tokio::io::duplex(64 * 1024);
        let runtime = tokio::spawn(fake_runtime(b, 4));
        let options = Options { stdin: true, stdout: true, stderr: true, tty: false };
        let mut command = over_spdy(a, "v4.channel.k8s.io", options).await.unwrap();
        let mut stdin = command.stdin.take().unwrap();
        stdin.write_all(b"hello").await.unwrap();
        stdin.shutdown().await.unwrap();
        let (mut out, mut err) = (String::new(), String::new());
        command.stdout.unwrap().read_to_string(&mut out).await.unwrap();
        command.stderr.unwrap().read_to_string(&mut err).await.unwrap();
        assert_eq!((out.as_str(), err.as_str()), ("hello", "oops"));
        assert_eq!(command.status.outcome().await.unwrap(), Outcome::Exit(7));
        drop(stdin);
        tokio::time::timeout(std::time::Duration::from_secs(5), runtime).await.expect("closed").unwrap();
    }
}
