//! The image and its archive: an OCI image layout in one tar, as `ctr images import` and `skopeo` read it.

use std::io::{self, Read, Seek, SeekFrom, Write};

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use tar::Header;

use crate::{Error, Layer, digest_text};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// What a container of the image runs when its pod does not say.
#[derive(Clone, Debug, Default)]
pub struct Config {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub env: Vec<String>,
    pub user: String,
    pub working_dir: String,
    /// `SIGQUIT` and the like; empty for SIGTERM.
    pub stop_signal: String,
}

/// An image under a name, such as `docker.io/library/nginx:1.22`.
pub struct Image {
    pub reference: String,
    pub config: Config,
    pub layers: Vec<Layer>,
}

/// The architecture that this program was built for, in Go's words, as OCI spells it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl Image {
    /// Writes the archive; layers are read from their start.
    pub fn write_archive(&mut self, out: impl Write) -> Result<(), Error> {
        let config = encode(&self.config_value());
        let manifest = encode(&self.manifest_value(&config));
        let index = json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [{
                "mediaType": MANIFEST,
                "digest": digest_text(&digest(&SHA256, &manifest)),
                "size": manifest.len(),
                "platform": {"os": "linux", "architecture": architecture()},
                "annotations": {
                    "io.containerd.image.name": self.reference,
                    "org.opencontainers.image.ref.name": self.reference,
                },
            }],
        });
        let mut tar = tar::Builder::new(out);
        add(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        add(&mut tar, "index.json", &encode(&index))?;
        add(&mut tar, &blob_path(&digest_text(&digest(&SHA256, &config))), &config)?;
        add(&mut tar, &blob_path(&digest_text(&digest(&SHA256, &manifest))), &manifest)?;
        for layer in &mut self.layers {
            layer.file.seek(SeekFrom::Start(0))?;
            let mut header = header(layer.size);
            tar.append_data(&mut header, blob_path(&layer.digest), Read::by_ref(&mut layer.file).take(layer.size))?;
        }
        tar.into_inner()?.flush()?;
        Ok(())
    }

    /// The digest under which a runtime knows the image: of its configuration.
    pub fn id(&self) -> String {
        digest_text(&digest(&SHA256, &encode(&self.config_value())))
    }

    fn config_value(&self) -> Value {
        let diff_ids: Vec<&str> = self.layers.iter().map(|l| l.digest.as_str()).collect();
        let mut value = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": self.config.entrypoint,
                "Cmd": self.config.cmd,
                "Env": self.config.env,
                "User": self.config.user,
                "WorkingDir": self.config.working_dir,
            },
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        if !self.config.stop_signal.is_empty() {
            value["config"]["StopSignal"] = self.config.stop_signal.as_str().into();
        }
        value
    }

    fn manifest_value(&self, config: &[u8]) -> Value {
        let layers: Vec<Value> =
            self.layers.iter().map(|l| json!({"mediaType": LAYER, "digest": l.digest, "size": l.size})).collect();
        json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest_text(&digest(&SHA256, config)), "size": config.len()},
            "layers": layers,
        })
    }
}

fn encode(value: &Value) -> Vec<u8> {
    // A Value's keys are strings: encoding it can't fail.
    serde_json::to_vec(value).expect("a Value encodes")
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

fn header(size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn add(tar: &mut tar::Builder<impl Write>, path: &str, content: &[u8]) -> io::Result<()> {
    tar.append_data(&mut header(content.len() as u64), path, content)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::LayerBuilder;

    fn image() -> Image {
        let mut layer = LayerBuilder::new();
        layer.directory("/etc", 0o755).unwrap();
        layer.bytes("/etc/hello", 0o644, "hi\n").unwrap();
        layer.link("/hello", "etc/hello").unwrap();
        Image {
            reference: "localhost/hello:1".into(),
            config: Config { entrypoint: vec!["/hello".into()], ..Config::default() },
            layers: vec![layer.build(&std::env::temp_dir()).unwrap()],
        }
    }

    #[test]
    fn every_blob_is_there_under_its_digest() {
        let mut archive = Vec::new();
        image().write_archive(&mut archive).unwrap();
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(archive.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(entry.path().unwrap().to_string_lossy().into_owned(), content);
        }
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let entry = &index["manifests"][0];
        assert_eq!(entry["annotations"]["io.containerd.image.name"], "localhost/hello:1");
        let manifest: Value = serde_json::from_slice(&files[&blob_path(entry["digest"].as_str().unwrap())]).unwrap();
        for descriptor in [&manifest["config"], &manifest["layers"][0]] {
            let blob = &files[&blob_path(descriptor["digest"].as_str().unwrap())];
            assert_eq!(descriptor["digest"], digest_text(&digest(&SHA256, blob)));
            assert_eq!(descriptor["size"], blob.len());
        }
    }

    #[test]
    fn the_same_input_gives_the_same_image() {
        assert_eq!(image().id(), image().id());
    }

    #[test]
    fn paths_stay_inside() {
        for path in ["", "/", "../x", "/a/../../x", "a//b"] {
            assert!(matches!(LayerBuilder::new().bytes(path, 0o644, ""), Err(Error::Path(_))), "{path}");
        }
    }
}
