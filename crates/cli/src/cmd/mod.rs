//! One file per verb: each parses its own arguments, runs, and prints.

/// What the user can do about a failure. Attach it as anyhow context; `main` prints it on a line of
/// its own under the error.
#[derive(Debug, Clone)]
pub struct Hint(pub String);

impl std::fmt::Display for Hint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
