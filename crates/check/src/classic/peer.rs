//! The cases for a peer. It is started in a folder of its own, and what it does there, with its
//! tracker and with other peers, is judged; the stage stands in [`super::scene`].

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use ahoy_wire::classic::{Generation, MESSAGE_BYTES_MAX, Objects, header};
use serde_json::json;

use super::requirements::*;
use super::scene::{
    FAR, FAR_TIME, Folder, HIDDEN, KEPT, Manner, OWN, START_MAX, Scene, accept, entry, listener,
    requested, same, unexpected,
};
use crate::attempt::{Attempt, shown};
use crate::case::{Column, Failure, Outcome};
use crate::stream::Stream;

/// The peer under examination.
#[derive(Clone, Debug)]
pub struct Client {
    /// Program and arguments; `{ip}` and `{port}` of the tracker and the folder `{dir}` are filled
    /// in. Without the first two `{ip} {port}` is appended; without the last the program is
    /// started inside the folder.
    pub command: Vec<String>,
    /// Whether it is to serve requests of the newer generation.
    pub lines: bool,
    /// Whether it is to serve requests of the older generation.
    pub bare: bool,
    /// The longest time between two of its messages to the tracker.
    pub interval: Duration,
}

/// The column of cases for `client`.
#[must_use]
pub fn client_column(client: &Client) -> Column {
    let mut client = client.clone();
    let names_tracker = |word: &String| word.contains("{ip}") || word.contains("{port}");
    if !client.command.iter().any(names_tracker) {
        client.command.extend(["{ip}", "{port}"].map(str::to_owned));
    }
    let title = client.command.join(" ");
    let patience = START_MAX + client.interval * 4;
    let case = |script: fn(&mut Scene<'_>) -> Outcome| {
        let client = client.clone();
        move |attempt: &Attempt| script(&mut Scene::start(attempt, &client)?)
    };
    let slow = patience + START_MAX * 3;
    let mut column = Column::new("peer", title)
        .slow_case(&CLASSIC_30, "init", patience, case(init))
        .slow_case(&CLASSIC_30, "keep-alive", patience, case(keep_alive))
        .slow_case(&CLASSIC_33, "announced", patience, case(announced))
        .slow_case(&CLASSIC_53, "missing", patience, case(missing))
        .slow_case(&CLASSIC_6, "asked-outside", patience, case(asked_outside))
        .slow_case(
            &CLASSIC_33,
            "asked-excluded",
            patience,
            case(asked_excluded),
        )
        .slow_case(&CLASSIC_56, "silent-client", patience, case(silent_client))
        .slow_case(&CLASSIC_31, "absent", patience, case(absent))
        .slow_case(&CLASSIC_31, "empty", patience, case(empty))
        .slow_case(&CLASSIC_31, "older", patience, case(older))
        .slow_case(&CLASSIC_31, "newer", patience, case(newer))
        .slow_case(&CLASSIC_32, "own-files", patience, case(own_files))
        .slow_case(&CLASSIC_34, "time", patience, case(time))
        .slow_case(&CLASSIC_35, "half-way", patience, case(half_way))
        .slow_case(&CLASSIC_6, "told-outside", patience, case(told_outside))
        .slow_case(&CLASSIC_33, "told-excluded", patience, case(told_excluded))
        .slow_case(&CLASSIC_37, "dead-holder", patience, case(dead_holder))
        .slow_case(&CLASSIC_39, "tracker-gone", slow, case(tracker_gone));
    if client.lines {
        column = column
            .slow_case(&CLASSIC_50, "served", patience, case(served_in_lines))
            .slow_case(&CLASSIC_58, "too-few", patience, case(too_few))
            .slow_case(&CLASSIC_59, "left-open", patience, case(left_open));
    }
    if client.bare {
        column = column.slow_case(&CLASSIC_51, "served", patience, case(served_bare));
    }
    column
}

fn init(scene: &mut Scene<'_>) -> Outcome {
    let files = scene.first["files"].as_array().cloned().unwrap_or_default();
    let own = files.iter().find(|file| file["name"] == OWN.0);
    let mtime = own.map(|own| own["mtime"].as_f64().map(f64::floor));
    if mtime == Some(Some(OWN.2 as f64)) {
        scene.serving().map(drop)
    } else {
        Err(unexpected(
            &scene.first,
            "the file of its folder with its time",
        ))
    }
}

fn keep_alive(scene: &mut Scene<'_>) -> Outcome {
    let port = scene.first["port"].clone();
    for _ in 0..2 {
        scene.answer(&json!({}))?;
        let message = scene.message(scene.interval * 2)?;
        if message["port"] != port {
            return Err(unexpected(&message, "a message with the same port"));
        }
    }
    Ok(())
}

fn announced(scene: &mut Scene<'_>) -> Outcome {
    let files = scene.first["files"].as_array().cloned().unwrap_or_default();
    let excluded = ["program.py", "library.so", "inner"];
    match files
        .iter()
        .find(|file| excluded.iter().any(|name| file["name"] == *name))
    {
        Some(file) => Err(unexpected(
            file,
            "no programs and no folders among its files",
        )),
        None => Ok(()),
    }
}

fn served_in_lines(scene: &mut Scene<'_>) -> Outcome {
    let expected = [&header(OWN.1.len() as u64), OWN.1].concat();
    let answer = scene.ask(format!("{}\n", OWN.0).as_bytes())?;
    same(&answer, &expected)
}

fn served_bare(scene: &mut Scene<'_>) -> Outcome {
    let answer = scene.ask(OWN.0.as_bytes())?;
    same(&answer, OWN.1)
}

fn missing(scene: &mut Scene<'_>) -> Outcome {
    let end = if scene.lines { "\n" } else { "" };
    let answer = scene.ask(format!("no such file{end}").as_bytes())?;
    same(&answer, b"")
}

fn asked_outside(scene: &mut Scene<'_>) -> Outcome {
    let absolute = scene.folder.0.join("secret").to_string_lossy().into_owned();
    let end = if scene.lines { "\n" } else { "" };
    for name in ["../secret", &absolute, "inner/../../secret"] {
        let answer = scene.ask(format!("{name}{end}").as_bytes())?;
        if answer.ends_with(HIDDEN) {
            let name = shown(name.as_bytes());
            return Err(Failure::broken(format!(
                "it served {name}, outside its folder"
            )));
        }
    }
    Ok(())
}

fn asked_excluded(scene: &mut Scene<'_>) -> Outcome {
    let end = if scene.lines { "\n" } else { "" };
    let answer = scene.ask(format!("program.py{end}").as_bytes())?;
    same(&answer, b"")
}

fn silent_client(scene: &mut Scene<'_>) -> Outcome {
    let silent = Stream::connect(scene.attempt, scene.serving()?)?;
    let answer = if scene.lines {
        scene.ask(format!("{}\n", OWN.0).as_bytes())?
    } else {
        scene.ask(OWN.0.as_bytes())?
    };
    drop(silent);
    if answer.ends_with(OWN.1) {
        Ok(())
    } else {
        same(&answer, OWN.1)
    }
}

fn absent(scene: &mut Scene<'_>) -> Outcome {
    let name = "from afar é.bin";
    let holder = listener()?;
    let directory = json!({name: entry(&holder, FAR_TIME)?});
    let wait = scene.fetch_max();
    scene.play(&directory, &holder, Manner::Right, wait, |folder| {
        folder.read(name).as_deref() == Some(FAR)
    })?;
    same(&scene.folder.read(name).unwrap_or_default(), FAR)
}

/// An empty file is a file. In the older generation it cannot be told from none.
fn empty(scene: &mut Scene<'_>) -> Outcome {
    let holder = listener()?;
    let directory = json!({"nothing": entry(&holder, FAR_TIME)?});
    let until = scene.attempt.deadline_in(scene.fetch_max())?;
    scene.answer(&directory)?;
    while Instant::now() < until && scene.folder.read("nothing").is_none() {
        let Some(mut stream) = scene.visitor(&directory, &holder)? else {
            continue;
        };
        match requested(&mut stream)? {
            Some((request, _)) if request.generation == Generation::Lines => {
                stream.send(&header(0))?;
                stream.finish()?;
            }
            Some(_) => return Err(Failure::skipped("it asks in the older generation")),
            None => {}
        }
    }
    match scene.folder.read("nothing") {
        Some(content) => same(&content, b""),
        None => Err(Failure::broken("an empty file did not arrive")),
    }
}

fn older(scene: &mut Scene<'_>) -> Outcome {
    let holder = listener()?;
    let directory = json!({OWN.0: entry(&holder, OWN.2 + 1)?});
    let wait = scene.fetch_max();
    scene.play(&directory, &holder, Manner::Right, wait, |folder| {
        folder.read(OWN.0).as_deref() == Some(FAR)
    })?;
    same(&scene.folder.read(OWN.0).unwrap_or_default(), FAR)
}

/// What is newer here, or as new, stays; a file listed with them shows when to look.
fn newer(scene: &mut Scene<'_>) -> Outcome {
    let holder = listener()?;
    let directory = json!({
        KEPT.0: entry(&holder, FAR_TIME)?,
        OWN.0: entry(&holder, OWN.2)?,
        "z wanted": entry(&holder, FAR_TIME)?,
    });
    let wait = scene.fetch_max();
    let asked = scene.play(&directory, &holder, Manner::Right, wait, |folder| {
        folder.read("z wanted").is_some()
    })?;
    if asked.iter().any(|name| name == KEPT.0 || name == OWN.0) {
        let why = "it fetched a file that was as new or newer in its folder";
        return Err(Failure::broken(why));
    }
    same(&scene.folder.read(KEPT.0).unwrap_or_default(), KEPT.1)
}

/// The tracker lists the peer's own address for a file that it does not have.
fn own_files(scene: &mut Scene<'_>) -> Outcome {
    let holder = listener()?;
    let port = scene.serving()?.port();
    let directory = json!({
        "a phantom": {"ip": "127.0.0.1", "port": port, "mtime": FAR_TIME},
        "wanted": entry(&holder, FAR_TIME)?,
    });
    let wait = scene.fetch_max();
    scene.play(&directory, &holder, Manner::Right, wait, |folder| {
        folder.read("wanted").is_some()
    })?;
    same(&scene.folder.read("wanted").unwrap_or_default(), FAR)?;
    match scene.folder.read("a phantom") {
        None => Ok(()),
        Some(_) => Err(Failure::broken("it made a file out of nothing")),
    }
}

/// The holder waits in the middle: until it goes on there is no file.
fn half_way(scene: &mut Scene<'_>) -> Outcome {
    let holder = listener()?;
    let directory = json!({"slow": entry(&holder, FAR_TIME)?});
    let until = scene.attempt.deadline_in(scene.fetch_max())?;
    scene.answer(&directory)?;
    while Instant::now() < until {
        let Some(mut stream) = scene.visitor(&directory, &holder)? else {
            continue;
        };
        let Some((request, _)) = requested(&mut stream)? else {
            continue;
        };
        if request.generation == Generation::Lines {
            stream.send(&header(FAR.len() as u64))?;
        }
        stream.send(&FAR[..7])?;
        scene.attempt.pause(scene.attempt.limits.quiet)?;
        let seen = scene.folder.read("slow");
        stream.send(&FAR[7..])?;
        stream.finish()?;
        if let Some(part) = seen {
            let part = shown(&part);
            let why = format!("it showed the file before it was whole: {part}");
            return Err(Failure::broken(why));
        }
        let wait = scene.fetch_max();
        scene.play(&directory, &holder, Manner::Right, wait, |folder| {
            folder.read("slow").as_deref() == Some(FAR)
        })?;
        return same(&scene.folder.read("slow").unwrap_or_default(), FAR);
    }
    Err(Failure::broken("it never asked for the file"))
}

fn time(scene: &mut Scene<'_>) -> Outcome {
    let holder = listener()?;
    let directory = json!({"timed": entry(&holder, FAR_TIME)?});
    let mtime = |folder: &Folder| {
        let meta = fs::metadata(folder.dir().join("timed"));
        meta.map(|meta| meta.mtime()).ok()
    };
    let wanted = i64::try_from(FAR_TIME).ok();
    let wait = scene.fetch_max();
    scene.play(&directory, &holder, Manner::Right, wait, |folder| {
        mtime(folder) == wanted
    })?;
    let found = mtime(&scene.folder);
    if found == wanted {
        return Ok(());
    }
    Err(Failure::broken(format!(
        "expected time {FAR_TIME}; the file has {found:?}"
    )))
}

fn told_outside(scene: &mut Scene<'_>) -> Outcome {
    let holder = listener()?;
    let absolute = scene
        .folder
        .0
        .join("absolute")
        .to_string_lossy()
        .into_owned();
    let directory = json!({
        "../outside": entry(&holder, FAR_TIME)?,
        absolute: entry(&holder, FAR_TIME)?,
        "inner/deeper": entry(&holder, FAR_TIME)?,
    });
    let wait = scene.fetch_max();
    let evil = |folder: &Folder| {
        let places = ["outside", "absolute", "shared/inner/deeper"];
        places.iter().any(|place| folder.0.join(place).exists())
    };
    let asked = scene.play(&directory, &holder, Manner::Right, wait, evil)?;
    if evil(&scene.folder) {
        return Err(Failure::broken(
            "it wrote where a name in the directory led it",
        ));
    }
    match asked.first() {
        None => Ok(()),
        Some(name) => {
            let name = shown(name.as_bytes());
            Err(Failure::broken(format!("it asked for {name}")))
        }
    }
}

fn told_excluded(scene: &mut Scene<'_>) -> Outcome {
    let holder = listener()?;
    let directory = json!({"program.py": entry(&holder, FAR_TIME)?});
    let wait = scene.fetch_max();
    let changed = |folder: &Folder| folder.read("program.py").as_deref() != Some(b"pass\n");
    scene.play(&directory, &holder, Manner::Right, wait, changed)?;
    same(
        &scene.folder.read("program.py").unwrap_or_default(),
        b"pass\n",
    )
}

fn dead_holder(scene: &mut Scene<'_>) -> Outcome {
    let (dead, holder) = (listener()?, listener()?);
    let directory = json!({
        "a wanted": entry(&dead, FAR_TIME)?,
        "wanted": entry(&holder, FAR_TIME)?,
        "z wanted": entry(&dead, FAR_TIME)?,
    });
    drop(dead);
    let wait = scene.fetch_max();
    scene.play(&directory, &holder, Manner::Right, wait, |folder| {
        folder.read("wanted").as_deref() == Some(FAR)
    })?;
    same(&scene.folder.read("wanted").unwrap_or_default(), FAR)
}

fn too_few(scene: &mut Scene<'_>) -> Outcome {
    let holder = listener()?;
    let directory = json!({"short": entry(&holder, FAR_TIME)?});
    let wait = scene.fetch_max();
    let mut left = Instant::now() + wait;
    let asked = scene.play(&directory, &holder, Manner::TooFew, wait, |folder| {
        // Once it is there it may be taken away again; in the end nothing counts.
        if folder.read("short").is_none() && Instant::now() > left {
            left = Instant::now();
            return true;
        }
        false
    })?;
    if asked.is_empty() {
        return Err(Failure::broken("it never asked for the file"));
    }
    match scene.folder.read("short") {
        None => Ok(()),
        Some(part) => {
            let part = shown(&part);
            Err(Failure::broken(format!(
                "half a file is left in its folder: {part}"
            )))
        }
    }
}

fn left_open(scene: &mut Scene<'_>) -> Outcome {
    let holder = listener()?;
    let directory = json!({"open": entry(&holder, FAR_TIME)?});
    let wait = scene.fetch_max();
    scene.play(&directory, &holder, Manner::LeavesOpen, wait, |folder| {
        folder.read("open").as_deref() == Some(FAR)
    })?;
    same(&scene.folder.read("open").unwrap_or_default(), FAR)
}

fn tracker_gone(scene: &mut Scene<'_>) -> Outcome {
    scene.answer(&json!({}))?;
    let wait = scene.interval + START_MAX * 3;
    let again = {
        scene.stream.finish()?;
        accept(scene.attempt, &scene.tracker, wait)?
    };
    scene.stream = again;
    scene.objects = Objects::new(MESSAGE_BYTES_MAX);
    scene.first = scene.message(wait)?;
    init(scene)
}
