//! Bytes that are text nearly always - file names, paths - in JSON: a plain string where they are
//! UTF-8, `{"hex": ".."}` where not, so that every name that Linux allows comes back exactly.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use ahoy_wire::sync::{Name, RelPath, escape_for_people};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

/// Exact bytes; printing escapes what could move a cursor or reorder a line.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "InJson", into = "InJson")]
pub struct Exact(pub Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum InJson {
    Text(String),
    Bytes(Hex),
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "InHex", into = "InHex")]
struct Hex(Vec<u8>);

#[derive(Serialize, Deserialize)]
struct InHex {
    hex: String,
}

impl TryFrom<InHex> for Hex {
    type Error = data_encoding::DecodeError;
    fn try_from(text: InHex) -> Result<Self, Self::Error> {
        HEXLOWER.decode(text.hex.as_bytes()).map(Self)
    }
}

impl From<Hex> for InHex {
    fn from(bytes: Hex) -> Self {
        Self {
            hex: HEXLOWER.encode(&bytes.0),
        }
    }
}

impl From<InJson> for Exact {
    fn from(json: InJson) -> Self {
        match json {
            InJson::Text(text) => Self(text.into_bytes()),
            InJson::Bytes(Hex(bytes)) => Self(bytes),
        }
    }
}

impl From<Exact> for InJson {
    fn from(exact: Exact) -> Self {
        match String::from_utf8(exact.0) {
            Ok(text) => Self::Text(text),
            Err(error) => Self::Bytes(Hex(error.into_bytes())),
        }
    }
}

impl From<&Path> for Exact {
    fn from(path: &Path) -> Self {
        Self(path.as_os_str().as_bytes().to_vec())
    }
}

impl From<Exact> for PathBuf {
    fn from(exact: Exact) -> Self {
        OsString::from_vec(exact.0).into()
    }
}

impl From<&RelPath> for Exact {
    fn from(path: &RelPath) -> Self {
        Self(path.as_bytes().to_vec())
    }
}

impl From<&Name> for Exact {
    fn from(name: &Name) -> Self {
        Self(name.as_bytes().to_vec())
    }
}

impl fmt::Display for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&escape_for_people(&self.0))
    }
}

impl fmt::Debug for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back() {
        let check = |bytes: &[u8], json: &str| {
            let exact = Exact(bytes.to_vec());
            assert_eq!(serde_json::to_string(&exact).expect("json"), json);
            assert_eq!(serde_json::from_str::<Exact>(json).expect("exact"), exact);
        };
        check(b"a b", "\"a b\"");
        check(b"\n\"\\", "\"\\n\\\"\\\\\"");
        check("é\u{202e}".as_bytes(), "\"é\u{202e}\"");
        check(b"\xff", "{\"hex\":\"ff\"}");
        check(b"", "\"\"");
        assert!(serde_json::from_str::<Exact>("{\"hex\":\"f\"}").is_err());
        assert_eq!(
            Exact(b"\x1b[2J\xff".to_vec()).to_string(),
            "\\u{1b}[2J\\xff"
        );
    }
}
