//! The four messages of enroll (spec/enroll.md): greeting, registration, acknowledgement, in
//! pickles.
//!
//! What is written is the plain form, byte for byte what the course's Python programs send. What is
//! read is wider, because the programs that are around differ: a client id stands in a dict, in a
//! dict in a dict, or alone; an acknowledgement is a number, a text or a dict. The pickles
//! themselves, and everything dangerous about them, are the business of [`pickle`](crate::pickle).

use std::fmt;

use crate::pickle::{Invalid, Value, encode};

/// The port of the course's server, on 127.0.0.1.
pub const PORT_DEFAULT: u16 = 12_000;
/// How many clients may wait to be accepted (enroll-3).
pub const BACKLOG: u32 = 10;

const CLIENT_ID: &str = "clientid";
const STUDENT_NAME: &str = "student_name";
const GITHUB_USERNAME: &str = "github_username";
const SID: &str = "sid";

/// The greeting of a server to the client that connected from `port` (enroll-4).
#[must_use]
pub fn greeting(port: u16) -> Vec<u8> {
    let entry = (Value::from(CLIENT_ID), Value::Int(port.into()));
    encode(&Value::Dict(vec![entry])).expect("one small entry is within every limit")
}

/// The acknowledgement of a registration (enroll-8).
#[must_use]
pub fn ack() -> Vec<u8> {
    encode(&Value::Int(1)).expect("a number is within every limit")
}

/// What a server called its client.
#[derive(Clone, Debug, PartialEq)]
pub struct Greeting {
    /// The greeting as it came; the course's client prints it.
    pub value: Value,
    /// The id in it.
    pub client_id: i128,
}

impl Greeting {
    /// Finds the client id (enroll-15): alone, under `clientid`, or under it in a dict under it.
    /// Case and `_` in the key do not matter, and digits in a text are a number.
    ///
    /// # Errors
    /// [`Fault::NoClientId`].
    pub fn read(value: Value) -> Result<Self, Fault> {
        let mut inner = &value;
        while let Value::Dict(entries) = inner {
            let entry = entries.iter().find(|(key, _)| means_client_id(key));
            inner = entry.map_or(&Value::None, |(_, inner)| inner);
        }
        let client_id = match inner {
            Value::Int(id) => Some(*id),
            Value::Str(digits) => digits.parse().ok(),
            Value::None
            | Value::Bool(_)
            | Value::Float(_)
            | Value::Bytes(_)
            | Value::List(_)
            | Value::Tuple(_)
            | Value::Dict(_)
            | Value::Set(_)
            | Value::FrozenSet(_) => None,
        };
        match client_id {
            Some(client_id) => Ok(Self { value, client_id }),
            None => Err(Fault::NoClientId {
                found: shown(&value),
            }),
        }
    }
}

fn means_client_id(key: &Value) -> bool {
    let Value::Str(key) = key else {
        return false;
    };
    let letters = key.chars().filter(|character| *character != '_');
    letters.flat_map(char::to_lowercase).eq(CLIENT_ID.chars())
}

/// What a client says about its student.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Free text.
    pub student_name: String,
    /// Free text.
    pub github_username: String,
    /// The student's number.
    pub sid: Sid,
}

/// A student id: programs send a number or a text, and the two stay apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sid {
    /// An `int`.
    Number(i128),
    /// A `str`, which keeps leading zeros.
    Text(String),
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sid::Number(number) => write!(f, "{number}"),
            Sid::Text(text) => f.write_str(text),
        }
    }
}

impl Registration {
    /// The pickle that a client sends (enroll-16).
    ///
    /// # Errors
    /// [`Invalid::TooLong`] if the texts do not fit a pickle.
    pub fn encode(&self) -> Result<Vec<u8>, Invalid> {
        let text = |text: &String| Value::Str(text.clone());
        let sid = match &self.sid {
            Sid::Number(number) => Value::Int(*number),
            Sid::Text(digits) => text(digits),
        };
        encode(&Value::Dict(vec![
            (Value::from(STUDENT_NAME), text(&self.student_name)),
            (Value::from(GITHUB_USERNAME), text(&self.github_username)),
            (Value::from(SID), sid),
        ]))
    }

    /// Takes a client's message apart (enroll-5). Further entries are ignored, a number serves as a
    /// text.
    ///
    /// # Errors
    /// Every [`Fault`] but [`Fault::NoClientId`].
    pub fn read(value: &Value) -> Result<Self, Fault> {
        if !matches!(value, Value::Dict(_)) {
            let type_name = value.type_name();
            return Err(Fault::NotADict { type_name });
        }
        Ok(Self {
            student_name: text_or_number(value, STUDENT_NAME)?.to_string(),
            github_username: text_or_number(value, GITHUB_USERNAME)?.to_string(),
            sid: text_or_number(value, SID)?,
        })
    }
}

fn text_or_number(value: &Value, field: &'static str) -> Result<Sid, Fault> {
    match value.get(field).ok_or(Fault::Missing { field })? {
        Value::Int(number) => Ok(Sid::Number(*number)),
        Value::Str(text) => Ok(Sid::Text(text.clone())),
        other @ (Value::None
        | Value::Bool(_)
        | Value::Float(_)
        | Value::Bytes(_)
        | Value::List(_)
        | Value::Tuple(_)
        | Value::Dict(_)
        | Value::Set(_)
        | Value::FrozenSet(_)) => Err(Fault::WrongType {
            field,
            type_name: other.type_name(),
        }),
    }
}

/// Whether an answer means that the registration was taken (enroll-17): the plain `1`, or anything
/// else that is not empty, zero, `False` or `None`.
#[must_use]
pub fn acknowledges(answer: &Value) -> bool {
    match answer {
        Value::None => false,
        Value::Bool(truth) => *truth,
        Value::Int(number) => *number != 0,
        Value::Float(number) => *number != 0.0,
        Value::Bytes(bytes) => !bytes.is_empty(),
        Value::Str(text) => !text.is_empty(),
        Value::List(items) | Value::Tuple(items) | Value::Set(items) | Value::FrozenSet(items) => {
            !items.is_empty()
        }
        Value::Dict(entries) => !entries.is_empty(),
    }
}

/// Why a value is not the message that was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A greeting without a client id.
    #[error("no client id in {found}")]
    NoClientId {
        /// The beginning of what came instead, as Python prints it.
        found: String,
    },
    /// A registration that is something else altogether.
    #[error("a registration is a dict, not {type_name}")]
    NotADict {
        /// Its Python type.
        type_name: &'static str,
    },
    /// A registration without one of its fields.
    #[error("the registration has no {field}")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A field that is neither text nor number.
    #[error("{field} is {type_name}, neither text nor number")]
    WrongType {
        /// The field.
        field: &'static str,
        /// The Python type it has.
        type_name: &'static str,
    },
}

/// The beginning of a value, for a message.
fn shown(value: &Value) -> String {
    /// Characters of a value that an error shows.
    const SHOWN_LEN_MAX: usize = 80;
    let mut text = value.repr().to_string();
    if let Some((cut, _)) = text.char_indices().nth(SHOWN_LEN_MAX) {
        text.truncate(cut);
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dict(entries: &[(&str, Value)]) -> Value {
        let entries = entries.iter().cloned();
        Value::Dict(
            entries
                .map(|(key, value)| (Value::from(key), value))
                .collect(),
        )
    }

    fn alice(sid: Sid) -> Registration {
        Registration {
            student_name: "Alice Brown".into(),
            github_username: "abrown".into(),
            sid,
        }
    }

    #[test]
    fn the_plain_forms_are_the_courses_bytes() {
        let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        let id = "80049512000000000000007d948c08636c69656e746964944de4ec732e";
        assert_eq!(hex(&greeting(60_644)), id);
        assert_eq!(hex(&ack()), "80044b012e");
        let request = "80049548000000000000007d94288c0c73747564656e745f6e616d65948c0b416c6963652042\
                       726f776e948c0f6769746875625f757365726e616d65948c066162726f776e948c0373696494\
                       4a15cd5b07752e";
        let pickle = alice(Sid::Number(123_456_789)).encode().expect("short");
        assert_eq!(hex(&pickle), request);
    }

    #[test]
    fn a_client_id_is_found_in_every_form_that_is_around() {
        let id = || Value::Int(60_644);
        for greeting in [
            id(),
            Value::from("60644"),
            dict(&[("clientid", id())]),
            dict(&[("clientid", dict(&[("clientid", id())]))]),
            dict(&[("client_id", id()), ("server", Value::from("x"))]),
            dict(&[("clientID", Value::from("60644"))]),
        ] {
            let read = Greeting::read(greeting.clone());
            let value = greeting;
            assert_eq!(
                read,
                Ok(Greeting {
                    value,
                    client_id: 60_644
                })
            );
        }
        for (wrong, found) in [
            (Value::None, "None"),
            (Value::Bool(true), "True"),
            (Value::from("welcome"), "'welcome'"),
            (dict(&[("id", id())]), "{'id': 60644}"),
            (Value::List(vec![id()]), "[60644]"),
        ] {
            let fault = Greeting::read(wrong).expect_err("no id");
            assert_eq!(fault.to_string(), format!("no client id in {found}"));
        }
        let long = Greeting::read(Value::Str("x".repeat(999))).expect_err("no id");
        assert_eq!(long.to_string().len(), "no client id in ".len() + 80 + 3);
    }

    #[test]
    fn a_registration_is_read_as_it_was_written() {
        for sid in [
            Sid::Number(-1),
            Sid::Number(i128::MAX),
            Sid::Text("0042".into()),
        ] {
            let registration = alice(sid);
            let pickle = registration.encode().expect("short");
            let (value, _) = crate::pickle::decode(&pickle).expect("ours");
            assert_eq!(Registration::read(&value), Ok(registration));
        }
    }

    #[test]
    fn a_registration_says_what_is_wrong_with_it() {
        let full = |sid| {
            let text = Value::from("x");
            dict(&[
                ("student_name", text.clone()),
                ("github_username", text),
                ("sid", sid),
            ])
        };
        assert!(Registration::read(&full(Value::Int(7))).is_ok());
        for (value, fault) in [
            (
                full(Value::None),
                "sid is NoneType, neither text nor number",
            ),
            (
                full(Value::Bool(true)),
                "sid is bool, neither text nor number",
            ),
            (dict(&[]), "the registration has no student_name"),
            (Value::Int(1), "a registration is a dict, not int"),
        ] {
            let found = Registration::read(&value).expect_err("wrong");
            assert_eq!(found.to_string(), fault);
        }
    }

    #[test]
    fn an_answer_acknowledges_unless_it_is_nothing() {
        for yes in [
            Value::Int(1),
            Value::from("ok"),
            dict(&[("ack", Value::Int(0))]),
        ] {
            assert!(acknowledges(&yes), "{yes}");
        }
        for no in [
            Value::Int(0),
            Value::None,
            Value::Bool(false),
            Value::from(""),
            dict(&[]),
        ] {
            assert!(!acknowledges(&no), "{no}");
        }
    }
}
