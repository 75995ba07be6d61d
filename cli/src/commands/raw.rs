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
    let mut body = Vec::new();
    match file {
        "" => {}
        "-" => drop(std::io::stdin().lock().take(INPUT_BYTES_MAX).read_to_end(&mut body)?),
        file => {
            let open = |error| Error::message(format!("open {file}: {}", io_text(&error)));
            std::fs::File::open(file).map_err(open)?.take(INPUT_BYTES_MAX).read_to_end(&mut body)?;
        }
    }
    let answer = session.bytes(Request::new(method, path).body(JSON, body)).await?;
    print!("{}", String::from_utf8_lossy(&answer));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
