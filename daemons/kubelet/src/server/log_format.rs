//! Lines of a container's log in the CRI format: `TIME STREAM TAG CONTENT`.

/// Where a line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// RFC 3339 with nanoseconds, as the runtime wrote it.
    pub(super) time: &'a str,
    pub(super) stream: Stream,
    /// The content goes on in the next line.
    pub(super) partial: bool,
    pub(super) content: &'a [u8],
}

impl<'a> Line<'a> {
    /// `line` is without its newline. `None` when it is not in the format.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |b| *b == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?;
        let stream = match parts.next()? {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        };
        // Tags are separated by colons; the first one says whether the line is whole.
        let partial = match parts.next()?.split(|b| *b == b':').next()? {
            b"P" => true,
            b"F" => false,
            _ => return None,
        };
        Some(Self { time, stream, partial, content: parts.next().unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let check = |text: &str, want: Option<(&str, Stream, bool, &str)>| {
            let want = want.map(|(time, stream, partial, content)| Line { time, stream, partial, content: content.as_bytes() });
            assert_eq!(Line::parse(text.as_bytes()), want, "{text}");
        };
        check(
            "2026-01-02T03:04:05.678901234Z stdout F hello world",
            Some(("2026-01-02T03:04:05.678901234Z", Stream::Stdout, false, "hello world")),
        );
        check("2026-01-02T03:04:05Z stderr P part", Some(("2026-01-02T03:04:05Z", Stream::Stderr, true, "part")));
        check("2026-01-02T03:04:05Z stdout F:x tagged", Some(("2026-01-02T03:04:05Z", Stream::Stdout, false, "tagged")));
        check("2026-01-02T03:04:05Z stdout F ", Some(("2026-01-02T03:04:05Z", Stream::Stdout, false, "")));
        check("2026-01-02T03:04:05Z stdout F", Some(("2026-01-02T03:04:05Z", Stream::Stdout, false, "")));
        check("plain text", None);
        check("", None);
    }
}
