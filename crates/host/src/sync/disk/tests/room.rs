//! Small file systems: a full disk, and mount points inside a share. Needs root to mount.

use std::path::Path;
use std::process::Command;

use ahoy_logic::sync::Trouble;

use super::super::chunks::tests::noise;
use super::*;

/// A mounted tmpfs; gone when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(at: &Path, size: &str) -> Option<Self> {
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(at)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(at.to_owned())),
            _ => {
                println!("skipped: mounting a tmpfs is not allowed here");
                None
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Gives noise for as long as it is asked for.
struct Plenty(Vec<u8>);

impl Supply for Plenty {
    fn fetch(
        &self,
        _: LinkId,
        _: Wanted,
        offset: u64,
        len: u64,
        sink: &mut Sink<'_>,
    ) -> Result<(), SupplyTrouble> {
        let bytes = &self.0[offset as usize..(offset + len) as usize];
        for (number, piece) in bytes.chunks(50_000).enumerate() {
            let at = offset + 50_000 * number as u64;
            sink(at, piece).map_err(|_| SupplyTrouble::Stopped)?;
        }
        Ok(())
    }
    fn outline(&self, _: LinkId, _: Wanted, _: Stretch) -> Result<Vec<Chunk>, SupplyTrouble> {
        Err(SupplyTrouble::NotHere)
    }
}

#[test]
fn a_full_disk_is_told_and_nothing_is_left() {
    let temp = tempfile::tempdir().expect("a directory");
    let at = temp.path().to_owned();
    let Some(_mounted) = Mounted::new(&at, "2m") else {
        return;
    };
    let big = noise(4 << 20, b"big");
    let scene = Scene::at(temp, Arc::new(Plenty(big.clone())), EyesOptions::default());
    scene.write("old", b"old");
    let old = scene.print("old");
    assert_eq!(scene.act(write_here("f", &big, None)), Err(Trouble::Full));
    assert_eq!(
        scene.act(write_here("old", &big, Some(old))),
        Err(Trouble::Full)
    );
    assert_eq!(
        scene.act(write_from_peer("f", &big, None, None)),
        Err(Trouble::Full)
    );
    assert!(scene.litter().is_empty(), "{:?}", scene.litter());
    assert!(!scene.on_disk("f").exists());
    assert_eq!(scene.read("old"), b"old");
    let fits = noise(1 << 20, b"fits");
    scene.act_and_check(write_here("f", &fits, None), "f");
}

#[test]
fn a_mount_point_is_not_entered() {
    let scene = Scene::new();
    std::fs::create_dir(scene.on_disk("m")).expect("made");
    let Some(_mounted) = Mounted::new(&scene.on_disk("m"), "1m") else {
        return;
    };
    scene.write("m/inside", b"x");
    let seen = scene.look_at_all();
    assert_eq!(seen.get("m"), Some(&Found::Foreign));
    assert!(seen.get("m/inside").is_none() && !seen.whole.contains(&path("m")));
    assert_eq!(
        scene.act(write_here("m/f", b"x", None)),
        Err(Trouble::Changed)
    );
    assert!(!scene.on_disk("m/f").exists());
}
