//! What can be wrong with a folder or with ahoy's own files, in words for the user, each with what
//! can be done about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why a folder or ahoy's own files cannot be used. No shared file is touched by any of these.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Neither `HOME` nor the XDG variables say where to keep things.
    #[error("there is no home directory to keep ahoy's state in")]
    NoHome,
    /// `AHOY_HOME` is relative.
    #[error("AHOY_HOME must be an absolute path")]
    NotAbsolute,
    /// The system's generator failed.
    #[error("the system gives no random numbers")]
    NoRandomness,
    /// The system refuses something.
    #[error("cannot {what} {}: {source}", path.display())]
    Refused {
        /// A verb: read, write, create...
        what: &'static str,
        /// What it was about.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// One of ahoy's files does not hold what ahoy wrote.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// One of ahoy's files is from a later ahoy.
    #[error("{} was written by a newer version of ahoy", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
    },
    /// No such folder.
    #[error("the folder {} does not exist", .0.display())]
    NoFolder(PathBuf),
    /// It is something else.
    #[error("{} is not a folder", .0.display())]
    NotAFolder(PathBuf),
    /// Files cannot be written there.
    #[error("the folder {} cannot be written to", .0.display())]
    NotWritable(PathBuf),
    /// ahoy's state would be inside the share, or the share inside ahoy's state.
    #[error("{} holds ahoy's own state, or lies in it, and cannot be shared", .0.display())]
    OwnState(PathBuf),
    /// There is no marker in the folder.
    #[error("the folder {} is not shared", .0.display())]
    NotShared(PathBuf),
    /// This device has a share at that path, and the marker is missing there.
    #[error(
        "the folder {} was shared as \"{name}\", but its marker .ahoy/share is missing",
        root.display()
    )]
    MarkerLost {
        /// The folder.
        root: PathBuf,
        /// The share's name.
        name: String,
        /// What this device knows of the share.
        state: PathBuf,
    },
    /// The marker names a copy of which this device knows nothing.
    #[error("this device has no record of the share in {}", root.display())]
    StateLost {
        /// The folder.
        root: PathBuf,
    },
    /// The folder is a copy, made together with its marker.
    #[error("{} is a copy of the shared folder {}", root.display(), original.display())]
    Copied {
        /// The copy.
        root: PathBuf,
        /// Where the original is.
        original: PathBuf,
    },
    /// The ticket is for another share than the folder.
    #[error("the folder {} belongs to another share already", root.display())]
    OtherShare {
        /// The folder.
        root: PathBuf,
    },
    /// Another process holds the folder.
    #[error("another ahoy{} is syncing {} already", by(owner), root.display())]
    Busy {
        /// The folder.
        root: PathBuf,
        /// The process, as far as it said so.
        owner: String,
    },
    /// A share that is being synced lies inside the folder, or around it.
    #[error("{} and the shared folder {} lie in one another", root.display(), other.display())]
    Nested {
        /// The folder.
        root: PathBuf,
        /// The one that is being synced.
        other: PathBuf,
    },
}

impl HomeError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NoHome | Self::NotAbsolute => {
                "set AHOY_HOME to the absolute path of a directory".into()
            }
            Self::NoRandomness => "there is something wrong with this system".into(),
            Self::Refused { path, .. } => {
                format!(
                    "check that {} exists and is yours to read and write",
                    path.display()
                )
            }
            Self::Damaged { path, .. } => format!(
                "move {} away and join the share again with its ticket; the files in the folder \
                 are kept",
                path.display()
            ),
            Self::Newer { .. } => "use the newer ahoy that wrote it".into(),
            Self::NoFolder(_) => "create it first, or check the spelling".into(),
            Self::NotAFolder(_) => "name the folder that is to be shared".into(),
            Self::NotWritable(_) => {
                "make it yours, or choose another folder: ahoy must write to keep it in sync".into()
            }
            Self::OwnState(_) => {
                "choose a folder further down, or set AHOY_HOME to somewhere else".into()
            }
            Self::NotShared(root) => {
                let dir = root.display();
                format!("start with `ahoy share {dir}`, or with `ahoy join TICKET {dir}`")
            }
            Self::MarkerLost { state, .. } => format!(
                "is its disk mounted? To let go of that share, remove {}; or join it again with \
                 its ticket: the files are kept",
                state.display()
            ),
            Self::StateLost { root } => format!(
                "join again with a ticket from another device: `ahoy join TICKET {0}` keeps the \
                 files; or remove {0}/.ahoy to start a share of its own",
                root.display()
            ),
            Self::Copied { root, .. } => format!(
                "to let the copy take part, remove {0}/.ahoy and run `ahoy join TICKET {0}`",
                root.display()
            ),
            Self::OtherShare { root } => format!(
                "join into another folder; or, to let go of the share that was there, remove \
                 {}/.ahoy",
                root.display()
            ),
            Self::Busy { root, .. } => format!(
                "`ahoy status` shows it, `ahoy ticket {}` prints its ticket; stop it first to \
                 start it anew",
                root.display()
            ),
            Self::Nested { .. } => "sync one of them at a time, or choose another folder".into(),
        }
    }

    pub(super) fn refused(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Refused { what, path, source }
    }

    pub(super) fn damaged(path: &Path, reason: impl ToString) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

fn by(owner: &str) -> String {
    if owner.is_empty() {
        String::new()
    } else {
        format!(" ({owner})")
    }
}
