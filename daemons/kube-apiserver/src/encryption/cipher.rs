//! The ciphers of encryption at rest, in upstream's forms, so that either server reads what the other wrote.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use aes::{Aes128, Aes192, Aes256};
use aes_gcm::AesGcm;
use crypto_secretbox::aead::consts::U12;
use crypto_secretbox::aead::{Aead, Payload};
use crypto_secretbox::{KeyInit, XSalsa20Poly1305};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

const BLOCK_BYTES: usize = 16;
const BOX_NONCE_BYTES: usize = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    AesCbc,
    AesGcm,
    Secretbox,
}

impl Algorithm {
    pub fn name(self) -> &'static str {
        match self {
            Self::AesCbc => "aescbc",
            Self::AesGcm => "aesgcm",
            Self::Secretbox => "secretbox",
        }
    }

    /// The lengths a key may have, in bytes.
    pub fn key_bytes(self) -> &'static [usize] {
        match self {
            Self::AesCbc => &[16, 24, 32],
            Self::AesGcm => &[16, 24, 32],
            Self::Secretbox => &[32],
        }
    }
}

/// A key for its algorithm. No Debug.
pub enum Cipher {
    AesCbc(Vec<u8>),
    AesGcm(Box<LessSafeKey>),
    /// Of 24 bytes, which the other implementation does not have.
    AesGcm192(Box<AesGcm<Aes192, U12>>),
    Secretbox(Box<XSalsa20Poly1305>),
}

impl Cipher {
    /// None when the key has the wrong length.
    pub fn new(algorithm: Algorithm, key: &[u8]) -> Option<Self> {
        if !algorithm.key_bytes().contains(&key.len()) {
            return None;
        }
        Some(match algorithm {
            Algorithm::AesCbc => Self::AesCbc(key.to_vec()),
            Algorithm::AesGcm if key.len() == 24 => Self::AesGcm192(Box::new(AesGcm::new_from_slice(key).ok()?)),
            Algorithm::AesGcm => {
                let aead = if key.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
                Self::AesGcm(Box::new(LessSafeKey::new(UnboundKey::new(aead, key).ok()?)))
            }
            Algorithm::Secretbox => Self::Secretbox(Box::new(XSalsa20Poly1305::new_from_slice(key).ok()?)),
        })
    }

    /// The nonce, and what it and the key make of `plain`. `place` is where the value is kept: AES-GCM binds it to that.
    /// None when the kernel has no randomness.
    pub fn seal(&self, place: &str, plain: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        let nonce_of = |bytes: usize| {
            let mut nonce = vec![0; bytes];
            random.fill(&mut nonce).ok().map(|()| nonce)
        };
        match self {
            Self::AesCbc(key) => {
                let mut out = nonce_of(BLOCK_BYTES)?;
                let sealed = match key.len() {
                    16 => cbc_seal::<Aes128>(key, &out, plain),
                    24 => cbc_seal::<Aes192>(key, &out, plain),
                    _ => cbc_seal::<Aes256>(key, &out, plain),
                };
                out.extend(sealed?);
                Some(out)
            }
            Self::AesGcm(key) => {
                let mut out = nonce_of(NONCE_LEN)?;
                let nonce = Nonce::try_assume_unique_for_key(&out).ok()?;
                let mut sealed = plain.to_vec();
                key.seal_in_place_append_tag(nonce, Aad::from(place.as_bytes()), &mut sealed).ok()?;
                out.extend(sealed);
                Some(out)
            }
            Self::AesGcm192(key) => {
                let mut out = nonce_of(NONCE_LEN)?;
                let payload = Payload { msg: plain, aad: place.as_bytes() };
                let sealed = key.encrypt(aes_gcm::Nonce::from_slice(&out), payload).ok()?;
                out.extend(sealed);
                Some(out)
            }
            Self::Secretbox(key) => {
                let mut out = nonce_of(BOX_NONCE_BYTES)?;
                let sealed = key.encrypt(crypto_secretbox::Nonce::from_slice(&out), plain).ok()?;
                out.extend(sealed);
                Some(out)
            }
        }
    }

    /// None when it was not sealed by this key, in this place.
    pub fn open(&self, place: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::AesCbc(key) => {
                let (nonce, sealed) = sealed.split_at_checked(BLOCK_BYTES)?;
                match key.len() {
                    16 => cbc_open::<Aes128>(key, nonce, sealed),
                    24 => cbc_open::<Aes192>(key, nonce, sealed),
                    _ => cbc_open::<Aes256>(key, nonce, sealed),
                }
            }
            Self::AesGcm(key) => {
                let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
                let mut plain = sealed.to_vec();
                let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
                let length = key.open_in_place(nonce, Aad::from(place.as_bytes()), &mut plain).ok()?.len();
                plain.truncate(length);
                Some(plain)
            }
            Self::AesGcm192(key) => {
                let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
                key.decrypt(aes_gcm::Nonce::from_slice(nonce), Payload { msg: sealed, aad: place.as_bytes() }).ok()
            }
            Self::Secretbox(key) => {
                let (nonce, sealed) = sealed.split_at_checked(BOX_NONCE_BYTES)?;
                key.decrypt(crypto_secretbox::Nonce::from_slice(nonce), sealed).ok()
            }
        }
    }
}

fn cbc_seal<C>(key: &[u8], nonce: &[u8], plain: &[u8]) -> Option<Vec<u8>>
where
    C: aes::cipher::BlockCipher + aes::cipher::BlockEncryptMut,
    cbc::Encryptor<C>: KeyIvInit,
{
    Some(cbc::Encryptor::<C>::new_from_slices(key, nonce).ok()?.encrypt_padded_vec_mut::<Pkcs7>(plain))
}

fn cbc_open<C>(key: &[u8], nonce: &[u8], sealed: &[u8]) -> Option<Vec<u8>>
where
    C: aes::cipher::BlockCipher + aes::cipher::BlockDecryptMut,
    cbc::Decryptor<C>: KeyIvInit,
{
    cbc::Decryptor::<C>::new_from_slices(key, nonce).ok()?.decrypt_padded_vec_mut::<Pkcs7>(sealed).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_and_opened() {
        for algorithm in [Algorithm::AesCbc, Algorithm::AesGcm, Algorithm::Secretbox] {
            for length in algorithm.key_bytes() {
                let (ours, theirs) = (vec![7; *length], vec![8; *length]);
                let (ours, theirs) = (Cipher::new(algorithm, &ours).unwrap(), Cipher::new(algorithm, &theirs).unwrap());
                for plain in [&b""[..], b"x", &[5; 16], &[9; 5000]] {
                    let sealed = ours.seal("/a", plain).unwrap();
                    assert_ne!(sealed, ours.seal("/a", plain).unwrap(), "a nonce is used once");
                    assert_eq!(ours.open("/a", &sealed).as_deref(), Some(plain), "{algorithm:?}");
                    assert_ne!(theirs.open("/a", &sealed).as_deref(), Some(plain), "{algorithm:?}");
                    assert_eq!(ours.open("/a", &sealed[..5]), None);
                    if algorithm == Algorithm::AesGcm {
                        assert_eq!(ours.open("/b", &sealed), None, "it was moved");
                    }
                }
            }
            assert!(Cipher::new(algorithm, &[0; 5]).is_none());
        }
    }

    #[test]
    fn known_answers() {
        // NIST SP 800-38A, F.2.1, the first block, with the padding that follows it.
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
        };
        let cipher = Cipher::new(Algorithm::AesCbc, &hex("2b7e151628aed2a6abf7158809cf4f3c")).unwrap();
        let (nonce, plain) = (hex("000102030405060708090a0b0c0d0e0f"), hex("6bc1bee22e409f96e93d7e117393172a"));
        let block = hex("7649abac8119b246cee98e9b12e9197d");
        let Cipher::AesCbc(key) = &cipher else { unreachable!("as made") };
        assert_eq!(cbc_seal::<Aes128>(key, &nonce, &plain).unwrap()[..16], block);
        // NaCl's own test of secretbox: the first bytes of the box.
        let key = hex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389");
        let nonce = hex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37");
        let sealed = [
            nonce,
            hex("f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186ac0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5"),
        ]
        .concat();
        let opened = Cipher::new(Algorithm::Secretbox, &key).unwrap().open("", &sealed).unwrap();
        assert_eq!(opened[..8], hex("be075fc53c81f2d5"));
    }
}
