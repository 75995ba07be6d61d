//! `--raw`: requests to any path of the server, with a file as it is for their body.

use std::io::Read;

use reqwest::Method;

use crate::kube::{Error, Files, Request, Result, Session, error::io_text, session::JSON};

/// Most that is read.
const INPUT_BYTES_MAX: u64 = 64 << 20;

/// Whether these flags can go with `--raw`.
///
/// # Errors
/// They cannot, and why.
pub fn check(path: &str, files: &Files, output: Option<&str>) -> Result<()> {
    let from_url = |name: &String| name.starts_with("http://") || name.starts_with("https://");
    let why = if files.filenames.len() > 1 {
        "--raw can only use a single local file or stdin".to_owned()
    } else if files.filenames.iter().any(from_url) {
        "--raw cannot read from a url".to_owned()
    } else if files.recursive {
        "--raw and --recursive are mutually exclusive".to_owned()
    } else if output.is_some_and(|output| !output.is_empty()) {
        "--raw and --output are mutually exclusive".to_owned()
    } else if !path.starts_with('/') {
        format!("--raw must be a valid URL path: parse {path:?}: invalid URI for request")
    } else {
        return Ok(());
    };
    Err(Error::message(why))
}

/// Sends a file to a path, and prints the answer. An empty name is no body.
///
/// # Errors
/// When the file cannot be read, or the server refuses.
pub async fn send(session: &Session, method: Method, path: &str, file: &str) -> Result<()> {
    let body = match file {
        "" => Vec::new(),
        "-" => whole(std::io::stdin().lock())?,
        file => {
            let open = |error| Error::message(format!("open {file}: {}", io_text(&error)));
            whole(std::fs::File::open(file).map_err(open)?)?
        }
    };
    let answer = session.bytes(Request::new(method, path).body(JSON, body)).await?;
    print!("{}", String::from_utf8_lossy(&answer));
    Ok(())
}

/// Everything that can be read; too much is an error, not cut off.
fn whole(from: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > INPUT_BYTES_MAX {
        return Err(Error::message(format!("the input has more than {INPUT_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_cut_off() {
        assert_eq!(whole(&b"abc"[..]).unwrap(), b"abc");
        assert!(whole(std::io::repeat(0)).is_err());
    }

    #[test]
    fn what_goes_with_it() {
        let check = |path: &str, files: &[&str], output: Option<&str>, want: &str| {
            let files = Files { filenames: files.iter().map(|&file| file.to_owned()).collect(), ..Files::default() };
            let got = check(path, &files, output).map_err(|error| error.bare()).err().unwrap_or_default();
            assert_eq!(got, want, "{path} {files:?}");
        };
        check("/api/v1/pods", &["a.json"], None, "");
        check("/api/v1/pods", &[], Some(""), "");
        check("/api", &["a", "b"], None, "--raw can only use a single local file or stdin");
        check("/api", &["https://example.com/a"], None, "--raw cannot read from a url");
        check("/api", &["a"], Some("json"), "--raw and --output are mutually exclusive");
        check("api", &["a"], None, "--raw must be a valid URL path: parse \"api\": invalid URI for request");
    }
}
