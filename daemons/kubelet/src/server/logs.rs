//! Reading a container's log: the last lines, since a time, following what is written, across rotation.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use jiff::Timestamp;
use machinery::status::Status;
use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::log_format::{Line, Stream};
use super::{Backend, Body, BoxError, LogSource};

/// Answers that wait to be sent; the reader waits when the client does not read.
const CHUNKS_MAX: usize = 8;
const CHUNK_BYTES: usize = 64 * 1024;
/// A line longer than this is cut: the runtime splits at 16 KiB.
const LINE_BYTES_MAX: usize = 1024 * 1024;
/// While following, how long until the writer is looked at even if nothing was written.
const WRITER_CHECK: Duration = Duration::from_secs(1);

/// `kubectl logs`' options, as the kubelet's query has them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LogOptions {
    pub(crate) follow: bool,
    pub(crate) timestamps: bool,
    pub(crate) tail_lines: Option<u64>,
    pub(crate) limit_bytes: Option<u64>,
    pub(crate) since: Option<Since>,
    /// `None`: both.
    pub(crate) stream: Option<Stream>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Since {
    Seconds(i64),
    Time(Timestamp),
}

impl LogOptions {
    pub(super) fn from_query<'q>(get: impl Fn(&str) -> Option<&'q str>) -> Result<Self, Status> {
        let flag = |key| get(key).is_some_and(|v| matches!(v, "true" | "1"));
        let number = |key: &str| match get(key).filter(|v| !v.is_empty()) {
            None => Ok(None),
            Some(v) => v.parse::<i64>().map(Some).map_err(|_| Status::bad_request(format!("{key}: invalid number {v:?}"))),
        };
        let at_least = |key: &str, min: i64| match number(key)? {
            Some(n) if n < min => Err(Status::bad_request(format!("{key}: must be greater than or equal to {min}"))),
            n => Ok(n.and_then(|n| u64::try_from(n).ok())),
        };
        let since = match (number("sinceSeconds")?, get("sinceTime").filter(|v| !v.is_empty())) {
            (Some(_), Some(_)) => {
                return Err(Status::bad_request("at most one of `sinceTime` or `sinceSeconds` may be specified"));
            }
            (Some(s), None) if s < 1 => return Err(Status::bad_request("sinceSeconds: must be greater than or equal to 1")),
            (Some(s), None) => Some(Since::Seconds(s)),
            (None, Some(t)) => {
                let time = t.parse().map_err(|_| Status::bad_request(format!("sinceTime: invalid time {t:?}")))?;
                Some(Since::Time(time))
            }
            (None, None) => None,
        };
        let stream = match get("stream") {
            None | Some("" | "All") => None,
            Some("Stdout") => Some(Stream::Stdout),
            Some("Stderr") => Some(Stream::Stderr),
            Some(other) => return Err(Status::bad_request(format!("stream: unsupported value {other:?}"))),
        };
        Ok(Self {
            follow: flag("follow"),
            timestamps: flag("timestamps"),
            tail_lines: at_least("tailLines", 0)?,
            limit_bytes: at_least("limitBytes", 1)?,
            since,
            stream,
        })
    }
}

/// What of the log is shown: pure, fed with lines.
struct Filter {
    timestamps: bool,
    stream: Option<Stream>,
    since: Option<Timestamp>,
    bytes_left: u64,
    /// The next content begins a line of the output.
    at_start: bool,
}

impl Filter {
    fn new(options: &LogOptions, now: Timestamp) -> Self {
        let since = options.since.map(|s| match s {
            Since::Time(t) => t,
            Since::Seconds(s) => now - Duration::from_secs(s.unsigned_abs()),
        });
        let bytes_left = options.limit_bytes.unwrap_or(u64::MAX);
        Self { timestamps: options.timestamps, stream: options.stream, since, bytes_left, at_start: true }
    }

    /// Appends what is shown of a line; `false` when the limit is reached.
    fn push(&mut self, line: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(line) = Line::parse(line) else { return true };
        if self.stream.is_some_and(|s| s != line.stream) {
            return true;
        }
        if let Some(since) = self.since {
            if line.time.parse::<Timestamp>().is_ok_and(|t| t < since) {
                return true;
            }
            // Lines are in order of time: the rest needs no look.
            self.since = None;
        }
        let from = out.len();
        if self.timestamps && self.at_start {
            out.extend_from_slice(line.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(line.content);
        if !line.partial {
            out.push(b'\n');
        }
        self.at_start = !line.partial;
        let written = (out.len() - from) as u64;
        if written >= self.bytes_left {
            out.truncate(from + usize::try_from(self.bytes_left).unwrap_or(usize::MAX));
            self.bytes_left = 0;
            return false;
        }
        self.bytes_left -= written;
        true
    }
}

/// Where the last `lines` lines begin.
fn tail_offset(file: &File, lines: u64) -> io::Result<u64> {
    let size = file.metadata()?.len();
    let mut block = vec![0; 4096];
    let (mut end, mut found) = (size, 0);
    if lines == 0 {
        return Ok(size);
    }
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let part = &mut block[..usize::try_from(end - start).unwrap_or(0)];
        file.read_exact_at(part, start)?;
        for (i, byte) in part.iter().enumerate().rev() {
            let position = start + i as u64;
            // The newline at the very end closes the last line.
            if *byte == b'\n' && position + 1 != size {
                found += 1;
                if found == lines {
                    return Ok(position + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

/// Whole lines out of what is read.
struct Lines {
    file: File,
    pending: Vec<u8>,
}

impl Lines {
    /// Calls `each` for every whole line until the end of the file or `false`; answers whether to go on.
    fn read(&mut self, buffer: &mut [u8], mut each: impl FnMut(&[u8]) -> io::Result<bool>) -> io::Result<bool> {
        loop {
            let n = self.file.read(buffer)?;
            if n == 0 {
                return Ok(true);
            }
            self.pending.extend_from_slice(&buffer[..n]);
            let mut from = 0;
            while let Some(end) = self.pending[from..].iter().position(|b| *b == b'\n') {
                if !each(&self.pending[from..from + end])? {
                    return Ok(false);
                }
                from += end + 1;
            }
            self.pending.drain(..from);
            self.pending.truncate(LINE_BYTES_MAX);
        }
    }
}

/// Opens the log and streams it.
pub(super) async fn stream(source: LogSource, options: LogOptions, backend: Arc<dyn Backend>) -> Result<Body, Status> {
    let opened = tokio::task::spawn_blocking(move || open(&source.path, &options).map(|file| (file, source, options)))
        .await
        .map_err(Status::internal)?;
    let (file, source, options) = match opened {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Status::bad_request("the container's log is not there: it was removed, or nothing was written yet"));
        }
        Err(error) => return Err(Status::internal(format!("opening the container's log: {error}"))),
    };
    let (sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, BoxError>>(CHUNKS_MAX);
    tokio::spawn(async move {
        if let Err(error) = copy(file, &source, &options, backend.as_ref(), &sender).await {
            tracing::debug!(path = %source.path.display(), %error, "reading a log");
            let _ = sender.send(Err(error.into())).await;
        }
    });
    Ok(StreamBody::new(ReceiverStream::new(receiver)).boxed_unsync())
}

fn open(path: &Path, options: &LogOptions) -> io::Result<File> {
    let mut file = File::open(path)?;
    if let Some(lines) = options.tail_lines {
        let offset = tail_offset(&file, lines)?;
        file.seek(SeekFrom::Start(offset))?;
    }
    Ok(file)
}

async fn copy(
    file: File,
    source: &LogSource,
    options: &LogOptions,
    backend: &dyn Backend,
    sender: &mpsc::Sender<Result<Frame<Bytes>, BoxError>>,
) -> io::Result<()> {
    let mut filter = Filter::new(options, Timestamp::now());
    let mut lines = Lines { file, pending: Vec::new() };
    let mut buffer = vec![0; CHUNK_BYTES];
    let changes = if options.follow { Some(Changes::of(&source.path)?) } else { None };
    loop {
        // Asked before reading: what a container wrote before it ended is read below.
        let running = backend.is_running(&source.container_id);
        loop {
            let mut out = Vec::new();
            let mut full = false;
            // Reads of a local file that the page cache holds: no thread is worth its switch.
            let more = lines.read(&mut buffer, |line| {
                let go_on = filter.push(line, &mut out);
                full = out.len() >= CHUNK_BYTES;
                Ok(go_on)
            })?;
            let ended = out.is_empty();
            if !ended && sender.send(Ok(Frame::data(out.into()))).await.is_err() {
                return Ok(());
            }
            if !more {
                return Ok(());
            }
            if !full {
                break;
            }
        }
        let Some(changes) = &changes else { return Ok(()) };
        if rotated(&lines.file, &source.path) {
            lines = Lines { file: File::open(&source.path)?, pending: Vec::new() };
            changes.add(&source.path)?;
            continue;
        }
        if !running {
            return Ok(());
        }
        tokio::select! {
            () = sender.closed() => return Ok(()),
            waited = tokio::time::timeout(WRITER_CHECK, changes.wait()) => if let Ok(result) = waited { result? },
        }
    }
}

/// The path is another file now, and it is there.
fn rotated(open: &File, path: &Path) -> bool {
    let (Ok(open), Ok(now)) = (open.metadata(), std::fs::metadata(path)) else { return false };
    (open.dev(), open.ino()) != (now.dev(), now.ino())
}

/// Tells when a file is written to, moved or removed.
struct Changes(AsyncFd<OwnedFd>);

impl Changes {
    fn of(path: &Path) -> io::Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        #[expect(deprecated, reason = "its flaw is with types that close early; an OwnedFd lives as long as the AsyncFd")]
        let this = Self(AsyncFd::new(fd)?);
        this.add(path)?;
        Ok(this)
    }

    fn add(&self, path: &Path) -> io::Result<()> {
        let what = inotify::WatchFlags::MODIFY | inotify::WatchFlags::MOVE_SELF | inotify::WatchFlags::DELETE_SELF;
        inotify::add_watch(self.0.get_ref(), path, what)?;
        Ok(())
    }

    async fn wait(&self) -> io::Result<()> {
        let mut ready = self.0.readable().await?;
        let mut events = [0; 4096];
        // What the events say does not matter: the file is read again.
        match rustix::io::read(self.0.get_ref(), &mut events) {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => {
                ready.clear_ready();
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-02T00:00:01.5Z stdout F one\n2026-01-02T00:00:02Z stderr F two\n\
                       2026-01-02T00:00:03Z stdout P thr\n2026-01-02T00:00:03Z stdout F ee\n";

    fn shown(options: &LogOptions) -> String {
        let mut filter = Filter::new(options, "2026-01-02T00:00:04Z".parse().unwrap());
        let mut out = Vec::new();
        for line in LOG.lines() {
            if !filter.push(line.as_bytes(), &mut out) {
                break;
            }
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_shown() {
        let all = LogOptions::default();
        for (options, want) in [
            (all.clone(), "one\ntwo\nthree\n"),
            (LogOptions { stream: Some(Stream::Stderr), ..all.clone() }, "two\n"),
            (LogOptions { since: Some(Since::Seconds(2)), ..all.clone() }, "two\nthree\n"),
            (LogOptions { limit_bytes: Some(6), ..all.clone() }, "one\ntw"),
            (
                LogOptions { timestamps: true, stream: Some(Stream::Stdout), ..all },
                "2026-01-02T00:00:01.5Z one\n2026-01-02T00:00:03Z three\n",
            ),
        ] {
            assert_eq!(shown(&options), want, "{options:?}");
        }
    }

    #[test]
    fn the_tail_of_a_file() {
        let path = std::env::temp_dir().join(format!("kubelet-tail-{}", std::process::id()));
        let long = "x".repeat(5000);
        let text = format!("a\n{long}\nb\nc\n");
        std::fs::write(&path, &text).unwrap();
        let file = File::open(&path).unwrap();
        for (lines, want) in [(0, ""), (1, "c\n"), (2, "b\nc\n"), (4, text.as_str()), (99, text.as_str())] {
            let offset = usize::try_from(tail_offset(&file, lines).unwrap()).unwrap();
            assert_eq!(&text[offset..], want, "{lines} lines");
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn options_of_a_query() {
        let parse = |pairs: &[(&'static str, &'static str)]| {
            LogOptions::from_query(|key| pairs.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)).map_err(|s| s.message)
        };
        assert_eq!(parse(&[("tailLines", "5"), ("follow", "true")]).unwrap().tail_lines, Some(5));
        assert_eq!(parse(&[("limitBytes", "0")]).unwrap_err(), "limitBytes: must be greater than or equal to 1");
        assert!(parse(&[("sinceSeconds", "5"), ("sinceTime", "2026-01-01T00:00:00Z")]).is_err());
        assert!(parse(&[("tailLines", "-1")]).is_err());
    }

    struct Container(std::sync::atomic::AtomicBool);

    impl Backend for Container {
        fn pods(&self) -> serde_json::Value {
            serde_json::Value::Null
        }
        fn summary(&self) -> futures::future::BoxFuture<'_, serde_json::Value> {
            Box::pin(async { serde_json::Value::Null })
        }
        fn resource_metrics(&self) -> futures::future::BoxFuture<'_, String> {
            Box::pin(async { String::new() })
        }
        fn exec_url<'a>(
            &'a self,
            _: &'a super::super::Target,
            _: &'a [String],
            _: &'a super::super::Streams,
        ) -> futures::future::BoxFuture<'a, Result<String, Status>> {
            Box::pin(async { Err(Status::no_such_path()) })
        }
        fn attach_url<'a>(
            &'a self,
            _: &'a super::super::Target,
            _: &'a super::super::Streams,
        ) -> futures::future::BoxFuture<'a, Result<String, Status>> {
            Box::pin(async { Err(Status::no_such_path()) })
        }
        fn port_forward_url<'a>(
            &'a self,
            _: &'a super::super::Target,
            _: &'a [u16],
        ) -> futures::future::BoxFuture<'a, Result<String, Status>> {
            Box::pin(async { Err(Status::no_such_path()) })
        }
        fn log_source(&self, _: &super::super::Target, _: bool) -> Result<LogSource, Status> {
            Err(Status::no_such_path())
        }
        fn is_running(&self, _: &str) -> bool {
            self.0.load(std::sync::atomic::Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn following_goes_on_across_a_rotation_and_ends_with_the_container() {
        use std::io::Write;
        let dir = std::env::temp_dir().join(format!("kubelet-follow-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("0.log");
        std::fs::write(&path, "2026-01-02T00:00:01Z stdout F one\n").unwrap();
        let backend = Arc::new(Container(true.into()));
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let source = LogSource { path: path.clone(), container_id: "c".into() };
        let mut body = stream(source, options, backend.clone()).await.unwrap();
        let mut next = async || match body.frame().await {
            Some(frame) => String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap(),
            None => String::new(),
        };
        assert_eq!(next().await, "one\n");
        File::options().append(true).open(&path).unwrap().write_all(b"2026-01-02T00:00:02Z stdout F two\n").unwrap();
        assert_eq!(next().await, "two\n");
        std::fs::rename(&path, dir.join("0.log.old")).unwrap();
        std::fs::write(&path, "2026-01-02T00:00:03Z stdout F three\n").unwrap();
        assert_eq!(next().await, "three\n");
        backend.0.store(false, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(next().await, "");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
