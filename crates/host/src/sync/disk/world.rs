//! One order of events: what the engine hears of looks and of its own steps, as they happened.
//!
//! A look takes time: a name that was free when it was listed may have been filled by one of our
//! own steps before the look is reported, and the engine would take its own new file for one that
//! a user deleted. So:
//!
//! * Steps change the disk and report under one lock, and leave a note of every name they touch.
//! * A look notes the time before it begins ([`World::glimpse`]). When it is reported, names that
//!   steps have touched since are looked at again, under the same lock.
//!
//! So nothing that is reported as seen is older than a step reported before it, or shows a step
//! that has not been reported yet. The listener is called under the lock: it must hand the input
//! on and return, and must not call back into the disk side.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahoy_logic::sync::{Found, Input, Outcome, Sighting};
use ahoy_wire::sync::{Name, RelPath};

/// Hears what the disk side has to tell. Calls come from several threads, one at a time.
pub trait Listener: Send + Sync {
    /// Something for the engine. Must not block, and must not call into the disk side.
    fn input(&self, input: Input);

    /// Something for the user that the engine does not need to know: no watches left, a name
    /// that no share can hold.
    fn warn(&self, text: String);
}

/// The order of events on one disk.
pub(super) struct World {
    listener: Arc<dyn Listener>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Number of the next note.
    next: u64,
    /// Names that steps touched while a look was under way, oldest first.
    notes: VecDeque<Note>,
    /// Where each look that is under way began, and how many began there.
    looks: BTreeMap<u64, usize>,
}

struct Note {
    number: u64,
    path: RelPath,
    /// What was found below it no longer counts either.
    tree: bool,
}

/// A look that is under way; ends when dropped.
pub(super) struct Glimpse<'w> {
    world: &'w World,
    since: u64,
}

impl World {
    pub(super) fn new(listener: Arc<dyn Listener>) -> Self {
        Self {
            listener,
            inner: Mutex::default(),
        }
    }

    /// Begins a look.
    pub(super) fn glimpse(&self) -> Glimpse<'_> {
        let mut inner = self.lock();
        let since = inner.next;
        *inner.looks.entry(since).or_default() += 1;
        Glimpse { world: self, since }
    }

    /// Has `work` change the disk while no look is reported.
    pub(super) fn change<T>(&self, work: impl FnOnce(&mut Change<'_>) -> T) -> T {
        let mut inner = self.lock();
        work(&mut Change {
            listener: &*self.listener,
            inner: &mut inner,
        })
    }

    /// Reports something that looks and steps do not contradict.
    pub(super) fn tell(&self, input: Input) {
        let _inner = self.lock();
        self.listener.input(input);
    }

    pub(super) fn warn(&self, text: String) {
        self.listener.warn(text);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic in between leaves at worst a note too many.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to change the disk, and to report that.
pub(super) struct Change<'w> {
    listener: &'w dyn Listener,
    inner: &'w mut Inner,
}

impl Change<'_> {
    /// Notes that a step changes what is at `path`.
    pub(super) fn touch(&mut self, path: &RelPath) {
        self.note(path, false);
    }

    /// Notes that a step moves what is at `path` away or there, with all below it.
    pub(super) fn touch_tree(&mut self, path: &RelPath) {
        self.note(path, true);
    }

    fn note(&mut self, path: &RelPath, tree: bool) {
        let number = self.inner.next;
        self.inner.next += 1;
        if !self.inner.looks.is_empty() {
            self.inner.notes.push_back(Note {
                number,
                path: path.clone(),
                tree,
            });
        }
    }

    /// Reports what became of steps.
    pub(super) fn finished(&mut self, outcomes: Vec<Outcome>) {
        self.listener.input(Input::Finished(outcomes));
    }

    /// Reports what has been looked at under this very lock.
    pub(super) fn seen(&mut self, sightings: Vec<Sighting>) {
        self.listener.input(Input::Seen {
            sightings,
            whole: Vec::new(),
            asked: None,
        });
    }
}

impl Glimpse<'_> {
    /// Reports what the look found. Names that steps touched meanwhile are looked at again with
    /// `again`; what was found below a moved directory is left out, and the answer says which
    /// directories those are: they have to be listed again. `asked` is the number of the question
    /// that the look answers.
    pub(super) fn report(
        self,
        mut sightings: Vec<Sighting>,
        mut whole: Vec<RelPath>,
        asked: Option<u64>,
        mut again: impl FnMut(&RelPath, &Name) -> Found,
    ) -> Vec<RelPath> {
        let inner = self.world.lock();
        let notes = || inner.notes.iter().filter(|note| note.number >= self.since);
        let fresh: HashSet<&RelPath> = notes().map(|note| &note.path).collect();
        let trees = notes()
            .filter(|note| note.tree)
            .map(|note| &note.path)
            .collect();
        let mut stale = Vec::new();
        if !fresh.is_empty() {
            sightings.retain(|s| !is_below(&s.dir, &trees));
            whole.retain(|dir| {
                let moved = is_below(dir, &trees);
                if moved {
                    stale.push(dir.clone());
                }
                !moved
            });
            look_again(&mut sightings, &fresh, &whole, &mut again);
        }
        if !sightings.is_empty() || !whole.is_empty() {
            self.world.listener.input(Input::Seen {
                sightings,
                whole,
                asked,
            });
        }
        drop(inner);
        stale
    }
}

/// Whether `dir` is one of `touched` or below one.
fn is_below(dir: &RelPath, touched: &HashSet<&RelPath>) -> bool {
    let mut here = (!touched.is_empty()).then(|| dir.clone());
    while let Some(path) = here {
        if touched.contains(&path) {
            return true;
        }
        here = path.split().map(|(parent, _)| parent);
    }
    false
}

/// Replaces the sightings of touched names, and adds those that a whole listing has missed.
fn look_again(
    sightings: &mut Vec<Sighting>,
    touched: &HashSet<&RelPath>,
    whole: &[RelPath],
    again: &mut impl FnMut(&RelPath, &Name) -> Found,
) {
    // Names by directory, with whether there is a sighting of each.
    let mut by_dir: BTreeMap<RelPath, BTreeMap<Name, bool>> = BTreeMap::new();
    for (dir, name) in touched.iter().filter_map(|path| path.split()) {
        by_dir.entry(dir).or_default().insert(name, false);
    }
    for sighting in sightings.iter_mut() {
        let names = by_dir.get_mut(&sighting.dir);
        if let Some(seen) = names.and_then(|names| names.get_mut(&sighting.name)) {
            *seen = true;
            sighting.found = again(&sighting.dir, &sighting.name);
        }
    }
    let whole: HashSet<&RelPath> = whole.iter().collect();
    by_dir.retain(|dir, _| whole.contains(dir));
    for (dir, names) in by_dir {
        for (name, _) in names.into_iter().filter(|(_, seen)| !seen) {
            let found = again(&dir, &name);
            let dir = dir.clone();
            sightings.push(Sighting { dir, name, found });
        }
    }
}

impl Drop for Glimpse<'_> {
    fn drop(&mut self) {
        let mut inner = self.world.lock();
        if let Some(count) = inner.looks.get_mut(&self.since) {
            *count -= 1;
            if *count == 0 {
                inner.looks.remove(&self.since);
            }
        }
        match inner.looks.first_key_value() {
            Some((oldest, _)) => {
                let oldest = *oldest;
                while inner.notes.front().is_some_and(|note| note.number < oldest) {
                    inner.notes.pop_front();
                }
            }
            None => inner.notes.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Ear(Mutex<Vec<Input>>);

    impl Listener for Ear {
        fn input(&self, input: Input) {
            self.0.lock().expect("no panic").push(input);
        }
        fn warn(&self, _: String) {}
    }

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).expect("a good path")
    }

    fn sighting(dir: &str, name: &str, found: Found) -> Sighting {
        Sighting {
            dir: path(dir),
            name: Name::new(name.as_bytes()).expect("a name"),
            found,
        }
    }

    #[test]
    fn what_a_step_touched_during_a_look_is_looked_at_again() {
        let ear = Arc::new(Ear::default());
        let world = World::new(Arc::clone(&ear) as Arc<dyn Listener>);
        let before = world.glimpse();
        world.change(|change| {
            for touched in ["new", "old", "d/x", "g"] {
                change.touch(&path(touched));
            }
            change.touch_tree(&path("e"));
        });
        let found = vec![
            sighting("", "old", Found::Foreign),
            sighting("", "other", Found::Foreign),
            sighting("e", "inside", Found::Foreign),
            sighting("g", "inside", Found::Foreign),
        ];
        let whole = vec![path(""), path("e"), path("e/f"), path("g")];
        let asked = Mutex::new(Vec::new());
        let stale = before.report(found, whole, Some(7), |dir, name| {
            asked
                .lock()
                .expect("no panic")
                .push(dir.join(name).expect("short"));
            Found::Nothing
        });
        assert_eq!(stale, [path("e"), path("e/f")]);
        let mut asked = asked.into_inner().expect("no panic");
        asked.sort();
        assert_eq!(asked, ["e", "g", "new", "old"].map(path));
        let heard = std::mem::take(&mut *ear.0.lock().expect("no panic"));
        let [
            Input::Seen {
                sightings,
                whole,
                asked: Some(7),
            },
        ] = &heard[..]
        else {
            panic!("{heard:?}")
        };
        assert_eq!(whole, &[path(""), path("g")]);
        assert!(sightings.contains(&sighting("", "other", Found::Foreign)));
        assert!(sightings.contains(&sighting("g", "inside", Found::Foreign)));
        for name in ["new", "old", "e", "g"] {
            assert!(
                sightings.contains(&sighting("", name, Found::Nothing)),
                "{name}"
            );
        }
        assert_eq!(sightings.len(), 6);
        assert!(world.lock().notes.is_empty(), "nobody looks any more");
    }

    #[test]
    fn steps_before_a_look_do_not_matter_to_it() {
        let ear = Arc::new(Ear::default());
        let world = World::new(Arc::clone(&ear) as Arc<dyn Listener>);
        let other = world.glimpse();
        world.change(|change| change.touch(&path("a")));
        let look = world.glimpse();
        let seen = vec![sighting("", "a", Found::Foreign)];
        let stale = look.report(seen, Vec::new(), None, |_, _| {
            panic!("nothing to look at again")
        });
        assert!(stale.is_empty());
        assert_eq!(world.lock().notes.len(), 1, "the older look still needs it");
        drop(other);
        assert!(world.lock().notes.is_empty());
    }
}
