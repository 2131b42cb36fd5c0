//! Files that were seen and are not read yet, by their directory and name.
//!
//! When a directory is renamed, whatever was to be read in it is not found at the old path any
//! more, and the answer says so or finds nobody who knows that path. So such files are looked at
//! again where they are now. Reading itself is no matter of this file.

use std::collections::BTreeMap;

use ahoy_wire::sync::{Class, Name, NodeId, RelPath};

use super::engine::Engine;
use super::{Look, Notice};

/// What is still to be read, with the path at which it was seen.
#[derive(Debug, Default)]
pub struct Unread {
    files: BTreeMap<(NodeId, Name), RelPath>,
    /// How often directories had been moved when this was last looked at.
    moves: u64,
}

impl Unread {
    /// A file was seen here; it may have to be read.
    pub fn wait_for(&mut self, dir: NodeId, name: &Name, at: &RelPath) {
        if let Some(path) = at.join(name) {
            self.files.insert((dir, name.clone()), path);
        }
    }

    /// It has been read, or there is nothing to read.
    pub fn done(&mut self, dir: NodeId, name: &Name) {
        if !self.files.is_empty() {
            self.files.remove(&(dir, name.clone()));
        }
    }
}

impl Engine {
    /// Has files looked at again whose directory was moved before they were read.
    pub(super) fn follow_unread(&mut self) {
        let moves = self.tree.dir_moves();
        if std::mem::replace(&mut self.local.unread.moves, moves) == moves {
            return;
        }
        let files = std::mem::take(&mut self.local.unread.files);
        for ((dir, name), path) in files {
            let Some(at) = self.dir_path(dir) else {
                continue;
            };
            if at.join(&name).as_ref() != Some(&path) {
                self.look(Look::At(at.clone(), name.clone()));
            }
            // Until it is seen there, it may be moved once more.
            self.local.unread.wait_for(dir, &name, &at);
        }
    }

    /// The file could not be read; what is known of it stays.
    pub(super) fn unread(&mut self, path: &RelPath, reason: String, changing: bool) {
        self.local.reading.remove(path);
        if !changing {
            self.tell(Notice::Trouble {
                path: path.clone(),
                reason,
            });
        }
    }

    /// Something was seen in a directory that is not known: look at the directory itself first,
    /// unless it is only just being made.
    pub(super) fn lost_parent(&mut self, path: &RelPath) {
        let mut dir = NodeId::ROOT;
        let mut at = RelPath::root();
        for name in path.names() {
            match self.tree.dir_on_disk(dir, &name) {
                Some(id) => {
                    dir = id;
                    let Some(next) = at.join(&name) else { return };
                    at = next;
                }
                None if self.is_left_out(dir, &at, &name, Class::Dir) => return,
                None => {
                    if !self.work.note_inside(dir, &name) && self.local.stirred.insert(dir) {
                        self.look(Look::At(at, name));
                    }
                    return;
                }
            }
        }
    }
}
