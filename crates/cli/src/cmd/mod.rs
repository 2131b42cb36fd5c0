//! One file per verb: each parses its own arguments, runs, and prints.

pub mod check;
pub mod classic;
pub mod confirm;
pub mod echo;
pub mod enroll;
pub mod hello;
pub mod join;
pub mod limit;
pub mod ls;
pub mod peers;
pub mod scrub;
pub mod share;
pub mod sim;
pub mod status;
pub mod sync;
pub mod ticket;
pub mod tracker;
pub mod web;

use std::fmt;
use std::io::ErrorKind;
use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::Context;

use crate::printer::{self, Stream};

/// What the user can do about a failure. Attach it as anyhow context; `main` prints it on a line of
/// its own under the error.
#[derive(Debug, Clone)]
pub struct Hint(pub String);

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The command line asks for something that makes no sense; `main` exits with 2 for it. For what
/// clap cannot see by itself.
#[derive(Debug, Clone)]
pub struct Misuse(pub String);

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misuse {}

/// The address that `text` (`HOST:PORT`) names, IPv4 before IPv6.
pub fn resolve(text: &str) -> anyhow::Result<SocketAddr> {
    let found = match text.to_socket_addrs() {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::InvalidInput => {
            let misuse = Misuse(format!("{text:?} is no address"));
            let hint = Hint("write it as HOST:PORT, for instance 127.0.0.1:65432".to_owned());
            return Err(anyhow::Error::new(misuse).context(hint));
        }
        Err(error) => return Err(error).with_context(|| format!("cannot find {text}")),
    };
    let first = found.min_by_key(SocketAddr::is_ipv6);
    first.with_context(|| format!("{text} has no address"))
}

/// HOST and PORT, given apart, in one text; an IPv6 address gets its brackets.
pub fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Prints one line on standard output. A console that is gone does not stop a server, so a failure
/// to print is no failure.
pub fn say(line: &str) {
    printer::print(Stream::Out, &format!("{line}\n"));
}

/// Prints one line on standard error, as [`say`] does.
pub fn complain(line: &str) {
    printer::print(Stream::Err, &format!("{line}\n"));
}

/// The `Error:` line, and the `Hint:` line if a [`Hint`] was attached anywhere; the hint is not
/// repeated among the causes.
#[must_use]
pub fn explain(error: &anyhow::Error) -> String {
    let hint = error.downcast_ref::<Hint>().map(ToString::to_string);
    let mut causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    if let Some(hint) = &hint {
        causes.retain(|cause| cause != hint);
    }
    // Libraries like to repeat the text of their cause in their own.
    causes.dedup_by(|cause, before| before.ends_with(cause.as_str()));
    let mut text = format!("Error: {}\n", causes.join(": "));
    if let Some(hint) = hint {
        text.push_str(&format!("Hint: {hint}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    fn hint(text: &str) -> Hint {
        Hint(text.to_owned())
    }

    #[test]
    fn a_hint_stands_on_its_own_line_wherever_it_was_attached() {
        let text = "Error: cannot share: port in use\nHint: choose another\n";
        let inside = anyhow!("port in use").context(hint("choose another"));
        assert_eq!(explain(&inside.context("cannot share")), text);
        let outside = anyhow!("port in use").context("cannot share");
        assert_eq!(explain(&outside.context(hint("choose another"))), text);
        assert_eq!(explain(&anyhow!("no hint")), "Error: no hint\n");
    }

    #[test]
    fn a_cause_is_not_said_twice() {
        let io = std::io::Error::other("disk on fire");
        let error = Err::<(), _>(io).context("cannot save: disk on fire");
        assert_eq!(
            explain(&error.expect_err("made above")),
            "Error: cannot save: disk on fire\n"
        );
    }
}
