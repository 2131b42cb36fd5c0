//! What is on the device and what is only meant to be: after a power failure the disk is as it was
//! at some moment since the last sync, and files whose content was not synced may be torn.
//!
//! Names come back as on a journaled file system: all changes up to some moment, none after it;
//! whoever syncs one file syncs the names of all that came before. Contents come back or not, each
//! file for itself.

use std::collections::BTreeSet;

use ahoy_logic::sync::Print;
use ahoy_wire::sync::{Hash, RelPath};

use super::{Content, Disk, Image, Kind};
use crate::dice::Dice;

/// Most moments between two syncs that are remembered; older ones can no longer come back.
const MOMENTS_MAX: usize = 64;

/// What is on the device.
#[derive(Debug, Clone)]
pub(super) struct Power {
    durable: Image,
    /// The moments since.
    journal: Vec<Image>,
}

impl Power {
    pub(super) fn new(image: &Image) -> Self {
        Self {
            durable: image.clone(),
            journal: Vec::new(),
        }
    }
}

/// What a power failure did.
#[derive(Debug, Clone, Default)]
pub struct Damage {
    /// Contents that are gone although they had been synced, and somebody still wants.
    pub synced_and_gone: BTreeSet<Content>,
    /// Contents that are gone, and had never been synced.
    pub unsynced_and_gone: BTreeSet<Content>,
    /// What stands in torn files now.
    pub torn: Vec<Content>,
}

impl Disk {
    /// One change is complete: from here on the disk may come back like this.
    pub(super) fn changed(&mut self) {
        if let Some(power) = &mut self.power {
            if power.journal.len() >= MOMENTS_MAX {
                power.durable = power.journal.remove(0);
            }
            power.journal.push(self.image.clone());
        }
    }

    /// Everything is on the device: `syncfs`.
    pub fn sync(&mut self) {
        if self.power.is_some() {
            for inode in self.image.inodes.values_mut() {
                inode.wet = false;
            }
            self.power = Some(Power::new(&self.image));
        }
    }

    /// The content of one file is, and the names of everything: `fsync` of a file.
    pub fn sync_file(&mut self, path: &RelPath) {
        let Some(inode) = self.find(path) else { return };
        if self.power.is_some() {
            self.inode_mut(inode).wet = false;
            self.sync_names();
        }
    }

    /// All names are on the device: `fsync` of a directory, or of anything else.
    pub fn sync_names(&mut self) {
        if self.power.is_some() {
            self.power = Some(Power::new(&self.image));
        }
    }

    /// Whether a file that is still as it was when this fingerprint was taken would be there with
    /// this content after a power failure.
    pub fn keeps(&self, print: &Print, hash: Hash) -> bool {
        let Some(power) = &self.power else {
            return true;
        };
        let now = self.image.inodes.get(&print.inode);
        if !now.is_some_and(|_| self.print_of(print.inode).same(print)) {
            return true;
        }
        let on_device = power.durable.inodes.get(&print.inode);
        on_device.is_some_and(|inode| match &inode.kind {
            Kind::File(content) => content.was(hash) && !inode.wet,
            Kind::Dir(_) | Kind::Link(_) => false,
        })
    }

    /// Whether a file with this fingerprint is there, holds this, and would after a power failure.
    pub fn holds(&self, print: &Print, hash: Hash) -> bool {
        let is_it = |at: &u64| {
            let content = self.content_of(*at);
            self.print_of(*at).same(print) && content.is_some_and(|content| content.hash() == hash)
        };
        let at = Some(print.inode).filter(|at| self.image.linked().contains(at));
        at.as_ref().is_some_and(is_it) && self.keeps(print, hash)
    }

    /// The bytes of the file with this fingerprint change, on the device too; what they are now.
    pub fn rot(&mut self, print: &Print) -> Option<Content> {
        let rotten = self.content_of(print.inode)?.rotten();
        let power = self.power.iter_mut();
        let older =
            power.flat_map(|power| [&mut power.durable].into_iter().chain(&mut power.journal));
        for image in [&mut self.image].into_iter().chain(older) {
            if let Some(inode) = image.inodes.get_mut(&print.inode)
                && inode.kind == Kind::File(rotten.sound())
            {
                inode.kind = Kind::File(rotten);
            }
        }
        Some(rotten)
    }

    /// The power fails. `torn` gives the content of a torn file of this size.
    pub fn fail_power(&mut self, dice: &mut Dice, mut torn: impl FnMut(u64) -> Content) -> Damage {
        let before = self.contents();
        let Some(power) = self.power.take() else {
            return Damage::default();
        };
        let safe: BTreeSet<Content> = dry(&power.durable).collect();
        let moments = power.journal.len() as u64 + 1;
        let moment = dice.below(moments) as usize;
        let journal = power.journal.into_iter();
        let mut images = [power.durable].into_iter().chain(journal);
        self.image = images.nth(moment).expect("there is at least the last sync");
        let mut damage = Damage::default();
        let linked = self.image.linked();
        for at in linked {
            let inode = self.inode_mut(at);
            if let Kind::File(content) = &mut inode.kind
                && inode.wet
                && content.size > 0
                && dice.chance(50)
            {
                *content = if dice.chance(50) {
                    Content::EMPTY
                } else {
                    torn(content.size)
                };
                damage.torn.push(*content);
            }
        }
        let now = self.contents();
        for content in before.difference(&now) {
            let fate = if safe.contains(content) {
                &mut damage.synced_and_gone
            } else {
                &mut damage.unsynced_and_gone
            };
            fate.insert(*content);
        }
        for inode in self.image.inodes.values_mut() {
            inode.wet = false;
        }
        self.power = Some(Power::new(&self.image));
        damage
    }

    /// Everything on it was copied there just now: whoever puts back files alone makes new ones.
    pub fn copied_back(&mut self) {
        let (_, ctime) = self.stamp();
        for inode in self.image.inodes.values_mut() {
            (inode.ctime, inode.birth) = (ctime, ctime);
        }
        self.sync();
    }

    /// A copy of the disk as a backup has it, all of it on the device.
    pub fn backup(&self) -> Self {
        let mut copy = self.clone();
        copy.sync();
        copy
    }
}

fn dry(image: &Image) -> impl Iterator<Item = Content> + '_ {
    let linked = image.linked().into_iter();
    linked.filter_map(|at| match &image.inodes[&at] {
        inode if inode.wet => None,
        inode => match inode.kind {
            Kind::File(content) => Some(content),
            Kind::Dir(_) | Kind::Link(_) => None,
        },
    })
}
