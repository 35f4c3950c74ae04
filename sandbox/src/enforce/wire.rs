//! Paths in messages between the processes of a run: a path is bytes, and JSON's text is not.
//!
//! What is UTF-8 is text there, which is shorter; all else is an array of bytes. So no name that a run makes keeps a later
//! one from starting.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize)]
#[serde(untagged)]
enum Given<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Taken {
    Text(String),
    Bytes(Vec<u8>),
}

impl<'a> From<&'a Path> for Given<'a> {
    fn from(path: &'a Path) -> Self {
        match path.to_str() {
            Some(text) => Given::Text(text),
            None => Given::Bytes(path.as_os_str().as_bytes()),
        }
    }
}

impl From<Taken> for PathBuf {
    fn from(taken: Taken) -> Self {
        match taken {
            Taken::Text(text) => text.into(),
            Taken::Bytes(bytes) => OsString::from_vec(bytes).into(),
        }
    }
}

/// One path: `#[serde(with = "wire::path")]`.
pub(super) mod path {
    use super::{Deserialize, Deserializer, Given, Path, PathBuf, Serialize, Serializer, Taken};

    /// As text or bytes.
    pub(in crate::enforce) fn serialize<S: Serializer>(
        path: &Path,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        Given::from(path).serialize(serializer)
    }

    /// From either.
    pub(in crate::enforce) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PathBuf, D::Error> {
        Ok(Taken::deserialize(deserializer)?.into())
    }
}

/// Several: `#[serde(with = "wire::paths")]`.
pub(super) mod paths {
    use super::{Deserialize, Deserializer, Given, PathBuf, Serializer, Taken};

    /// Each as text or bytes.
    pub(in crate::enforce) fn serialize<S: Serializer>(
        paths: &[PathBuf],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(paths.iter().map(|path| Given::from(path.as_path())))
    }

    /// Each from either.
    pub(in crate::enforce) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<PathBuf>, D::Error> {
        Ok(Vec::<Taken>::deserialize(deserializer)?.into_iter().map(PathBuf::from).collect())
    }
}

/// Several, each with something: `#[serde(with = "wire::by_path")]`.
pub(super) mod by_path {
    use super::{Deserialize, Deserializer, Given, PathBuf, Serialize, Serializer, Taken};

    /// Each as text or bytes.
    pub(in crate::enforce) fn serialize<S: Serializer, T: Serialize>(
        all: &[(PathBuf, T)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(all.iter().map(|(path, what)| (Given::from(path.as_path()), what)))
    }

    /// Each from either.
    pub(in crate::enforce) fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
        deserializer: D,
    ) -> Result<Vec<(PathBuf, T)>, D::Error> {
        let all = Vec::<(Taken, T)>::deserialize(deserializer)?;
        Ok(all.into_iter().map(|(path, what)| (path.into(), what)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Message {
        #[serde(with = "super::path")]
        one: PathBuf,
        #[serde(with = "super::paths")]
        several: Vec<PathBuf>,
        #[serde(with = "super::by_path")]
        with: Vec<(PathBuf, u8)>,
    }

    #[test]
    fn every_name_arrives_as_it_was() {
        let odd = || PathBuf::from(OsString::from_vec(b"/d\xff/\x01\"\n".to_vec()));
        let message = Message {
            one: odd(),
            several: vec!["/plain".into(), odd(), "/é".into(), PathBuf::new()],
            with: vec![(odd(), 1), ("/plain".into(), 2)],
        };
        let sent = serde_json::to_string(&message).unwrap();
        assert!(sent.contains("\"/plain\""), "{sent}");
        assert_eq!(serde_json::from_str::<Message>(&sent).unwrap(), message);
    }
}
