//! What happens while nobody is connected, and what becomes of it when they meet again.

use std::fs;
use std::path::Path;

use crate::harness::{Place, Run, converged, converged_to, pair, text};
use crate::tree::{Tree, litter, many, noise, variety};

/// Stops both, lets `left` and `right` change their folders, and starts both again.
fn apart(
    place: &Place,
    fill: impl Fn(&Path),
    left: impl Fn(&Path),
    right: impl Fn(&Path),
) -> (Run, Run) {
    let (a, b) = pair(place, fill);
    let (a_device, a_dir) = (a.device.clone(), a.dir.clone());
    let (b_device, b_dir) = (b.device.clone(), b.dir.clone());
    a.stop();
    b.stop();
    left(&a_dir);
    right(&b_dir);
    (a_device.sync(&a_dir), b_device.sync(&b_dir))
}

fn write(dir: &Path, name: &str, content: &str) {
    fs::write(dir.join(name), content).expect("a file");
}

#[test]
fn both_go_on_after_a_restart() {
    let place = Place::new();
    let (mut a, mut b) = apart(
        &place,
        variety,
        |dir| {
            write(dir, "left", "l");
            fs::remove_file(dir.join("run")).expect("removed");
            fs::rename(dir.join("deep"), dir.join("shallow")).expect("renamed");
        },
        |dir| {
            write(dir, "right", "r");
            write(dir, "deep/er/added meanwhile", "x");
        },
    );
    let tree = converged_to(&mut [&mut a, &mut b], |tree| {
        tree.has("left") && tree.has("right")
    });
    assert!(!tree.has("run") && !tree.has("deep"));
    assert_eq!(tree.content("shallow/er/added meanwhile"), Some(&b"x"[..]));
    // Without a change there is nothing to do.
    let received = b.status().traffic.received;
    let (device, dir) = (b.device.clone(), b.dir.clone());
    b.stop();
    let mut b = device.sync(&dir);
    converged(&mut [&mut a, &mut b]);
    let again = b.status().traffic.received;
    assert!(
        again < 50_000,
        "{again} bytes for nothing, {received} before"
    );
}

#[test]
fn of_two_edits_both_are_kept_under_the_same_names_everywhere() {
    let place = Place::new();
    let (mut a, mut b) = apart(
        &place,
        |dir| {
            write(dir, "letter.txt", "dear");
            fs::write(dir.join("big.bin"), noise(1, 300_000)).expect("a file");
        },
        |dir| {
            write(dir, "letter.txt", "dear left");
            fs::write(dir.join("big.bin"), noise(2, 300_000)).expect("a file");
        },
        |dir| {
            write(dir, "letter.txt", "dear right");
            fs::write(dir.join("big.bin"), noise(3, 300_000)).expect("a file");
        },
    );
    let tree = converged_to(&mut [&mut a, &mut b], |tree| tree.0.len() >= 4);
    assert!(tree.holds(b"dear left") && tree.holds(b"dear right"));
    assert!(tree.holds(&noise(2, 300_000)) && tree.holds(&noise(3, 300_000)));
    assert_eq!(tree.0.len(), 4, "{tree:?}");
    let copies: Vec<_> = tree.0.keys().filter_map(|path| path.to_str()).collect();
    let copy = copies
        .iter()
        .find(|name| name.starts_with("letter") && **name != "letter.txt");
    let copy = copy.expect("a copy beside the winner");
    assert!(
        copy.ends_with(".txt") && (copy.contains("left") || copy.contains("right")),
        "{copy}"
    );
    let told = |run: &mut Run| run.status().notices.iter().any(|n| n.path.is_some());
    assert!(told(&mut a) || told(&mut b));
}

#[test]
fn equal_edits_are_no_conflict() {
    let place = Place::new();
    let same = |dir: &Path| write(dir, "letter.txt", "the same");
    let (mut a, mut b) = apart(&place, |dir| write(dir, "letter.txt", "dear"), same, same);
    let tree = converged_to(&mut [&mut a, &mut b], |tree| tree.holds(b"the same"));
    assert_eq!(tree.0.len(), 1, "{tree:?}");
}

#[test]
fn an_edit_survives_a_delete() {
    let place = Place::new();
    let (mut a, mut b) = apart(
        &place,
        |dir| many(dir, 300),
        |dir| {
            fs::remove_file(dir.join("d000/f00003")).expect("removed");
            fs::remove_dir_all(dir.join("d001")).expect("removed");
        },
        |dir| {
            write(dir, "d000/f00003", "edited");
            write(dir, "d001/f00150", "edited too");
        },
    );
    let tree = converged_to(&mut [&mut a, &mut b], |tree| {
        tree.holds(b"edited") && tree.holds(b"edited too") && !tree.has("d001/f00151")
    });
    assert_eq!(tree.content("d000/f00003"), Some(&b"edited"[..]));
    assert!(!tree.has("d001/f00101"));
}

#[test]
fn a_joiner_with_files_of_his_own() {
    let place = Place::new();
    let (a, b) = (place.folder("a"), place.folder("b"));
    many(&a, 100);
    many(&b, 100);
    write(&b, "mine", "mine");
    write(&b, "d000/f00001", "another one");
    let mut left = place.device("left").share(&a, &[]);
    let ticket = left.ticket();
    let mut right = place.device("right").join(&ticket, &b);
    let tree = converged_to(&mut [&mut left, &mut right], |tree| tree.has("mine"));
    assert!(tree.holds(b"another one") && tree.holds(&noise(2, 4096)));
    // 100 files, the directory, the new file, and the copy of the one that differed.
    assert_eq!(tree.0.len(), 103, "{:?}", tree.0.keys());
}

#[test]
fn a_moved_folder_goes_on_and_a_copied_one_does_not() {
    let place = Place::new();
    let (mut left, right) = pair(&place, variety);
    let (device, dir) = (right.device.clone(), right.dir.clone());
    right.stop();
    let moved = place.path("elsewhere");
    fs::rename(&dir, &moved).expect("moved");
    write(&moved, "new", "new");
    let mut right = device.sync(&moved);
    converged_to(&mut [&mut left, &mut right], |tree| tree.has("new"));
    right.stop();
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([&moved, &dir])
        .status();
    assert!(copied.expect("cp").success());
    device.refused(&["sync", dir.to_str().expect("plain")], 3, "is a copy of");
    let mut right = device.sync(&moved);
    converged(&mut [&mut left, &mut right]);
}

#[test]
fn a_lost_index_costs_a_look_and_nothing_else() {
    let place = Place::new();
    let (mut left, right) = pair(&place, variety);
    let (device, dir) = (right.device.clone(), right.dir.clone());
    let before = Tree::read(&dir);
    right.stop();
    for entry in fs::read_dir(device.home().join("state/shares"))
        .expect("records")
        .flatten()
    {
        for file in fs::read_dir(entry.path()).expect("names").flatten() {
            if file.file_name().to_string_lossy().starts_with("index.db") {
                fs::remove_file(file.path()).expect("removed");
            }
        }
    }
    let mut right = device.sync(&dir);
    assert_eq!(converged(&mut [&mut left, &mut right]), before);
    write(&dir, "after", "it all");
    converged_to(&mut [&mut left, &mut right], |tree| tree.has("after"));
    right.stop();
    assert_eq!(litter(&dir), [] as [&Path; 0]);
}

#[test]
fn one_process_for_several_folders() {
    let place = Place::new();
    let (near, far) = (place.device("near"), place.device("far"));
    let mut pairs = Vec::new();
    for name in ["one", "two", "three"] {
        let here = place.folder(name);
        many(&here, 20);
        let mut left = near.share(&here, &[]);
        let ticket = left.ticket();
        let mut right = far.join(&ticket, &place.path(&format!("{name} there")));
        converged(&mut [&mut left, &mut right]);
        pairs.push((here, right.dir.clone()));
        left.stop();
        right.stop();
    }
    let (here, there): (Vec<_>, Vec<_>) = pairs.iter().cloned().unzip();
    let mut left = near.sync_all(&here);
    let mut right = far.sync_all(&there);
    for (n, (here, there)) in pairs.iter().enumerate() {
        write(here, "from near", &n.to_string());
        write(there, "from far", &n.to_string());
        fs::rename(there.join("d000"), there.join("moved")).expect("renamed");
    }
    for (n, (here, there)) in pairs.iter().enumerate() {
        left.wait("all to be the same", |_| {
            let tree = Tree::read(here);
            tree.has("from far") && tree.has("moved/f00019") && tree == Tree::read(there)
        });
        let said = fs::read_to_string(there.join("from near")).expect("a file");
        assert_eq!(said, n.to_string(), "folders are mixed up");
        for dir in [here, there] {
            assert_eq!(Tree::read(dir).0.len(), 23);
        }
    }
    let output = near.output(&["status"]);
    let status = String::from_utf8(output.stdout).expect("UTF-8");
    for dir in &here {
        assert!(status.contains(text(dir)), "{status}");
    }
    // Where several run, one has to be named.
    near.refused(&["ticket"], 3, "several folders");
    right.status();
    left.stop();
    right.stop();
}
