//! Certificate authorities, certificates, signing requests, service account tokens, kubeconfigs.
