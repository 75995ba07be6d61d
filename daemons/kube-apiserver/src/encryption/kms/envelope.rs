//! The stored form: a value sealed by a key that only its sealed seed gives.

use kms::Message;
use kms::v2::{EncryptedDekSourceType, EncryptedObject};
use machinery::field::aggregate;
use machinery::names::dns1123_subdomain;
use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use ring::hkdf::{HKDF_SHA256, Prk};
use ring::rand::{SecureRandom, SystemRandom};

use crate::encryption::cipher::{Algorithm, Cipher};

pub const SEED_BYTES: usize = 32;
/// What tells one derived key from the others; kept before the sealed value.
const INFO_BYTES: usize = 32;
const SOURCE_BYTES_MAX: usize = 1024;
const KEY_ID_BYTES_MAX: usize = 1024;
const ANNOTATIONS_BYTES_MAX: usize = 32 * 1024;

/// What the keys of values come from. No Debug.
pub enum Source {
    Seed(Prk),
    /// One key for many values: as upstream wrote before v1.29. It is read, never written with.
    Key(Cipher),
}

impl Source {
    /// # Errors
    /// What the plugin gave back cannot have been a source.
    pub fn new(kind: EncryptedDekSourceType, plain: &[u8]) -> Result<Self, String> {
        match kind {
            EncryptedDekSourceType::HkdfSha256XnonceAesGcmSeed if plain.len() < SEED_BYTES => {
                Err(format!("invalid seed length {} used for key generation", plain.len()))
            }
            EncryptedDekSourceType::HkdfSha256XnonceAesGcmSeed => Ok(Self::Seed(Prk::new_less_safe(HKDF_SHA256, plain))),
            EncryptedDekSourceType::AesGcmKey => {
                let key = Cipher::new(Algorithm::AesGcm, plain);
                key.map(Self::Key).ok_or_else(|| format!("crypto/aes: invalid key size {}", plain.len()))
            }
        }
    }

    /// None when the kernel has no randomness, or for a source that is only read.
    pub fn seal(&self, place: &str, plain: &[u8]) -> Option<Vec<u8>> {
        let Self::Seed(seed) = self else { return None };
        let mut out = vec![0; INFO_BYTES];
        SystemRandom::new().fill(&mut out).ok()?;
        let sealed = derived(seed, &out)?.seal(place, plain)?;
        out.extend(sealed);
        Some(out)
    }

    /// None when it was not sealed by this source, in this place.
    pub fn open(&self, place: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Key(key) => key.open(place, sealed),
            Self::Seed(seed) => {
                let (info, sealed) = sealed.split_at_checked(INFO_BYTES)?;
                derived(seed, info)?.open(place, sealed)
            }
        }
    }
}

/// HKDF's second step alone: the seed is as random as what its first step would make of it.
fn derived(seed: &Prk, info: &[u8]) -> Option<Cipher> {
    let info = [info];
    let key = seed.expand(&info, &AES_256_GCM).ok()?;
    Some(Cipher::AesGcm(Box::new(LessSafeKey::new(UnboundKey::from(key)))))
}

/// # Errors
/// In upstream's words.
pub fn decode(bytes: &[u8]) -> Result<EncryptedObject, String> {
    let object = EncryptedObject::decode(bytes).map_err(|error| error.to_string())?;
    if object.encrypted_data.is_empty() {
        return Err("encrypted data is empty".to_owned());
    }
    validate(&object)?;
    Ok(object)
}

/// What a plugin may give, besides the data.
pub fn validate(object: &EncryptedObject) -> Result<(), String> {
    if EncryptedDekSourceType::try_from(object.encrypted_dek_source_type).is_err() {
        return Err(format!("unknown encryptedDEKSourceType: {}", object.encrypted_dek_source_type));
    }
    let source = match object.encrypted_dek_source.len() {
        0 => Some("encrypted DEK source is empty".to_owned()),
        n if n > SOURCE_BYTES_MAX => {
            Some(format!("encrypted DEK source is {n} bytes, which exceeds the max size of {SOURCE_BYTES_MAX}"))
        }
        _ => None,
    };
    if let Some(why) = source {
        return Err(format!("failed to validate encrypted DEK source: {why}"));
    }
    validate_key_id(&object.key_id).map_err(|why| format!("failed to validate key id: {why}"))?;
    let mut faults: Vec<String> = object.annotations.keys().filter_map(|name| not_qualified(name)).collect();
    faults.sort_unstable();
    let bytes: usize = object.annotations.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > ANNOTATIONS_BYTES_MAX {
        faults.push(format!("total size of annotations is {bytes}, which exceeds the max size of {ANNOTATIONS_BYTES_MAX}"));
    }
    if faults.is_empty() { Ok(()) } else { Err(format!("failed to validate annotations: {}", aggregate(faults))) }
}

/// # Errors
/// In upstream's words.
pub fn validate_key_id(id: &str) -> Result<(), String> {
    match id.len() {
        0 => Err("keyID is empty".to_owned()),
        n if n > KEY_ID_BYTES_MAX => Err(format!("keyID is {n} bytes, which exceeds the max size of {KEY_ID_BYTES_MAX}")),
        _ => Ok(()),
    }
}

fn not_qualified(name: &str) -> Option<String> {
    let invalid = |why: &str| Some(format!("annotations: Invalid value: {name:?}: {why}"));
    let domain = name.strip_suffix('.').unwrap_or(name);
    match dns1123_subdomain(domain).first() {
        _ if name.is_empty() => Some("annotations: Required value".to_owned()),
        Some(why) => invalid(why),
        None if !domain.contains('.') => invalid("should be a domain with at least two segments separated by dots"),
        None => None,
    }
}

/// Names a source, whatever it seals.
pub type SourceName = [u8; SHA256_OUTPUT_LEN];

pub fn name_of(object: &EncryptedObject) -> SourceName {
    let mut context = Context::new(&SHA256);
    let mut part = |bytes: &[u8]| {
        // No length is beyond what was validated.
        context.update(&(bytes.len() as u64).to_be_bytes());
        context.update(bytes);
    };
    part(&object.encrypted_dek_source_type.to_be_bytes());
    part(&object.encrypted_dek_source);
    part(object.key_id.as_bytes());
    let mut annotations: Vec<_> = object.annotations.iter().collect();
    annotations.sort_unstable();
    for (name, value) in annotations {
        part(name.as_bytes());
        part(value);
    }
    let mut out = SourceName::default();
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: EncryptedDekSourceType = EncryptedDekSourceType::HkdfSha256XnonceAesGcmSeed;

    fn object() -> EncryptedObject {
        EncryptedObject {
            encrypted_data: vec![1],
            key_id: "k".into(),
            encrypted_dek_source: vec![2],
            annotations: [("a.example.com".to_owned(), vec![3])].into(),
            encrypted_dek_source_type: SEED.into(),
        }
    }

    #[test]
    fn sealed_and_opened() {
        let (ours, theirs) = (Source::new(SEED, &[7; 32]).unwrap(), Source::new(SEED, &[8; 32]).unwrap());
        let sealed = ours.seal("/a", b"plain").unwrap();
        assert_eq!(sealed.len(), INFO_BYTES + 12 + 5 + 16);
        assert_ne!(sealed, ours.seal("/a", b"plain").unwrap(), "a key is used once");
        assert_eq!(ours.open("/a", &sealed).unwrap(), b"plain");
        for other in [ours.open("/b", &sealed), theirs.open("/a", &sealed), ours.open("/a", &sealed[..40]), ours.open("/a", b"")]
        {
            assert_eq!(other, None);
        }
        assert!(matches!(Source::new(SEED, &[7; 31]), Err(why) if why.contains("invalid seed length 31")));
    }

    #[test]
    fn a_key_for_many_values_is_only_read() {
        let key = Source::new(EncryptedDekSourceType::AesGcmKey, &[7; 32]).unwrap();
        let sealed = Cipher::new(Algorithm::AesGcm, &[7; 32]).unwrap().seal("/a", b"plain").unwrap();
        assert_eq!(key.open("/a", &sealed).unwrap(), b"plain");
        assert_eq!(key.seal("/a", b"plain"), None);
        assert!(Source::new(EncryptedDekSourceType::AesGcmKey, &[7; 31]).is_err());
    }

    /// RFC 5869, A.1, the second step, cut to the length of a key.
    #[test]
    fn derived_keys_are_hkdf() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
        };
        let prk = hex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5");
        let okm = hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf");
        let derived = derived(&Prk::new_less_safe(HKDF_SHA256, &prk), &hex("f0f1f2f3f4f5f6f7f8f9")).unwrap();
        let sealed = Cipher::new(Algorithm::AesGcm, &okm).unwrap().seal("/a", b"x").unwrap();
        assert_eq!(derived.open("/a", &sealed).unwrap(), b"x");
    }

    #[test]
    fn what_may_be_stored() {
        let check = |change: fn(&mut EncryptedObject), expected: &str| {
            let mut object = object();
            change(&mut object);
            let got = decode(&object.encode_to_vec()).map(|_| String::new()).unwrap_or_else(|why| why);
            assert_eq!(got, expected);
        };
        check(|_| {}, "");
        check(|o| o.encrypted_data.clear(), "encrypted data is empty");
        check(|o| o.encrypted_dek_source_type = 2, "unknown encryptedDEKSourceType: 2");
        check(|o| o.encrypted_dek_source.clear(), "failed to validate encrypted DEK source: encrypted DEK source is empty");
        check(
            |o| o.encrypted_dek_source = vec![0; 1025],
            "failed to validate encrypted DEK source: encrypted DEK source is 1025 bytes, which exceeds the max size of 1024",
        );
        check(|o| o.key_id.clear(), "failed to validate key id: keyID is empty");
        check(
            |o| o.annotations = [("plain".to_owned(), Vec::new())].into(),
            "failed to validate annotations: annotations: Invalid value: \"plain\": should be a domain with at least two segments separated by dots",
        );
        check(
            |o| o.annotations = [("a.b".to_owned(), vec![0; 32 * 1024])].into(),
            "failed to validate annotations: total size of annotations is 32771, which exceeds the max size of 32768",
        );
        assert!(decode(b"\xff").is_err());
    }

    #[test]
    fn sources_have_names_of_their_own() {
        let name = name_of(&object());
        assert_eq!(name, name_of(&EncryptedObject { encrypted_data: vec![9], ..object() }), "whatever they seal");
        for other in [
            EncryptedObject { key_id: "j".into(), ..object() },
            EncryptedObject { encrypted_dek_source: vec![4], ..object() },
            EncryptedObject { encrypted_dek_source_type: 0, ..object() },
            EncryptedObject { annotations: [("a.example.com".to_owned(), vec![4])].into(), ..object() },
        ] {
            assert_ne!(name, name_of(&other));
        }
    }
}
