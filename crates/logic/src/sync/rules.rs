//! Which names stay out of the share: the user's `.ahoyignore`, in the patterns of `.gitignore`
//! (`sync-15`). Whoever is asked about a name answers for what is new there; what the share holds
//! already is no matter of rules, and who knows that is the engine.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use ahoy_wire::sync::{Class, Name, NodeId, RelPath};
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::Look;
use super::engine::Engine;
use super::planted::{self, Bug};

/// The file at the top of the folder in which the rules are.
pub const RULES_FILE: &str = ".ahoyignore";

/// Most bytes of that file.
pub const RULES_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of one of its lines; no path is longer.
const LINE_BYTES_MAX: usize = 4096;

/// What is to stay out. The default leaves nothing out.
#[derive(Debug, Clone, Default)]
pub struct Rules(Vec<Arc<Gitignore>>);

/// A line that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
    /// Why, for people.
    pub reason: String,
}

impl Rules {
    /// Reads a file of rules; a line that is no pattern is left out, and named.
    pub fn parse(text: &[u8]) -> (Self, Vec<BadLine>) {
        let mut builder = GitignoreBuilder::new("");
        let mut bad = Vec::new();
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            if let Err(reason) = add(&mut builder, line) {
                let line = index + 1;
                bad.push(BadLine { line, reason });
            }
        }
        match builder.build() {
            Ok(rules) if rules.is_empty() => (Self::default(), bad),
            Ok(rules) => (Self(vec![Arc::new(rules)]), bad),
            Err(error) => {
                // Whatever is wrong with them together: better too little is shared than too much.
                let reason = format!("{error}; everything new is left out");
                bad.push(BadLine { line: 1, reason });
                (Self::everything(), bad)
            }
        }
    }

    /// Leaves out whatever is new.
    pub fn everything() -> Self {
        let mut builder = GitignoreBuilder::new("");
        let all = builder.add_line(None, "*").and_then(|all| all.build());
        Self(vec![Arc::new(all.expect("a star is a pattern"))])
    }

    /// Leaves out what either of the two does.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().chain(&other.0).cloned().collect())
    }

    /// Nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a directory that a look has found is to be looked into; `is_asked` if the engine has
    /// asked for that look. What is left out is nobody's business, unless the engine wants to know
    /// what is in it.
    pub fn let_into(&self, dir: &RelPath, is_asked: bool) -> bool {
        let is_within = || {
            dir.split()
                .is_some_and(|(above, _)| self.ignores(&above, true))
        };
        !self.ignores(dir, true) || (is_asked && is_within())
    }

    /// Whether this path, or a directory that it is in, is left out. What is in a directory that is
    /// left out cannot be brought back by another pattern, as with git.
    pub fn ignores(&self, path: &RelPath, is_dir: bool) -> bool {
        if self.is_empty() {
            return false;
        }
        let bytes = path.as_bytes();
        let slashes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let above = slashes.map(|(end, _)| &bytes[..end]);
        self.0.iter().any(|rules| {
            let is_out = |bytes: &[u8], is_dir| {
                let path = Path::new(OsStr::from_bytes(bytes));
                rules.matched(path, is_dir).is_ignore()
            };
            above.clone().any(|dir| is_out(dir, true))
                || (!bytes.is_empty() && is_out(bytes, is_dir))
        })
    }
}

/// Adds a line, if it is a pattern by itself.
fn add(builder: &mut GitignoreBuilder, line: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line));
    let text = text.map_err(|_| "it is not UTF-8".to_owned())?;
    if text.len() > LINE_BYTES_MAX {
        return Err(format!("it has more than {LINE_BYTES_MAX} bytes"));
    }
    let said = |error: ignore::Error| error.to_string();
    // Some patterns are found to be none only when they are put to use.
    let mut alone = GitignoreBuilder::new("");
    alone
        .add_line(None, text)
        .map_err(said)?
        .build()
        .map_err(said)?;
    builder.add_line(None, text).map_err(said)?;
    Ok(())
}

impl Engine {
    /// Whether something new at this name is none of the share's business (`sync-16`): the rules
    /// leave it out, and the share has nothing of that name that is here or is to come here.
    pub(super) fn is_left_out(
        &self,
        dir: NodeId,
        path: &RelPath,
        name: &Name,
        class: Class,
    ) -> bool {
        if planted::is(Bug::RulesNotHeeded) && class == Class::Leaf {
            return false;
        }
        !self.rules.is_empty()
            && (planted::is(Bug::LeftOutInTheWay) || !self.tree.is_expected_at(dir, name, class))
            && (path.join(name)).is_some_and(|at| self.rules.ignores(&at, class == Class::Dir))
    }

    /// Nobody goes into what the rules leave out unasked; what the share has in there is to be seen
    /// all the same.
    pub(super) fn look_into_ignored(&mut self, dir: &RelPath, name: &Name) {
        if !self.rules.is_empty()
            && let Some(path) = dir.join(name)
            && self.rules.ignores(&path, true)
        {
            self.look(Look::Below(path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Rules {
        let (rules, bad) = Rules::parse(text.as_bytes());
        assert_eq!(bad, []);
        rules
    }

    fn file(rules: &Rules, path: &str) -> bool {
        rules.ignores(
            &RelPath::parse(path.as_bytes()).expect("a good path"),
            false,
        )
    }

    #[test]
    fn patterns_mean_what_they_mean_to_git() {
        let it = rules("# what is built\ntarget/\n*.o\r\n!keep.o\n/top\ndocs/*.pdf\nspace\\ \n\n");
        for out in [
            "target/x",
            "a/target/b/c",
            "x.o",
            "a/b/x.o",
            "top",
            "docs/a.pdf",
            "target/keep.o",
            "space ",
        ] {
            assert!(file(&it, out), "{out}");
        }
        for shared in [
            "target",
            "keep.o",
            "a/keep.o",
            "a/top",
            "a/docs/a.pdf",
            "docs/b/a.pdf",
            "o",
        ] {
            assert!(!file(&it, shared), "{shared}");
        }
        let target = RelPath::parse(b"a/target").expect("a good path");
        assert!(it.ignores(&target, true));
        assert!(
            !it.ignores(&RelPath::root(), true),
            "never the folder itself"
        );
    }

    #[test]
    fn names_that_are_no_text_are_matched_too() {
        let it = rules("*.o");
        let odd = RelPath::parse(b"a\xff/\xfe.o").expect("a good path");
        assert!(it.ignores(&odd, false));
    }

    #[test]
    fn a_bad_line_is_named_and_the_others_count() {
        let nested = ["{".repeat(2000), "a".to_owned(), "}".repeat(2000)].concat();
        let long = "a".repeat(LINE_BYTES_MAX + 1);
        let text = ["*.o", "x[b-a]", "y", &nested, &long, "*.a"].join("\n");
        let text = [text.as_bytes(), b"\n\xff"].concat();
        let (it, bad) = Rules::parse(&text);
        let lines: Vec<usize> = bad.iter().map(|bad| bad.line).collect();
        assert_eq!(lines, [2, 4, 5, 7], "{bad:?}");
        assert!(file(&it, "a.o") && file(&it, "a.a") && !file(&it, "x"));
        assert!(Rules::parse(b"").0.is_empty());
        assert!(Rules::parse(b"\n# nothing\n").0.is_empty());
    }

    #[test]
    fn two_sets_leave_out_what_either_does() {
        let both = rules("*.o").and(&rules("!x.o\n*.a"));
        assert!(file(&both, "x.o") && file(&both, "x.a") && !file(&both, "x.b"));
    }
}
