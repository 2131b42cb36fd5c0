//! Content that comes from peers: whole, cut off, resumed, wrong, and by chunks.

use std::fs;
use std::sync::atomic::AtomicBool;

use ahoy_logic::sync::Trouble;

use super::super::chunks::{self, tests::noise};
use super::*;

/// Has contents, and a way to misbehave.
#[derive(Default)]
struct Shelf {
    contents: Mutex<HashMap<Hash, Vec<u8>>>,
    mischief: Mutex<Option<Mischief>>,
    /// The ranges that were asked for.
    asked: Mutex<Vec<(u64, u64)>>,
    begun: AtomicBool,
}

#[derive(Clone, Copy)]
enum Mischief {
    /// Ends the link after this many bytes.
    Cut(usize),
    /// One byte is not what it was.
    Flip,
    /// Fewer bytes than asked for, and says that it was all.
    Short,
    /// More bytes than asked for.
    Long,
    /// The same range twice.
    Repeat,
    /// Goes on for as long as it is listened to.
    Endless,
    Panic,
    /// Chunks that add up to another length.
    WrongSum,
    /// The chunks of another content.
    WrongChunks,
}

impl Shelf {
    fn with(contents: &[&[u8]]) -> Arc<Self> {
        let shelf = Self::default();
        for content in contents {
            let mut known = shelf.contents.lock().expect("no panic");
            known.insert(hash_of(content), content.to_vec());
        }
        Arc::new(shelf)
    }

    fn misbehave(&self, mischief: impl Into<Option<Mischief>>) {
        *self.mischief.lock().expect("no panic") = mischief.into();
    }

    /// How many bytes were asked for since the last time.
    fn asked(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut *self.asked.lock().expect("no panic"))
    }
}

impl Supply for Shelf {
    fn fetch(
        &self,
        _: LinkId,
        wanted: Wanted,
        offset: u64,
        len: u64,
        sink: &mut Sink<'_>,
    ) -> Result<(), SupplyTrouble> {
        self.asked.lock().expect("no panic").push((offset, len));
        let contents = self.contents.lock().expect("no panic");
        let content = contents
            .get(&wanted.hash)
            .cloned()
            .ok_or(SupplyTrouble::NotHere)?;
        drop(contents);
        let (at, len) = (offset as usize, len as usize);
        let mut bytes = content[at..at + len].to_vec();
        let mischief = *self.mischief.lock().expect("no panic");
        let mut end = Ok(());
        match mischief {
            Some(Mischief::Cut(most)) => {
                bytes.truncate(most);
                end = Err(SupplyTrouble::Ended);
            }
            Some(Mischief::Flip) => bytes[len / 2] ^= 1,
            Some(Mischief::Short) => bytes.truncate(len / 2),
            Some(Mischief::Long) => bytes.push(0),
            Some(Mischief::Panic) => panic!("on purpose"),
            Some(Mischief::Endless) => loop {
                self.begun.store(true, Ordering::Release);
                sink(offset, &[]).map_err(|_| SupplyTrouble::Stopped)?;
                std::thread::yield_now();
            },
            Some(Mischief::Repeat | Mischief::WrongSum | Mischief::WrongChunks) | None => {}
        }
        for (number, piece) in bytes.chunks(100_000).enumerate() {
            let at = offset + 100_000 * number as u64;
            sink(at, piece).map_err(|_| SupplyTrouble::Stopped)?;
            if matches!(mischief, Some(Mischief::Repeat)) {
                sink(at, piece).map_err(|_| SupplyTrouble::Stopped)?;
            }
        }
        end
    }

    fn outline(
        &self,
        _: LinkId,
        wanted: Wanted,
        stretch: Stretch,
    ) -> Result<Vec<Chunk>, SupplyTrouble> {
        let contents = self.contents.lock().expect("no panic");
        let mischief = *self.mischief.lock().expect("no panic");
        let content = match mischief {
            Some(Mischief::WrongChunks) => contents.iter().find(|(hash, _)| **hash != wanted.hash),
            _ => contents.get_key_value(&wanted.hash),
        };
        let (_, content) = content.ok_or(SupplyTrouble::NotHere)?;
        let mut file = tempfile::tempfile().expect("a file");
        std::io::Write::write_all(&mut file, content).expect("written");
        let outline = chunks::outline(&file, &stretch, || true).expect("read");
        let mut outline = outline.expect("a stretch of it");
        if let Some(Mischief::WrongSum) = mischief {
            outline[0].len += 1;
        }
        Ok(outline)
    }
}

fn scene(shelf: &Arc<Shelf>) -> Scene {
    let supply = Arc::clone(shelf) as Arc<dyn Supply>;
    Scene::with(supply, EyesOptions::default())
}

#[test]
fn a_file_arrives_whole() {
    let (small, big) = (noise(70_000, b"small"), noise(5_000_000, b"big"));
    let shelf = Shelf::with(&[&small, &big]);
    let scene = scene(&shelf);
    for (at, bytes) in [("small", &small), ("big", &big)] {
        let print = scene.act_and_check(write_from_peer(at, bytes, None, None), at);
        assert!(scene.read(at) == *bytes);
        assert_eq!((print.mode, print.mtime), (META.mode, META.mtime));
    }
    let missing = scene.act(write_from_peer("none", b"nobody has this", None, None));
    assert_eq!(missing, Err(Trouble::NoSource));
    assert!(!scene.on_disk("none").exists());
}

#[test]
fn a_cut_transfer_is_resumed_where_it_ended() {
    let bytes = noise(3_000_000, b"x");
    let shelf = Shelf::with(&[&bytes]);
    let scene = scene(&shelf);
    shelf.misbehave(Mischief::Cut(1_234_567));
    let act = write_from_peer("f", &bytes, None, None);
    assert_eq!(scene.act(act.clone()), Err(Trouble::NoSource));
    assert_eq!(shelf.asked(), [(0, 3_000_000)]);
    shelf.misbehave(None);
    scene.act_and_check(act, "f");
    assert_eq!(shelf.asked(), [(1_234_567, 3_000_000 - 1_234_567)]);
    assert!(scene.read("f") == bytes);
    assert!(scene.litter().is_empty());
}

#[test]
fn a_part_file_survives_a_restart_and_is_not_trusted() {
    let bytes = noise(2_000_000, b"x");
    let shelf = Shelf::with(&[&bytes]);
    let first = scene(&shelf);
    shelf.misbehave(Mischief::Cut(1_000_000));
    let act = write_from_peer("f", &bytes, None, None);
    assert_eq!(first.act(act.clone()), Err(Trouble::NoSource));
    let Scene { disk, temp, .. } = first;
    drop(disk);
    shelf.misbehave(None);
    shelf.asked();
    let supply = Arc::clone(&shelf) as Arc<dyn Supply>;
    let second = Scene::at(temp, supply, EyesOptions::default());
    let [part] = &second.litter()[..] else {
        panic!("{:?}", second.litter())
    };
    let part = second.on_disk(&format!(".ahoy/tmp/{part}"));
    assert_eq!(fs::metadata(&part).expect("there").len(), 1_000_000);
    let mut rotten = fs::read(&part).expect("read");
    rotten[77] ^= 1;
    fs::write(&part, rotten).expect("written");
    second.act_and_check(act, "f");
    assert!(second.read("f") == bytes);
    assert_eq!(shelf.asked(), [(1_000_000, 1_000_000), (0, 2_000_000)]);
    assert!(second.litter().is_empty());
}

// sync-56.
#[test]
fn wrong_content_is_never_published() {
    let bytes = noise(1_500_000, b"x");
    let shelf = Shelf::with(&[&bytes]);
    let scene = scene(&shelf);
    let act = write_from_peer("f", &bytes, None, None);
    for (mischief, trouble) in [
        (Mischief::Flip, Trouble::Corrupt),
        (Mischief::Long, Trouble::Corrupt),
        (Mischief::Repeat, Trouble::Corrupt),
        (Mischief::Short, Trouble::NoSource),
    ] {
        shelf.misbehave(mischief);
        assert_eq!(scene.act(act.clone()), Err(trouble));
        assert!(!scene.on_disk("f").exists());
    }
    scene.disk.root().forget_parts(&|_| false);
    assert!(scene.litter().is_empty());
    shelf.misbehave(None);
    scene.act_and_check(act, "f");
}

#[test]
fn a_panic_loses_no_step() {
    let bytes = noise(100_000, b"x");
    let shelf = Shelf::with(&[&bytes]);
    let scene = scene(&shelf);
    shelf.misbehave(Mischief::Panic);
    let act = write_from_peer("f", &bytes, None, None);
    for _ in 0..20 {
        assert!(matches!(scene.act(act.clone()), Err(Trouble::Refused(_))));
    }
}

#[test]
fn what_is_fetched_but_cannot_be_published_is_not_fetched_again() {
    let bytes = noise(2_000_000, b"x");
    let shelf = Shelf::with(&[&bytes]);
    let scene = scene(&shelf);
    scene.write("f", b"in the way");
    let act = write_from_peer("f", &bytes, None, None);
    assert_eq!(scene.act(act.clone()), Err(Trouble::Changed));
    let over = write_from_peer("f", &bytes, Some(scene.print("f")), None);
    shelf.asked();
    scene.act_and_check(over, "f");
    assert_eq!(shelf.asked(), []);
    assert!(scene.read("f") == bytes && scene.litter().is_empty());
}

#[test]
fn one_content_for_many_names_arrives_at_each() {
    let bytes = noise(1_100_000, b"x");
    let shelf = Shelf::with(&[&bytes]);
    let scene = scene(&shelf);
    let names: Vec<String> = (0..12).map(|n| format!("f{n}")).collect();
    for at in &names {
        scene.start(write_from_peer(at, &bytes, None, None));
    }
    let mut done = 0;
    while done < names.len() {
        if let Input::Finished(outcomes) = scene.next_input(Instant::now() + DEADLINE) {
            assert!(
                outcomes.iter().all(|outcome| outcome.result.is_ok()),
                "{outcomes:?}"
            );
            done += outcomes.len();
        }
    }
    for at in &names {
        assert!(scene.read(at) == bytes);
    }
    assert!(scene.litter().is_empty());
}

#[test]
fn only_what_an_older_version_lacks_is_fetched() {
    let old = noise(8 << 20, b"old");
    let mut new = [b"a line at the front", &old[..]].concat();
    new.truncate(7 << 20);
    new.extend_from_slice(&noise(100_000, b"the end"));
    let shelf = Shelf::with(&[&new]);
    let scene = scene(&shelf);
    scene.write("f", &old);
    let over = Some(scene.print("f"));
    scene.act_and_check(write_from_peer("f", &new, over, Some("f")), "f");
    assert!(scene.read("f") == new);
    let fetched: u64 = shelf.asked().iter().map(|(_, len)| len).sum();
    assert!(fetched < 1 << 20, "{fetched} of {} bytes", new.len());
}

#[test]
fn what_an_older_version_lacks_is_resumed_where_it_ended() {
    const MIB: usize = 1 << 20;
    let old = noise(6 * MIB, b"old");
    let mut new = old.clone();
    for at in [MIB + 5, 4 * MIB + 4095] {
        new[at] ^= 1;
    }
    let shelf = Shelf::with(&[&new]);
    let scene = scene(&shelf);
    scene.write("f", &old);
    let act = write_from_peer("f", &new, Some(scene.print("f")), Some("f"));
    shelf.misbehave(Mischief::Cut(100));
    assert_eq!(scene.act(act.clone()), Err(Trouble::NoSource));
    let (first, second) = (MIB as u64, 4 * MIB as u64);
    assert_eq!(shelf.asked(), [(first, 4096)]);
    shelf.misbehave(None);
    scene.act_and_check(act, "f");
    assert_eq!(shelf.asked(), [(first + 100, 4096 - 100), (second, 4096)]);
    assert!(scene.read("f") == new);
    assert!(scene.litter().is_empty());
}

// sync-56.
#[test]
fn what_was_copied_before_a_cut_is_not_trusted() {
    let old = noise(3 << 20, b"old");
    let mut new = old.clone();
    new[1 << 20] ^= 1;
    let shelf = Shelf::with(&[&new]);
    let scene = scene(&shelf);
    scene.write("old", &old);
    shelf.misbehave(Mischief::Cut(100));
    let act = write_from_peer("f", &new, None, Some("old"));
    assert_eq!(scene.act(act.clone()), Err(Trouble::NoSource));
    let [part] = &scene.litter()[..] else {
        panic!("{:?}", scene.litter())
    };
    let part = scene.on_disk(&format!(".ahoy/tmp/{part}"));
    let mut changed = fs::read(&part).expect("read");
    changed[77] ^= 1;
    fs::write(&part, changed).expect("written");
    shelf.misbehave(None);
    scene.act_and_check(act, "f");
    assert!(shelf.asked().contains(&(0, new.len() as u64)));
    assert!(scene.read("f") == new);
}

// sync-56.
#[test]
fn a_lying_outline_costs_a_second_transfer_and_nothing_else() {
    let old = noise(3 << 20, b"old");
    let new = [&old[..2 << 20], &noise(1 << 20, b"new")].concat();
    // The lie is that nothing has changed.
    let shelf = Shelf::with(&[&new, &old]);
    let scene = scene(&shelf);
    scene.write("old", &old);
    for (number, mischief) in [Mischief::WrongSum, Mischief::WrongChunks]
        .into_iter()
        .enumerate()
    {
        shelf.misbehave(mischief);
        let at = format!("f{number}");
        scene.act_and_check(write_from_peer(&at, &new, None, Some("old")), &at);
        assert!(scene.read(&at) == new);
        assert!(shelf.asked().contains(&(0, new.len() as u64)));
    }
    let at = "no basis";
    scene.act_and_check(write_from_peer(at, &new, None, Some("nothing")), at);
}

#[test]
fn stopping_does_not_wait_for_a_transfer() {
    let bytes = noise(1_000_000, b"x");
    let shelf = Shelf::with(&[&bytes]);
    let scene = scene(&shelf);
    shelf.misbehave(Mischief::Endless);
    for number in 0..20 {
        let mut other = bytes.clone();
        other[0] = number;
        shelf
            .contents
            .lock()
            .expect("no panic")
            .insert(hash_of(&other), other.clone());
        scene.start(write_from_peer("f", &other, None, None));
    }
    while !shelf.begun.load(Ordering::Acquire) {
        std::thread::yield_now();
    }
    scene.disk.root().forget_parts(&|_| false);
    assert!(!scene.litter().is_empty(), "what is in use is kept");
    drop(scene);
}
