//! What the user did: the difference between the disk and what was last synced, as records.
//!
//! A sighting that could be older than a change that ahoy itself made is not believed but asked
//! for again, and nothing counts as deleted before a look that was asked for has confirmed it and
//! the root has been found in its place: a delete needs a witness (`sync-25`). A moved directory is
//! known by its inode and birth time, a moved file likewise if it disappears and turns up in one
//! burst.

use std::collections::{BTreeMap, BTreeSet};

use ahoy_wire::sync::{Body, Class, Clock, Hash, Name, NodeId, Record, RelPath, Value};

use super::absent::Absent;
use super::engine::{Engine, State};
use super::rot::is_rot;
use super::tree::Goal;
use super::unread::Unread;
use super::{Found, Look, Notice, Print, Sighting, Synced, Time};

/// Names that were touched by ahoy itself are remembered over two whole looks, at most this many.
pub(super) const TOUCHED_NAMES_MAX: usize = 400_000;

/// So many files that are looked at again are not gone through for those of no use any more.
const AWAITED_MIN: usize = 1024;

/// What is known of the user's doings and not yet decided.
#[derive(Debug, Default)]
pub struct Local {
    pub(super) missing: Absent,
    /// The highest number of a look that has been answered.
    pub(super) answered: u64,
    /// Files that were seen and not believed, by inode number and birth time. With each the number
    /// of the look that tells more.
    awaited: BTreeMap<(u64, Time), u64>,
    /// When there are more than so many, those that are of no use any more are dropped.
    awaited_max: usize,
    pub(super) missing_inodes: BTreeMap<(u64, Time), NodeId>,
    /// What is gone, but it, or something in it, is being read at another name or worked on.
    pub(super) moving: BTreeSet<NodeId>,
    /// Files that are being read, by path.
    pub(super) reading: BTreeMap<RelPath, Reading>,
    /// Files that were seen and not read yet, by directory.
    pub(super) unread: Unread,
    /// Names that ahoy changed, with the number of the first look that is younger.
    pub(super) touched: BTreeMap<(NodeId, Name), u64>,
    pub(super) touched_before: BTreeMap<(NodeId, Name), u64>,
    /// Names seen while a directory above them was being moved.
    pub(super) unsure: BTreeSet<(NodeId, Name)>,
    /// Directories in which the user made or removed something, so that their mtime is new.
    pub(super) stirred: BTreeSet<NodeId>,
    /// Deletes in great number wait.
    pub(super) guard: super::guard::Guard,
    /// Strange names a reader has been told about.
    pub(super) not_sent: BTreeSet<RelPath>,
}

/// A file that is being read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    print: Print,
    /// The number of the last look that had been asked for when the reading began, or when an
    /// earlier one began that has not been answered either.
    asks: u64,
}

impl Local {
    /// How many files are being read.
    pub fn reading(&self) -> usize {
        self.reading.len()
    }

    /// The files that are being read or are looked at again, by inode number and birth time.
    pub fn read_inodes(&self) -> BTreeSet<(u64, Time)> {
        let prints = self.reading.values().map(|reading| &reading.print);
        let read = prints.map(Print::identity);
        let awaited = self.awaited.iter().filter(|(_, ask)| **ask > self.answered);
        read.chain(awaited.map(|(file, _)| *file)).collect()
    }

    /// A file was seen and not believed; the look with this number is to tell more.
    pub fn wait_for(&mut self, print: &Print, ask: u64) {
        self.awaited.insert(print.identity(), ask);
        if self.awaited.len() > self.awaited_max.max(AWAITED_MIN) {
            let answered = self.answered;
            self.awaited.retain(|_, ask| *ask > answered);
            self.awaited_max = 2 * self.awaited.len();
        }
    }

    /// Whether what is known of this file may be out of date: it is being read.
    pub fn is_reading(&self, path: &RelPath) -> bool {
        self.reading.contains_key(path)
    }

    /// Ahoy itself changes this name; looks with lower numbers may be older than that.
    pub fn touch(&mut self, dir: NodeId, name: Name, first_trusted: u64) {
        if self.touched.len() >= TOUCHED_NAMES_MAX {
            self.touched_before = std::mem::take(&mut self.touched);
        }
        self.touched.insert((dir, name), first_trusted);
    }

    /// Whether a node was not seen where it should be, and it is not yet clear why.
    pub fn is_missing(&self, id: NodeId) -> bool {
        self.missing.get(id).is_some()
    }

    fn is_stale(&self, dir: NodeId, name: &Name, asked: Option<u64>) -> bool {
        let key = (dir, name.clone());
        let first = self
            .touched
            .get(&key)
            .or_else(|| self.touched_before.get(&key));
        first.is_some_and(|first| asked.is_none_or(|asked| asked < *first))
    }

    /// A node is where it should be after all, or something else is.
    pub fn found(&mut self, id: NodeId, print: Option<&Print>) {
        self.missing.remove(id);
        if let Some(print) = print {
            self.missing_inodes.remove(&print.identity());
        }
    }
}

impl Engine {
    /// A look has been taken.
    pub(super) fn seen(&mut self, sightings: Vec<Sighting>, whole: &[RelPath], asked: Option<u64>) {
        if matches!(self.state, State::RootLost | State::Emptied) {
            return;
        }
        self.local.answered = self.local.answered.max(asked.unwrap_or(0));
        // What is missing comes first, so that what turns up elsewhere finds its old self.
        let (gone, there): (Vec<_>, Vec<_>) = sightings
            .into_iter()
            .partition(|s| s.found == Found::Nothing);
        let mut listed: BTreeMap<&RelPath, BTreeSet<&Name>> =
            whole.iter().map(|dir| (dir, BTreeSet::new())).collect();
        for sighting in &there {
            if let Some(names) = listed.get_mut(&sighting.dir) {
                names.insert(&sighting.name);
            }
        }
        for sighting in gone {
            if let Some(dir) = self.tree.resolve(&sighting.dir) {
                self.sighted(dir, &sighting.dir, sighting.name, Found::Nothing, asked);
            }
        }
        let lists = listed.into_iter().map(|(path, names)| {
            let dir = self.list_missing(path, &names, asked);
            (path, names, dir)
        });
        let lists: Vec<_> = lists.collect();
        for sighting in &there {
            match self.tree.resolve(&sighting.dir) {
                Some(dir) => {
                    let (name, found) = (sighting.name.clone(), sighting.found.clone());
                    self.sighted(dir, &sighting.dir, name, found, asked);
                }
                None => self.lost_parent(&sighting.dir),
            }
        }
        // Where another directory has turned up, or a new one, that was what was listed.
        for (path, names, dir) in lists {
            if self.tree.resolve(path) != dir {
                self.list_missing(path, &names, asked);
            }
        }
    }

    /// A directory has been listed: what is not in the list is missing. Which one that was, as far
    /// as is known.
    fn list_missing(
        &mut self,
        path: &RelPath,
        names: &BTreeSet<&Name>,
        asked: Option<u64>,
    ) -> Option<NodeId> {
        let dir = self.tree.resolve(path)?;
        let absent: Vec<Name> = self
            .tree
            .in_dir(dir)
            .filter(|(name, _)| !names.contains(name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in absent {
            self.sighted(dir, path, name, Found::Nothing, asked);
        }
        Some(dir)
    }

    fn sighted(
        &mut self,
        dir: NodeId,
        path: &RelPath,
        name: Name,
        found: Found,
        asked: Option<u64>,
    ) {
        let print = match &found {
            Found::Dir(print) | Found::File(print) | Found::Link(print, _) => Some(*print),
            Found::Foreign | Found::Unreadable(_) | Found::Nothing => None,
        };
        if self.work.note_sighting(dir, &name, print) {
            return;
        }
        if self.is_on_the_move(dir) {
            self.see_later(dir, path, name);
            return;
        }
        if matches!(found, Found::File(_)) {
            self.local.unread.wait_for(dir, &name, path);
        } else {
            self.local.unread.done(dir, &name);
        }
        let at = self.tree.on_disk(dir, &name);
        let known = at.and_then(|id| self.tree.node(id)?.synced.as_ref().map(|s| s.print));
        // An inode number can have been given again at once.
        let is_dir = matches!(found, Found::Dir(_));
        let is_kind = at.is_some_and(|id| self.is_dir_on_disk(id) == is_dir);
        if is_dir && is_kind && asked.is_none() {
            self.look_into_ignored(path, &name);
        }
        match (at, known, print) {
            (None, _, None) if found == Found::Nothing => return self.husk_stirred(dir),
            (Some(id), Some(known), Some(print))
                if is_kind && known.same(&print) && !known.racy =>
            {
                self.local.found(id, Some(&known));
                self.local.unread.done(dir, &name);
                self.unnoted.forget(id);
                return;
            }
            _ => {}
        }
        if self.local.is_stale(dir, &name, asked) {
            self.look_for(path.clone(), name, print.as_ref());
            return;
        }
        let class = if is_dir { Class::Dir } else { Class::Leaf };
        if print.is_some() && !is_kind && self.is_left_out(dir, path, &name, class) {
            self.local.unread.done(dir, &name);
            if let Some(other) = at {
                self.vacate(other, asked);
            }
            return;
        }
        self.believed(dir, path, name, at, found, asked);
    }

    /// What has been found at a name is so.
    fn believed(
        &mut self,
        dir: NodeId,
        path: &RelPath,
        name: Name,
        at: Option<NodeId>,
        found: Found,
        asked: Option<u64>,
    ) {
        match found {
            Found::Nothing | Found::Foreign => {
                if let Some(id) = at {
                    self.miss(id, asked);
                }
            }
            Found::Unreadable(reason) => {
                if let Some(id) = at {
                    let known = self.tree.node(id).and_then(|node| node.synced.as_ref());
                    let print = known.map(|known| known.print);
                    self.local.found(id, print.as_ref());
                }
                if let Some(path) = path.join(&name) {
                    self.tell(Notice::Trouble { path, reason });
                }
            }
            Found::Dir(print) => self.saw_dir(dir, path, name, at, print, asked),
            Found::File(print) => self.saw_file(dir, path, name, at, print, asked),
            Found::Link(print, target) => {
                let value = Value::Link {
                    mtime: print.mtime,
                    target,
                };
                self.saw_leaf(dir, name, at, value, print, asked);
            }
        }
    }

    /// Looks at a name at which this file was seen, and was not believed.
    pub(super) fn look_for(&mut self, dir: RelPath, name: Name, print: Option<&Print>) {
        let ask = self.look(Look::At(dir, name));
        if let Some(print) = print {
            self.local.wait_for(print, ask);
        }
    }

    fn is_dir_on_disk(&self, id: NodeId) -> bool {
        let synced = self.tree.node(id).and_then(|n| n.synced.as_ref());
        synced.is_some_and(|s| matches!(s.value, Value::Dir(_)))
    }

    fn saw_dir(
        &mut self,
        dir: NodeId,
        path: &RelPath,
        name: Name,
        at: Option<NodeId>,
        print: Print,
        asked: Option<u64>,
    ) {
        let value = Value::Dir(print.meta());
        let twin = self
            .tree
            .dir_by_inode(&print)
            .filter(|twin| !self.work.is_busy(*twin));
        if twin.is_some_and(|twin| self.tree.above(dir).chain([dir]).any(|it| it == twin)) {
            return self.doubt_the_way_to(path);
        }
        let here = at.filter(|id| self.is_dir_on_disk(*id));
        match (twin, here) {
            (Some(twin), _) if at != Some(twin) => {
                if let Some(other) = at {
                    self.vacate(other, asked);
                }
                self.moved(twin, dir, name.clone(), value, print);
            }
            (_, Some(id)) => {
                self.changed(id, value, print);
                return;
            }
            (_, None) => {
                if let Some(other) = at {
                    self.vacate(other, asked);
                }
                self.created(dir, name.clone(), value, print);
            }
        }
        // An answer about one name says nothing of what is below it, and what an earlier look
        // found there has not been believed. A reader's own directory is not known even now.
        if asked.is_some()
            && self.tree.dir_on_disk(dir, &name).is_some()
            && let Some(path) = path.join(&name)
        {
            self.look(Look::Below(path));
        }
    }

    /// What was seen there was a directory that is believed to be on the way there. No directory is
    /// in itself, so the way is another one by now, and it is not known yet which.
    fn doubt_the_way_to(&mut self, path: &RelPath) {
        let mut at = path.clone();
        while let Some((above, name)) = at.split() {
            self.look(Look::At(above.clone(), name));
            at = above;
        }
        self.look(Look::Below(path.clone()));
    }

    fn saw_file(
        &mut self,
        dir: NodeId,
        path: &RelPath,
        name: Name,
        at: Option<NodeId>,
        print: Print,
        asked: Option<u64>,
    ) {
        let Some(path) = path.join(&name) else { return };
        match at {
            Some(id) if self.is_dir_on_disk(id) => self.vacate(id, asked),
            // Something is there, whatever it turns out to hold.
            Some(id) => self.local.found(id, None),
            None => {}
        }
        let old_self = self.local.missing_inodes.get(&print.identity()).copied();
        if let (None, Some(id)) = (self.tree.on_disk(dir, &name), old_self) {
            let synced = self.tree.node(id).and_then(|n| n.synced.clone());
            if let Some(synced) = synced {
                let same = synced.print.same_but_ctime(&print) && !synced.print.racy;
                let now = self.turned_up(id, dir, name, synced);
                if same {
                    self.unnoted.forget(now);
                    self.refresh_print(now, print);
                    return;
                }
            }
        }
        // Of a racy print, the reading under way may have missed the write that led here.
        let before = self.local.reading.get(&path).copied();
        let asks = before.map_or(self.next_ask() - 1, |reading| reading.asks);
        let reading = Reading { print, asks };
        self.local.reading.insert(path.clone(), reading);
        if before.is_none_or(|before| before.print != print) || print.racy {
            self.out.push(super::Effect::Read { path, print });
        }
    }

    /// A file has been read.
    pub(super) fn hashed(&mut self, path: &RelPath, print: Print, hash: Hash) {
        let reading = self.local.reading.get(path).copied();
        let is_last = reading.is_some_and(|reading| reading.print.same(&print));
        if is_last {
            self.local.reading.remove(path);
        }
        if matches!(self.state, State::RootLost | State::Emptied) {
            return;
        }
        let Some((dir_path, name)) = path.split() else {
            return;
        };
        let Some(dir) = self.tree.resolve(&dir_path) else {
            self.lost_parent(&dir_path);
            return;
        };
        if is_last {
            self.local.unread.done(dir, &name);
        }
        if self.work.note_sighting(dir, &name, Some(print)) {
            return;
        }
        // It may be what was there before a step that has ended since.
        if self
            .local
            .is_stale(dir, &name, reading.map(|reading| reading.asks))
        {
            self.look_for(dir_path, name, Some(&print));
            return;
        }
        let at = self.tree.on_disk(dir, &name);
        if at.is_none() && self.is_left_out(dir, &dir_path, &name, Class::Leaf) {
            return;
        }
        let old_self = self.local.missing_inodes.get(&print.identity()).copied();
        if let (None, Some(id)) = (at, old_self) {
            let synced = self.tree.node(id).and_then(|n| n.synced.clone());
            if let Some(synced) = synced {
                self.turned_up(id, dir, name.clone(), synced);
            }
        }
        let meta = print.meta();
        let value = Value::File {
            meta,
            size: print.size,
            hash,
        };
        let at = self.tree.on_disk(dir, &name);
        self.saw_leaf(dir, name, at, value, print, None);
    }

    fn saw_leaf(
        &mut self,
        dir: NodeId,
        name: Name,
        at: Option<NodeId>,
        value: Value,
        print: Print,
        asked: Option<u64>,
    ) {
        match at {
            Some(id) if !self.is_dir_on_disk(id) => {
                let id = self.inherited_here(id, &value).unwrap_or(id);
                self.changed(id, value, print);
            }
            _ => {
                if let Some(other) = at {
                    self.vacate(other, asked);
                }
                self.created(dir, name, value, print);
            }
        }
    }

    pub(super) fn refresh_print(&mut self, id: NodeId, print: Print) {
        let synced = self.tree.node(id).and_then(|n| n.synced.clone());
        if let Some(synced) = synced {
            self.local.found(id, Some(&synced.print));
            if synced.print.racy && !print.racy {
                // A step may have waited for that.
                self.work.hurry(id);
            }
            if synced.print != print {
                self.tree.set_synced(id, Some(Synced { print, ..synced }));
                self.keep(id);
            }
        }
    }

    /// What is at a known name now holds `value`.
    fn changed(&mut self, id: NodeId, value: Value, print: Print) {
        let Some(node) = self.tree.node(id) else {
            return;
        };
        let Some(synced) = node.synced.clone() else {
            return;
        };
        let held = self.is_reader().then(|| node.record.body.clone());
        self.local.found(id, Some(&synced.print));
        if self.is_change_of_husk(id, &value, print) {
            return;
        }
        if is_rot(&synced, &value, &print) {
            // Nobody's edit. Whoever scrubs saves these bytes, and says what they are.
            return;
        }
        let late = self.take_unnoted_body(id, &value);
        if synced.value.same_content(&value) && self.is_rotten(id) {
            // Somebody touched it, but these are still not his bytes.
            self.refresh_print(id, print);
            return;
        }
        // The same once more, but another file: whoever put it there wants it there, and what is
        // on its way here from others does not go over it.
        let is_put_there = !synced.print.same_file(&print)
            && !matches!(value, Value::Dir(_))
            && !self.is_reader()
            && self.tree.goal_value(id) != Some(&value);
        if synced.value == value && !is_put_there {
            self.refresh_print(id, print);
            return;
        }
        // A run that ended before it could note what it had done. Of what a writer's user has put
        // there himself in this run, others have to hear that he wants it there.
        let wanted = held.filter(|_| self.tree.goal_value(id) == Some(&value));
        if let Some(body) = wanted.or(late) {
            let found = Synced {
                value,
                print,
                ..synced
            };
            self.note_late(id, body, found);
            return;
        }
        if self.is_reader() {
            self.reader_changed(id, synced, value, print);
            return;
        }
        let dot = self.dot();
        let body = self.own_body(&synced.body_clock, dot, value.clone());
        let body_clock = body.clock.clone();
        let theirs = Record {
            body,
            ..self.tree.node(id).expect("found above").record.clone()
        };
        self.tree.set_synced(
            id,
            Some(Synced {
                value,
                print,
                body_clock,
                ..synced
            }),
        );
        self.absorb(theirs, None);
        self.keep(id);
    }

    /// A known file has turned up at another name; the node that has it now.
    fn turned_up(&mut self, id: NodeId, dir: NodeId, name: Name, synced: Synced) -> NodeId {
        self.inherited(id, dir, &name).unwrap_or_else(|| {
            self.moved(id, dir, name, synced.value, synced.print);
            id
        })
    }

    /// A known node is at another name.
    fn moved(&mut self, id: NodeId, dir: NodeId, name: Name, value: Value, print: Print) {
        let Some(node) = self.tree.node(id) else {
            return;
        };
        let Some(synced) = node.synced.clone() else {
            return;
        };
        self.local.found(id, Some(&synced.print));
        let place_clock = node.record.place.clock.clone();
        let mut theirs = node.record.clone();
        self.stir(synced.parent);
        self.stir(dir);
        let mut now = Synced {
            parent: dir,
            name: name.clone(),
            ..synced.clone()
        };
        let adopted = self.tree.goal(id) == Goal::At(dir, name.clone());
        if adopted {
            now.place_clock = place_clock;
            self.tree.set_synced(id, Some(now));
        } else if self.is_reader() {
            self.tree.set_synced(id, Some(now));
        } else {
            let dot = self.dot();
            theirs.place = self.own_place(&synced.place_clock, dot, dir, name);
            now.place_clock = theirs.place.clock.clone();
            self.tree.set_synced(id, Some(now));
            self.absorb(theirs, None);
        }
        self.keep(id);
        self.changed(id, value, print);
    }

    /// Something new.
    fn created(&mut self, dir: NodeId, name: Name, value: Value, print: Print) {
        self.stir(dir);
        let class = if matches!(value, Value::Dir(_)) {
            Class::Dir
        } else {
            Class::Leaf
        };
        let plain = NodeId::created(dir, &name, class, None);
        let taken = |node: &super::tree::Node| {
            let place = &node.record.place;
            node.synced.is_some() || place.parent != dir || place.name != name
        };
        let known = self.tree.node(plain);
        let mut synced = Synced {
            parent: dir,
            name: name.clone(),
            value: value.clone(),
            print,
            body_clock: Clock::default(),
            place_clock: Clock::default(),
        };
        let late = self.unnoted_at(dir, &name, &value, &print);
        let plainly = known.filter(|node| !taken(node)).map(|_| plain);
        if let Some(id) = late.as_ref().map(|late| late.0).or(plainly)
            && self.work.note_elsewhere(id, dir, &name, print)
        {
            // A step for that node is out. Where it is afterwards decides what this is.
            return;
        }
        if let Some((id, body, place_clock)) = late {
            synced.place_clock = place_clock;
            self.note_late(id, body, synced);
            return;
        }
        if let Some(node) = known.filter(|node| !taken(node)) {
            let wanted = self.tree.goal_value(plain);
            let same = wanted == Some(&value);
            let close = wanted.is_some_and(|wanted| wanted.same_content(&value));
            if same || (close && self.is_reader()) {
                synced.body_clock = node.record.body.clock.clone();
                synced.place_clock = node.record.place.clock.clone();
                self.tree.set_synced(plain, Some(synced));
                self.keep(plain);
                return;
            }
        }
        if self.is_reader() {
            self.reader_created(dir, name, print);
            return;
        }
        self.create_node(plain, class, synced);
    }

    /// Notes what an earlier run put on the disk and did not note: this body, found like that.
    fn note_late(&mut self, id: NodeId, body: Body, mut found: Synced) {
        found.body_clock = body.clock.clone();
        self.tree.set_synced(id, Some(found));
        self.keep(id);
        self.stand_by_unnoted(id, body);
    }

    /// Makes the record of something new. Whoever made it has seen a deletion that has been
    /// carried out here, but nothing that is only on its way.
    fn create_node(&mut self, plain: NodeId, class: Class, mut synced: Synced) {
        let dot = self.dot();
        let (parent, name) = (synced.parent, synced.name.clone());
        let mut id = plain;
        let (mut body_base, mut place_base) = (Clock::default(), Clock::default());
        if let Some(node) = self.tree.node(plain) {
            let place = &node.record.place;
            if node.synced.is_some() || place.parent != parent || place.name != name {
                id = NodeId::created(parent, &name, class, Some(dot));
            } else if self.tree.goal(plain) == Goal::Absent {
                body_base = node.record.body.clock.clone();
                place_base = place.clock.clone();
            }
        }
        let body = self.own_body(&body_base, dot, synced.value.clone());
        let place = self.own_place(&place_base, dot, parent, name);
        synced.body_clock = body.clock.clone();
        synced.place_clock = place.clock.clone();
        self.absorb(
            Record {
                id,
                class,
                copy_of: None,
                place,
                body,
            },
            None,
        );
        self.tree.set_synced(id, Some(synced));
        self.keep(id);
    }

    pub(super) fn dir_path(&self, dir: NodeId) -> Option<RelPath> {
        if dir == NodeId::ROOT {
            Some(RelPath::root())
        } else {
            self.tree.path(dir)
        }
    }
}
