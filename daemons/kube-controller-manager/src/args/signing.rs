//! `--cluster-signing-…`: the authorities that sign what is approved.

use std::path::PathBuf;
use std::time::Duration;

use crate::settings::{Signing, SigningFiles};
use daemon::duration;

/// One authority for all signers, or one for each.
#[derive(Clone, Debug, clap::Args)]
pub struct SigningArgs {
    /// Certificate of the authority that signs for all signers.
    #[arg(long, value_name = "FILE")]
    pub cluster_signing_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE")]
    pub cluster_signing_key_file: Option<PathBuf>,
    /// Certificate of the authority of kubernetes.io/kubelet-serving alone.
    #[arg(long, value_name = "FILE")]
    pub cluster_signing_kubelet_serving_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE")]
    pub cluster_signing_kubelet_serving_key_file: Option<PathBuf>,
    /// Certificate of the authority of kubernetes.io/kube-apiserver-client-kubelet alone.
    #[arg(long, value_name = "FILE")]
    pub cluster_signing_kubelet_client_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE")]
    pub cluster_signing_kubelet_client_key_file: Option<PathBuf>,
    /// Certificate of the authority of kubernetes.io/kube-apiserver-client alone.
    #[arg(long, value_name = "FILE")]
    pub cluster_signing_kube_apiserver_client_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE")]
    pub cluster_signing_kube_apiserver_client_key_file: Option<PathBuf>,
    /// Certificate of the authority of kubernetes.io/legacy-unknown alone, which no request of certificates.k8s.io/v1 may name.
    #[arg(long, value_name = "FILE")]
    pub cluster_signing_legacy_unknown_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE")]
    pub cluster_signing_legacy_unknown_key_file: Option<PathBuf>,
    /// For how long certificates are signed at most, e.g. 8760h0m0s.
    #[arg(long, default_value = "8760h0m0s", value_parser = duration::parse, value_name = "DURATION")]
    pub cluster_signing_duration: Duration,
}

impl SigningArgs {
    /// Who signs with what.
    pub fn signing(&self) -> anyhow::Result<Signing> {
        let all = pair("", &self.cluster_signing_cert_file, &self.cluster_signing_key_file)?;
        let own = Signing {
            kubelet_serving: pair(
                "kubelet-serving-",
                &self.cluster_signing_kubelet_serving_cert_file,
                &self.cluster_signing_kubelet_serving_key_file,
            )?,
            kubelet_client: pair(
                "kubelet-client-",
                &self.cluster_signing_kubelet_client_cert_file,
                &self.cluster_signing_kubelet_client_key_file,
            )?,
            client: pair(
                "kube-apiserver-client-",
                &self.cluster_signing_kube_apiserver_client_cert_file,
                &self.cluster_signing_kube_apiserver_client_key_file,
            )?,
        };
        let legacy = pair(
            "legacy-unknown-",
            &self.cluster_signing_legacy_unknown_cert_file,
            &self.cluster_signing_legacy_unknown_key_file,
        )?;
        if all.is_none() {
            return Ok(own);
        }
        anyhow::ensure!(
            own == Signing::default() && legacy.is_none(),
            "cannot specify default and per controller certs at the same time: --cluster-signing-cert-file and one for a signer"
        );
        Ok(Signing { kubelet_client: all.clone(), kubelet_serving: all.clone(), client: all })
    }
}

/// The two files of an authority; an empty name is none.
fn pair(signer: &str, certificate: &Option<PathBuf>, key: &Option<PathBuf>) -> anyhow::Result<Option<SigningFiles>> {
    let given = |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
    match (given(certificate), given(key)) {
        (Some(certificate), Some(key)) => Ok(Some(SigningFiles { certificate, key })),
        (None, None) => Ok(None),
        _ => anyhow::bail!("--cluster-signing-{signer}cert-file and --cluster-signing-{signer}key-file go together"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::Args;

    #[test]
    fn who_signs() {
        let signing = |flags: &[&str]| {
            let flags = flags.iter().flat_map(|name| {
                [format!("--cluster-signing-{name}cert-file={name}c"), format!("--cluster-signing-{name}key-file={name}k")]
            });
            let args = Args::parse_from(std::iter::once("kube-controller-manager".to_owned()).chain(flags));
            let files = |files: Option<SigningFiles>| files.map_or(String::new(), |f| f.certificate.display().to_string());
            let signing = args.signing.signing().map_err(|error| error.to_string())?;
            Ok::<_, String>([signing.kubelet_client, signing.kubelet_serving, signing.client].map(files))
        };
        let of = |names: [&str; 3]| Ok(names.map(str::to_owned));
        assert_eq!(signing(&[]), of(["", "", ""]));
        assert_eq!(signing(&[""]), of(["c", "c", "c"]));
        assert_eq!(signing(&["kubelet-client-"]), of(["kubelet-client-c", "", ""]));
        let two = signing(&["kubelet-serving-", "kube-apiserver-client-"]);
        assert_eq!(two, of(["", "kubelet-serving-c", "kube-apiserver-client-c"]));
        assert_eq!(signing(&["legacy-unknown-"]), of(["", "", ""]));
        for other in ["kubelet-client-", "legacy-unknown-"] {
            assert!(signing(&["", other]).unwrap_err().contains("at the same time"), "{other}");
        }
    }

    #[test]
    fn half_a_pair() {
        let args = Args::parse_from(["kube-controller-manager", "--cluster-signing-kubelet-client-cert-file=c"]);
        let error = args.signing.signing().unwrap_err().to_string();
        assert_eq!(error, "--cluster-signing-kubelet-client-cert-file and --cluster-signing-kubelet-client-key-file go together");
    }
}
