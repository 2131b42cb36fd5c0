//! The user's rules of what stays out of the share: read from their file whenever a look comes by
//! it, and told to the engine before what that look finds.
//!
//! Editors write a file in more than one step, and for a moment there may be no rules at all. So
//! rules that are new count at once, and those of before as well until their file has been quiet
//! for a while: nothing is shared by mistake that should not be.

use std::fs::File;
use std::io::Read;
use std::time::Instant;

use ahoy_logic::sync::{BadLine, Input, Print, RULES_BYTES_MAX, RULES_FILE, Rules};
use ahoy_wire::sync::{Name, RelPath};
use rustix::io::Errno;

use super::super::{Root, print};
use super::Watcher;

/// Most lines that are no patterns of which the user is told one by one.
const TOLD_LINES_MAX: usize = 3;

/// The rules of the folder, as the eyes know them.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What the file says, if that does not count alone yet.
    next: Option<Next>,
    /// What was found the last time; `None` if nobody has looked yet.
    last: Option<Found>,
    /// The file as it was then.
    print: Option<Print>,
}

/// Rules that are new.
#[derive(Debug)]
struct Next {
    rules: Rules,
    /// What counts beside them.
    before: Rules,
    /// From when on they count alone.
    due: Instant,
}

/// What there is for rules.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// There is no such file, which is as good as an empty one; or this is in it.
    Text(Vec<u8>),
    /// It cannot be read.
    Bad(String),
}

impl Watcher {
    /// Reads the rules if their file is not what it was.
    pub(super) fn refresh_rules(&mut self) {
        let Some((found, print)) = read(&self.root, self.known.print.as_ref()) else {
            return;
        };
        self.known.print = print;
        if self.known.last.as_ref() == Some(&found) {
            return;
        }
        let is_first = self.known.last.is_none();
        let rules = match &found {
            Found::Text(text) => Some(self.parse(text)),
            Found::Bad(reason) => {
                let what = if is_first {
                    "until it can be read, nothing new is shared"
                } else {
                    "the rules of before count"
                };
                self.world.warn(format!("{RULES_FILE}: {reason}; {what}"));
                is_first.then(Rules::everything)
            }
        };
        self.known.last = Some(found);
        match rules {
            None => {}
            Some(rules) if is_first => self.set_rules(rules),
            Some(rules) => {
                let unsettled = self.known.next.take();
                let before = unsettled.map_or_else(|| self.root.rules(), |next| next.before);
                self.set_rules(before.and(&rules));
                let due = Instant::now() + self.options.rules_pause;
                self.known.next = Some(Next { rules, before, due });
            }
        }
    }

    fn parse(&self, text: &[u8]) -> Rules {
        let (rules, bad) = Rules::parse(text);
        for BadLine { line, reason } in bad.iter().take(TOLD_LINES_MAX) {
            self.world.warn(format!(
                "{RULES_FILE}, line {line}: {reason}; this line does not count"
            ));
        }
        if let Some(more) = bad
            .len()
            .checked_sub(TOLD_LINES_MAX)
            .filter(|more| *more > 0)
        {
            self.world
                .warn(format!("{RULES_FILE}: {more} more lines do not count"));
        }
        rules
    }

    /// When the rules of before no longer count.
    pub(super) fn rules_due(&self) -> Option<Instant> {
        self.known.next.as_ref().map(|next| next.due)
    }

    /// The rules have been quiet for long enough: they count alone, and what they no longer leave
    /// out is looked at.
    pub(super) fn settle_rules(&mut self, now: Instant) {
        let Some(next) = self.known.next.as_mut().filter(|next| next.due <= now) else {
            return;
        };
        if !self.root.is_there() {
            // Where the root is not, there is no file either.
            next.due = now + self.options.rules_pause;
            return;
        }
        self.refresh_rules();
        // They may be others by now.
        if let Some(next) = self.known.next.take_if(|next| next.due <= now) {
            self.set_rules(next.rules);
            self.look_at_everything(None);
        }
    }

    fn set_rules(&mut self, rules: Rules) {
        self.root.set_rules(rules.clone());
        self.world.tell(Input::Rules(rules));
    }
}

/// Whether this is the file of the rules.
pub(super) fn is_rules(dir: &RelPath, name: &Name) -> bool {
    dir.is_root() && name.as_bytes() == RULES_FILE.as_bytes()
}

/// The rules and the fingerprint of their file; `None` if it is as it was.
fn read(root: &Root, before: Option<&Print>) -> Option<(Found, Option<Print>)> {
    let path = RelPath::parse(RULES_FILE.as_bytes()).ok()?;
    let bad = |reason: &str| Found::Bad(reason.to_owned());
    let (fd, glance) = match root.open_file(&path) {
        Ok(opened) => opened,
        Err(Errno::NOENT) => return Some((Found::Text(Vec::new()), None)),
        Err(Errno::LOOP | Errno::ISDIR | Errno::XDEV | Errno::INVAL) => {
            return Some((bad("it is not a regular file"), None));
        }
        Err(errno) => return Some((bad(&print::words(errno)), None)),
    };
    if before.is_some_and(|before| before.same(&glance.print) && !before.racy) {
        return None;
    }
    let mut text = Vec::new();
    let limit = RULES_BYTES_MAX as u64 + 1;
    let found = match File::from(fd).take(limit).read_to_end(&mut text) {
        Err(error) => bad(&error.to_string()),
        Ok(_) if text.len() > RULES_BYTES_MAX => {
            bad(&format!("it has more than {} KiB", RULES_BYTES_MAX / 1024))
        }
        Ok(_) => Found::Text(text),
    };
    Some((found, Some(glance.print)))
}
