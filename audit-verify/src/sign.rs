//! Signatures over lines of a log or of a ledger: Ed25519 (RFC 8032).
//!
//! A line is signed by what its `hash_self` would be without the member `signature`: 64 hexadecimal digits, which bind
//! every other byte of the line and, by `hash_prev`, every line before it. The message is [`CONTEXT`] and those digits,
//! so that a signature made here says nothing anywhere else. It stands in the line as 128 hexadecimal digits, beside the
//! `key_id`.
//!
//! Keys are files as openssl writes and reads them: PKCS #8 and SubjectPublicKeyInfo in PEM (RFC 8410). Where they lie,
//! and who may read them, is the business of `sandbox`.

use std::fmt;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use ed25519_dalek::{Signer as _, VerifyingKey};

use crate::Hash;
use crate::canonical::{Deviation, Member, scan};

/// What every signed message begins with.
pub const CONTEXT: &[u8] = b"sandbox line signature v1\n";

/// The key of a line that holds its signature.
pub const SIGNATURE: &str = "signature";

/// The key of a line that names the key of its signature.
pub const KEY_ID: &str = "key_id";

/// A short name of a key: the first 32 hexadecimal digits of the SHA-256 of its 32 public bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; KeyId::DIGITS]);

impl KeyId {
    /// Number of hexadecimal digits.
    pub const DIGITS: usize = 32;

    fn of(public: &[u8; 32]) -> KeyId {
        let mut digits = [0; KeyId::DIGITS];
        digits.copy_from_slice(&Hash::of(&[public]).digits()[..KeyId::DIGITS]);
        KeyId(digits)
    }

    /// Reads 32 lower-case hexadecimal digits; `None` for anything else.
    pub fn from_digits(digits: &[u8]) -> Option<KeyId> {
        let digits: [u8; KeyId::DIGITS] = digits.try_into().ok()?;
        digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')).then_some(KeyId(digits))
    }

    /// The digits as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Text that is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not a private key.
    #[error("not an Ed25519 private key in PEM (PKCS #8): {0}")]
    Private(ed25519_dalek::pkcs8::Error),
    /// Not a public key.
    #[error("not an Ed25519 public key in PEM (SubjectPublicKeyInfo): {0}")]
    Public(ed25519_dalek::pkcs8::spki::Error),
    /// A public key for which anybody can make signatures.
    #[error("a key of small order: anybody can sign for it")]
    Weak,
    /// It could not be printed.
    #[error("the key cannot be written as PEM")]
    Pem,
}

/// A key that signs. Its bytes are wiped when it goes, and it is never printed.
#[derive(Clone)]
pub struct SigningKey {
    key: ed25519_dalek::SigningKey,
    id: KeyId,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

impl SigningKey {
    /// The key that 32 secret, random bytes make.
    pub fn from_seed(seed: &[u8; 32]) -> SigningKey {
        let key = ed25519_dalek::SigningKey::from_bytes(seed);
        let id = KeyId::of(key.verifying_key().as_bytes());
        SigningKey { key, id }
    }

    /// Reads PKCS #8 in PEM.
    ///
    /// # Errors
    /// It is something else, or its two halves do not belong together.
    pub fn from_pem(pem: &str) -> Result<SigningKey, KeyError> {
        let key = ed25519_dalek::SigningKey::from_pkcs8_pem(pem).map_err(KeyError::Private)?;
        let id = KeyId::of(key.verifying_key().as_bytes());
        Ok(SigningKey { key, id })
    }

    /// PKCS #8 in PEM, the seed alone, as `openssl genpkey -algorithm ed25519` writes it. The caller keeps it secret.
    ///
    /// # Errors
    /// Never for a key that was made here.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        let pair = ed25519_dalek::pkcs8::KeypairBytes { secret_key: self.key.to_bytes(), public_key: None };
        let pem = pair.to_pkcs8_pem(LineEnding::LF).map_err(KeyError::Private)?;
        Ok(pem.as_str().to_owned())
    }

    /// The short name.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What others check signatures with.
    pub fn public(&self) -> PublicKey {
        PublicKey { key: self.key.verifying_key(), id: self.id }
    }

    /// The signature of a line: 128 hexadecimal digits. `unsigned` is the hash of the line without `hash_self` and
    /// without `signature`.
    pub fn sign(&self, unsigned: &Hash) -> String {
        self.key.sign(&message(unsigned)).to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A key that checks signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    key: VerifyingKey,
    id: KeyId,
}

impl PublicKey {
    /// Reads SubjectPublicKeyInfo in PEM.
    ///
    /// # Errors
    /// It is something else, or no key that can be trusted.
    pub fn from_pem(pem: &str) -> Result<PublicKey, KeyError> {
        let key = VerifyingKey::from_public_key_pem(pem).map_err(KeyError::Public)?;
        if key.is_weak() {
            return Err(KeyError::Weak);
        }
        Ok(PublicKey { key, id: KeyId::of(key.as_bytes()) })
    }

    /// SubjectPublicKeyInfo in PEM.
    ///
    /// # Errors
    /// Never for a key that was read here.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        self.key.to_public_key_pem(LineEnding::LF).map_err(|_| KeyError::Pem)
    }

    /// The short name.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Whether `signature` (128 hexadecimal digits) is this key's over the line whose hash without it is `unsigned`.
    pub fn verifies(&self, unsigned: &Hash, signature: &[u8]) -> bool {
        let Some(bytes) = signature_bytes(signature) else { return false };
        let signature = ed25519_dalek::Signature::from_bytes(&bytes);
        // Strictly: one message has one signature of a key, and no other bytes pass for it.
        self.key.verify_strict(&message(unsigned), &signature).is_ok()
    }
}

fn message(unsigned: &Hash) -> Vec<u8> {
    [CONTEXT, unsigned.digits()].concat()
}

fn signature_bytes(digits: &[u8]) -> Option<[u8; 64]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 64];
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// What a line says about its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedLine<'l> {
    /// The hash that was signed.
    pub unsigned: Hash,
    /// Its signature, as it stands there.
    pub signature: Option<&'l [u8]>,
    /// The key that it names, if that is a name of a key.
    pub key_id: Option<KeyId>,
}

impl<'l> SignedLine<'l> {
    /// Reads a line, without its newline.
    ///
    /// # Errors
    /// It is not canonical.
    pub fn read(line: &'l [u8]) -> Result<SignedLine<'l>, Deviation> {
        let mut cuts: Vec<(usize, usize)> = Vec::new();
        let (mut signature, mut key_id) = (None, None);
        scan(line, |Member { key, raw, start, end }| match key {
            "hash_self" => cuts.push((start, end)),
            SIGNATURE => {
                cuts.push((start, end));
                signature = raw.as_text();
            }
            KEY_ID => key_id = raw.as_text().and_then(KeyId::from_digits),
            _ => {}
        })?;
        // With each member goes the separator before it, or behind it where it is the first.
        let mut parts: Vec<&[u8]> = Vec::new();
        let mut from = 0;
        for (start, end) in cuts {
            let first = start == 1;
            parts.push(&line[from..if first { start } else { start - b", ".len() }]);
            from = if first && line.get(end) == Some(&b',') { end + b", ".len() } else { end };
        }
        parts.push(&line[from..]);
        Ok(SignedLine { unsigned: Hash::of(&parts), signature, key_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::ChainWriter;

    fn key(byte: u8) -> SigningKey {
        SigningKey::from_seed(&[byte; 32])
    }

    #[test]
    fn keys_come_back_from_their_files() {
        let key = key(7);
        let again = SigningKey::from_pem(&key.to_pem().unwrap()).unwrap();
        assert_eq!(again.id(), key.id());
        let public = PublicKey::from_pem(&key.public().to_pem().unwrap()).unwrap();
        assert_eq!(public, key.public());
        assert!(SigningKey::from_pem(&key.public().to_pem().unwrap()).is_err());
        assert!(PublicKey::from_pem(&key.to_pem().unwrap()).is_err());
        assert!(PublicKey::from_pem("").is_err());
        assert_eq!(format!("{key:?}"), format!("SigningKey({})", key.id()));
    }

    #[test]
    fn a_line_is_signed_without_its_hash_and_its_signature() {
        let mut chain = ChainWriter::default();
        for keys in [&["a", "key_id"][..], &["a", "key_id", "z"], &["z"], &[]] {
            let unsigned = chain
                .clone()
                .append(|event| keys.iter().for_each(|key| _ = event.put(key, 1)))
                .map(|line| Hash::of(&[&without(line, "hash_self")]))
                .unwrap();
            let signature = key(1).sign(&unsigned);
            let mut all = [keys, &[SIGNATURE]].concat();
            all.sort_unstable();
            let line = chain
                .append(|event| {
                    for key in &all {
                        match *key {
                            SIGNATURE => event.put(key, signature.as_str()),
                            key => event.put(key, 1),
                        };
                    }
                })
                .unwrap();
            let read = SignedLine::read(line.strip_suffix(b"\n").unwrap()).unwrap();
            assert_eq!(read.unsigned, unsigned, "{keys:?}");
            assert!(key(1).public().verifies(&read.unsigned, read.signature.unwrap()));
            assert!(!key(2).public().verifies(&read.unsigned, read.signature.unwrap()));
        }
    }

    #[test]
    fn every_other_signature_is_refused() {
        let (key, hash) = (key(3), Hash::of(&[b"x"]));
        let signature = key.sign(&hash);
        assert!(key.public().verifies(&hash, signature.as_bytes()));
        assert!(!key.public().verifies(&Hash::of(&[b"y"]), signature.as_bytes()));
        for at in 0..signature.len() {
            let mut other = signature.clone().into_bytes();
            other[at] = if other[at] == b'0' { b'1' } else { b'0' };
            assert!(!key.public().verifies(&hash, &other), "digit {at}");
        }
        for other in ["", "00", &signature.to_uppercase(), &signature[2..], &format!("{signature}00")] {
            assert!(!key.public().verifies(&hash, other.as_bytes()));
        }
    }

    fn without(line: &[u8], key: &str) -> Vec<u8> {
        let mut out = Vec::new();
        crate::python::Object::parse(line).unwrap().print_without(key, &mut out);
        out
    }
}
