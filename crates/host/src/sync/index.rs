//! The index on disk: the engine's rows, durable before anyone hears of them.
//!
//! One SQLite file for each copy of a share. WAL with `synchronous=FULL`: a commit that returned
//! survives a power cut. Every row carries a short BLAKE3 tag, so that a bit that rots on the disk
//! stops the share with a clear error instead of spreading to the peers as somebody's change.
//! It decides nothing: it gives all rows back once, at the start, and takes new ones after that.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use ahoy_logic::sync::Row;
use ahoy_wire::sync::ReplicaId;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Rows, TransactionBehavior, params};

/// Version of the tables and of the encoding of the rows; a file with a higher one is refused.
const SCHEMA_VERSION: i64 = 3;

/// `ahoy` in ASCII: tells an index from any other SQLite file.
const APPLICATION_ID: i64 = 0x6168_6f79;

/// Page cache, KiB.
const CACHE_KIB: i64 = 32 * 1024;

/// What the write-ahead log may keep on disk between checkpoints, bytes.
const LOG_BYTES_MAX: i64 = 64 << 20;

/// Pages of 4 KiB in the log before it is folded into the main file.
const CHECKPOINT_PAGES: i64 = 4096;

/// How long to wait for another process to let go of the file.
const BUSY_WAIT: Duration = Duration::from_secs(1);

/// Length of the tag at the end of every blob, bytes.
const TAG_BYTES: usize = 8;

/// Why the index cannot be used. Nothing in the shared folder is touched by any of these.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Not SQLite, torn, or a row that is not what was written.
    #[error("the index {} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// From a later ahoy.
    #[error(
        "the index {} has version {version}, this ahoy knows up to {SCHEMA_VERSION}",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: i64,
    },
    /// It belongs to another copy of the share.
    #[error("the index {} belongs to another copy of the share", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Another process has it open.
    #[error("the index {} is in use by another process", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// No room on the disk; nothing of the batch was kept. May be tried again.
    #[error("the disk that holds the index {} is full", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The system refuses to open, read or write it.
    #[error("the index {} cannot be used: {source}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
}

impl IndexError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Damaged { path, .. } | Self::Foreign { path } => format!(
                "move {} away and start again: ahoy reads the folder anew and keeps every file in \
                 it",
                path.display()
            ),
            Self::Newer { .. } => "use the newer ahoy that wrote it".into(),
            Self::InUse { .. } => "stop the other ahoy that syncs this folder".into(),
            Self::Full { .. } => "free some space on that disk".into(),
            Self::Refused { path, .. } => {
                format!(
                    "check the permissions of {} and of its directory",
                    path.display()
                )
            }
        }
    }
}

/// An open index, held by this process alone.
#[derive(Debug)]
pub struct Index {
    connection: Connection,
    path: PathBuf,
    rebooted: bool,
    /// Which file this is, if it is not the one that was written last and nobody has noted it yet.
    other_file: Option<String>,
    /// Encoding space, kept between commits.
    blob: Vec<u8>,
}

impl Index {
    /// Opens the index of `replica` at `path`, or makes an empty one.
    pub fn open(path: &Path, replica: ReplicaId) -> Result<Self, IndexError> {
        let connection = Connection::open(path).map_err(|e| wrap(path, e))?;
        let mut index = Self {
            connection,
            path: path.to_owned(),
            rebooted: false,
            other_file: None,
            blob: Vec::new(),
        };
        index.prepare().map_err(|e| wrap(path, e))?;
        if index.is_fresh()? {
            index.create_tables().map_err(|e| wrap(path, e))?;
        }
        index.check_replica(replica)?;
        index.note_boot().map_err(|e| wrap(path, e))?;
        index.compare_file().map_err(|e| wrap(path, e))?;
        Ok(index)
    }

    /// Gives all rows, one after the other: counters, then what was heard of others, then nodes by
    /// number. What `take` made of them counts only if each was as it had been written.
    pub fn load<T>(
        &self,
        take: impl FnOnce(&mut dyn Iterator<Item = Row>) -> T,
    ) -> Result<T, IndexError> {
        let sql = |e| wrap(&self.path, e);
        let query = "SELECT one, row FROM counters UNION ALL SELECT replica, row FROM heard \
                     UNION ALL SELECT number, row FROM node";
        let mut statement = self.connection.prepare(query).map_err(sql)?;
        let mut found = statement.query([]).map_err(sql)?;
        let mut failure = None;
        let mut rows = std::iter::from_fn(|| match self.next_row(&mut found) {
            Ok(row) => row,
            Err(error) => {
                failure = Some(error);
                None
            }
        });
        let taken = take(&mut rows);
        failure.map_or(Ok(taken), Err)
    }

    fn next_row(&self, found: &mut Rows<'_>) -> Result<Option<Row>, IndexError> {
        let sql = |e| wrap(&self.path, e);
        let Some(entry) = found.next().map_err(sql)? else {
            return Ok(None);
        };
        let key: i64 = entry.get(0).map_err(sql)?;
        let value = entry.get_ref(1).map_err(sql)?;
        let row = value.as_blob().ok().and_then(|blob| decode(key, blob));
        match row {
            Some(row) => Ok(Some(row)),
            None => Err(self.damaged(&format!("row {key} is not as written"))),
        }
    }

    /// Keeps `rows`, all or none, durably when this returns. Later rows replace earlier ones.
    pub fn commit(&mut self, rows: &[Row]) -> Result<(), IndexError> {
        if rows.is_empty() {
            return Ok(());
        }
        let has_numbers = rows.iter().any(|row| matches!(row, Row::Numbers(_)));
        let file = self.other_file.as_deref().filter(|_| has_numbers);
        write(&mut self.connection, &mut self.blob, rows, file).map_err(|e| wrap(&self.path, e))?;
        if has_numbers {
            self.other_file = None;
        }
        Ok(())
    }

    /// Whether this is another file than the one that was written last: somebody has put it back
    /// from a backup, or moved it. Until the engine has kept the numbers that it takes because of
    /// that, every opening says so.
    pub fn is_put_back(&self) -> bool {
        self.other_file.is_some()
    }

    /// Whether the machine has started anew since the index was last opened (or there is no
    /// telling): files that were written just before may be torn unless they were synced.
    pub fn rebooted(&self) -> bool {
        self.rebooted
    }

    /// Settings of this connection; nothing here lasts in the file except the journal mode.
    fn prepare(&self) -> rusqlite::Result<()> {
        self.connection.busy_timeout(BUSY_WAIT)?;
        // Exclusive first: WAL then needs no shared memory file beside the index.
        self.connection
            .pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        self.connection.pragma_update(None, "journal_mode", "WAL")?;
        self.connection.pragma_update(None, "synchronous", "FULL")?;
        self.connection
            .pragma_update(None, "cache_size", -CACHE_KIB)?;
        self.connection
            .pragma_update(None, "journal_size_limit", LOG_BYTES_MAX)?;
        self.connection
            .pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        self.connection
            .pragma_update(None, "trusted_schema", false)?;
        // Takes the lock now: a second process is refused before it reads anything.
        self.connection.execute_batch("BEGIN IMMEDIATE; COMMIT")
    }

    /// Whether nothing is in it yet; refuses what this ahoy cannot read.
    fn is_fresh(&self) -> Result<bool, IndexError> {
        let pragma = |name| {
            self.connection
                .pragma_query_value(None, name, |row| row.get(0))
        };
        let application: i64 = pragma("application_id").map_err(|e| wrap(&self.path, e))?;
        let version: i64 = pragma("user_version").map_err(|e| wrap(&self.path, e))?;
        if (application, version) == (0, 0) {
            return self.expect_no_tables().map(|()| true);
        }
        if application != APPLICATION_ID || version < 1 {
            return Err(self.damaged("it is not an index of ahoy"));
        }
        if version < SCHEMA_VERSION {
            // The tables are the same; what an older ahoy wrote of its numbers says nothing now,
            // and an index without it is believed to have given all counts that it knows.
            let update = format!(
                "BEGIN IMMEDIATE; DELETE FROM counters WHERE one = {NUMBERS_KEY}; \
                 PRAGMA user_version = {SCHEMA_VERSION}; COMMIT"
            );
            let done = self.connection.execute_batch(&update);
            done.map_err(|e| wrap(&self.path, e))?;
        }
        if version > SCHEMA_VERSION {
            return Err(IndexError::Newer {
                path: self.path.clone(),
                version,
            });
        }
        Ok(false)
    }

    /// A fresh file has no tables; one that has is somebody else's.
    fn expect_no_tables(&self) -> Result<(), IndexError> {
        let tables: i64 = self
            .connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(|e| wrap(&self.path, e))?;
        if tables == 0 {
            Ok(())
        } else {
            Err(self.damaged("it is not an index of ahoy"))
        }
    }

    fn create_tables(&self) -> rusqlite::Result<()> {
        self.connection.execute_batch(&format!(
            "BEGIN IMMEDIATE;
             CREATE TABLE node(number INTEGER PRIMARY KEY, row BLOB NOT NULL);
             CREATE TABLE heard(replica INTEGER PRIMARY KEY, row BLOB NOT NULL);
             CREATE TABLE counters(one INTEGER PRIMARY KEY, row BLOB NOT NULL);
             CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL)
                 WITHOUT ROWID;
             PRAGMA application_id = {APPLICATION_ID};
             PRAGMA user_version = {SCHEMA_VERSION};
             COMMIT;"
        ))
    }

    fn check_replica(&self, replica: ReplicaId) -> Result<(), IndexError> {
        let own = format!("{:016x}", replica.0);
        match self.meta("replica").map_err(|e| wrap(&self.path, e))? {
            None => self
                .set_meta("replica", &own)
                .map_err(|e| wrap(&self.path, e)),
            Some(found) if found == own => Ok(()),
            Some(_) => Err(IndexError::Foreign {
                path: self.path.clone(),
            }),
        }
    }

    /// Remembers the boot in which the index is open; see [`Index::rebooted`].
    fn note_boot(&mut self) -> rusqlite::Result<()> {
        let now = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let now = now.trim();
        let before = self.meta("boot")?;
        self.rebooted = now.is_empty() || before.as_deref() != Some(now);
        if self.rebooted {
            self.set_meta("boot", now)
        } else {
            Ok(())
        }
    }

    /// An inode and its birth time name one file for its whole life; a copy has others.
    fn compare_file(&mut self) -> rusqlite::Result<()> {
        let Some(now) = file_name_for_life(&self.path) else {
            return Ok(());
        };
        match self.meta("file")? {
            Some(before) if before == now => {}
            Some(_) => self.other_file = Some(now),
            None => self.set_meta("file", &now)?,
        }
        Ok(())
    }

    fn meta(&self, key: &str) -> rusqlite::Result<Option<String>> {
        let query = "SELECT value FROM meta WHERE key = ?1";
        self.connection
            .query_row(query, [key], |row| row.get(0))
            .optional()
    }

    fn set_meta(&self, key: &str, value: &str) -> rusqlite::Result<()> {
        let insert = "INSERT OR REPLACE INTO meta(key, value) VALUES(?1, ?2)";
        self.connection.execute(insert, [key, value]).map(|_| ())
    }

    fn damaged(&self, reason: &str) -> IndexError {
        IndexError::Damaged {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }
}

fn file_name_for_life(path: &Path) -> Option<String> {
    let metadata = std::fs::metadata(path).ok()?;
    let born = metadata.created().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(format!("{}:{}", metadata.ino(), born.as_nanos()))
}

/// `file` is noted together with the rows.
fn write(
    to: &mut Connection,
    blob: &mut Vec<u8>,
    rows: &[Row],
    file: Option<&str>,
) -> rusqlite::Result<()> {
    let transaction = to.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for row in rows {
        encode(row, blob);
        let insert = match row {
            Row::Node { .. } => "INSERT OR REPLACE INTO node(number, row) VALUES(?1, ?2)",
            Row::Heard { .. } => "INSERT OR REPLACE INTO heard(replica, row) VALUES(?1, ?2)",
            Row::Counters { .. } | Row::Numbers(_) => {
                "INSERT OR REPLACE INTO counters(one, row) VALUES(?1, ?2)"
            }
        };
        transaction
            .prepare_cached(insert)?
            .execute(params![key(row), blob.as_slice()])?;
    }
    if let Some(file) = file {
        let insert = "INSERT OR REPLACE INTO meta(key, value) VALUES('file', ?1)";
        transaction.execute(insert, [file])?;
    }
    transaction.commit()
}

/// The key of [`Row::Numbers`] in its table.
const NUMBERS_KEY: i64 = 1;

/// The primary key of a row; SQLite's integers are signed, so the bits are taken as they are.
fn key(row: &Row) -> i64 {
    match row {
        Row::Node { number, .. } => number.cast_signed(),
        Row::Heard { replica, .. } => replica.0.cast_signed(),
        Row::Counters { .. } => 0,
        Row::Numbers(_) => NUMBERS_KEY,
    }
}

fn encode(row: &Row, blob: &mut Vec<u8>) {
    blob.clear();
    postcard::to_io(row, &mut *blob).expect("rows hold nothing that postcard refuses");
    let tag = tag(key(row), blob);
    blob.extend_from_slice(&tag);
}

/// The row under `key`, if the blob is one that was written there.
fn decode(key_found: i64, blob: &[u8]) -> Option<Row> {
    let (bytes, found) = blob.split_last_chunk::<TAG_BYTES>()?;
    if tag(key_found, bytes) != *found {
        return None;
    }
    let (row, rest) = postcard::take_from_bytes::<Row>(bytes).ok()?;
    (rest.is_empty() && key(&row) == key_found).then_some(row)
}

/// Tells rot from what was written; no defence against an attacker, who could change ahoy itself.
fn tag(key: i64, bytes: &[u8]) -> [u8; TAG_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&key.to_le_bytes()).update(bytes);
    let mut tag = [0; TAG_BYTES];
    hasher.finalize_xof().fill(&mut tag);
    tag
}

/// Sorts SQLite's answers by what the user can do about them.
fn wrap(path: &Path, source: rusqlite::Error) -> IndexError {
    let path = path.to_owned();
    let Some(code) = source.sqlite_error_code() else {
        return IndexError::Damaged {
            path,
            reason: source.to_string(),
        };
    };
    if matches!(code, ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) {
        IndexError::InUse { path }
    } else if matches!(code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) {
        IndexError::Damaged {
            path,
            reason: source.to_string(),
        }
    } else if code == ErrorCode::DiskFull {
        IndexError::Full { path }
    } else {
        IndexError::Refused { path, source }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use ahoy_logic::sync::{Print, Synced};
    use ahoy_wire::sync::{
        Body, Class, Clock, Dot, Hash, Label, Meta, Mtime, Name, NodeId, Place, Record, Value,
        WriteSignature,
    };

    use rustix::time::ClockId;

    use super::*;

    const REPLICA: ReplicaId = ReplicaId(u64::MAX - 5);

    fn node(number: u64, sequence: u64) -> Row {
        let dot = Dot {
            count: number + 1,
            replica: REPLICA,
        };
        let name = Name::new(format!("file-{number}.txt").as_bytes()).expect("a good name");
        let meta = Meta {
            mode: 0o644,
            mtime: Mtime {
                secs: 1_700_000_000,
                nanos: 123_456_789,
            },
        };
        let value = Value::File {
            meta,
            size: 4096,
            hash: Hash([number as u8; 32]),
        };
        let id = NodeId::created(NodeId::ROOT, &name, Class::Leaf, None);
        let clock = Clock::of(dot);
        let author = Label::tidy("laptop");
        let body = Body {
            clock: clock.clone(),
            dot,
            author,
            value: value.clone(),
        };
        let place = Place {
            clock: clock.clone(),
            dot,
            parent: NodeId::ROOT,
            name: name.clone(),
        };
        let print = Print {
            inode: number,
            birth: 5,
            size: 4096,
            mtime: meta.mtime,
            ctime: 1_700_000_000_123_456_789,
            mode: 0o644,
            racy: false,
        };
        let synced = Synced {
            parent: NodeId::ROOT,
            name,
            value,
            print,
            body_clock: clock.clone(),
            place_clock: clock,
        };
        Row::Node {
            number,
            record: Box::new(Record {
                id,
                class: Class::Leaf,
                copy_of: None,
                place,
                body,
            }),
            signature: number
                .is_multiple_of(2)
                .then_some(WriteSignature([1; 32], [2; 32])),
            sequence,
            synced: Some(Box::new(synced)),
        }
    }

    fn text(rows: &[Row]) -> Vec<String> {
        rows.iter().map(|row| format!("{row:?}")).collect()
    }

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("index.db");
        (dir, path)
    }

    fn open(path: &Path) -> Result<(Index, Vec<Row>), IndexError> {
        let index = Index::open(path, REPLICA)?;
        let rows = index.load(|rows| rows.collect())?;
        Ok((index, rows))
    }

    #[test]
    fn rows_come_back_and_later_ones_replace_earlier_ones() {
        let (_dir, path) = place();
        let (mut index, rows) = open(&path).expect("a fresh index");
        assert!(rows.is_empty());
        let heard = |upto| Row::Heard {
            replica: ReplicaId(u64::MAX),
            upto,
        };
        let counters = |dots| Row::Counters { dots, sequence: 9 };
        index
            .commit(&[node(2, 1), node(1, 2), heard(3), counters(1)])
            .expect("a commit");
        index
            .commit(&[node(1, 7), heard(4), counters(u64::MAX)])
            .expect("a commit");
        drop(index);
        let (_index, rows) = open(&path).expect("the same index");
        let want = [counters(u64::MAX), heard(4), node(1, 7), node(2, 1)];
        assert_eq!(text(&rows), text(&want));
    }

    #[test]
    fn a_second_process_is_refused() {
        let (_dir, path) = place();
        let _held = open(&path).expect("a fresh index");
        let second = open(&path).map(|_| ());
        assert!(
            matches!(second, Err(IndexError::InUse { .. })),
            "{second:?}"
        );
    }

    #[test]
    fn the_index_of_another_copy_is_refused() {
        let (_dir, path) = place();
        drop(open(&path).expect("a fresh index"));
        let other = Index::open(&path, ReplicaId(1)).map(|_| ());
        assert!(
            matches!(other, Err(IndexError::Foreign { .. })),
            "{other:?}"
        );
    }

    #[test]
    fn newer_and_strange_files_are_refused() {
        let check = |sql: &str, newer: bool| {
            let (_dir, path) = place();
            Connection::open(&path)
                .and_then(|c| c.execute_batch(sql))
                .expect("a file");
            let error = open(&path).map(|_| ()).expect_err("it must be refused");
            assert_eq!(
                matches!(error, IndexError::Newer { version: 4, .. }),
                newer,
                "{error}"
            );
            assert_eq!(
                matches!(error, IndexError::Damaged { .. }),
                !newer,
                "{error}"
            );
        };
        let id = APPLICATION_ID;
        check(
            &format!("PRAGMA application_id = {id}; PRAGMA user_version = 4"),
            true,
        );
        check("CREATE TABLE letters(a)", false);
        check("PRAGMA user_version = 1", false);
    }

    #[test]
    fn an_index_of_an_older_ahoy_is_taken_over() {
        let (_dir, path) = place();
        let (mut index, _) = open(&path).expect("a fresh index");
        index.commit(&[node(0, 1), node(1, 2)]).expect("a commit");
        let old = format!(
            "INSERT INTO counters(one, row) VALUES({NUMBERS_KEY}, x'030107'); \
             PRAGMA user_version = 2"
        );
        index.connection.execute_batch(&old).expect("as it was");
        drop(index);
        let (index, rows) = open(&path).expect("it is taken over");
        assert_eq!(
            format!("{rows:?}"),
            format!("{:?}", [node(0, 1), node(1, 2)])
        );
        drop(index);
        let again = open(&path).expect("and stays so").1;
        assert_eq!(again.len(), 2);
    }

    #[test]
    fn damage_is_noticed_wherever_it_is() {
        let (_dir, path) = place();
        let (mut index, _) = open(&path).expect("a fresh index");
        let rows: Vec<_> = (0..500).map(|n| node(n, n)).collect();
        index.commit(&rows).expect("a commit");
        drop(index);
        let good = std::fs::read(&path).expect("the file");
        let needle = good
            .windows(12)
            .rposition(|w| w.starts_with(b"file-3"))
            .expect("a row");
        type Damage<'a> = &'a dyn Fn(&mut Vec<u8>);
        let damages: [Damage<'_>; 4] = [
            &|bytes| bytes[needle + 5] ^= 1,
            &|bytes| bytes[0] ^= 1,
            &|bytes| bytes.truncate(bytes.len() / 2),
            &|bytes| bytes[4096..8192].fill(0xff),
        ];
        for damage in damages {
            let mut bytes = good.clone();
            damage(&mut bytes);
            std::fs::write(&path, bytes).expect("the file");
            let error = open(&path).map(|_| ()).expect_err("it is damaged");
            assert!(matches!(error, IndexError::Damaged { .. }), "{error}");
            assert!(error.hint().contains("keeps every file"));
        }
    }

    #[test]
    fn a_batch_that_does_not_fit_is_not_kept_at_all() {
        let (_dir, path) = place();
        let (mut index, _) = open(&path).expect("a fresh index");
        index.commit(&[node(0, 0)]).expect("a commit");
        index
            .connection
            .pragma_update(None, "max_page_count", 20)
            .expect("a limit");
        let many: Vec<_> = (1..2000).map(|n| node(n, n)).collect();
        let error = index.commit(&many).expect_err("it must not fit");
        assert!(matches!(error, IndexError::Full { .. }), "{error}");
        index
            .connection
            .pragma_update(None, "max_page_count", 1 << 30)
            .expect("a limit");
        index.commit(&[node(1, 1)]).expect("there is room again");
        drop(index);
        let (_index, rows) = open(&path).expect("the same index");
        assert_eq!(text(&rows), text(&[node(0, 0), node(1, 1)]));
    }

    /// Wall clock, and the CPU time of this process, which other programs do not change.
    struct Watch(Instant, rustix::time::Timespec);

    impl Watch {
        fn start() -> Self {
            Self(
                Instant::now(),
                rustix::time::clock_gettime(ClockId::ProcessCPUTime),
            )
        }

        fn stop(&self, what: &str) {
            let wall = self.0.elapsed();
            let now = rustix::time::clock_gettime(ClockId::ProcessCPUTime);
            let nanos = (now.tv_sec - self.1.tv_sec) * 1_000_000_000 + now.tv_nsec - self.1.tv_nsec;
            println!(
                "{what}: {wall:?}, CPU {:?}",
                Duration::from_nanos(nanos as u64)
            );
        }
    }

    #[test]
    #[ignore = "a measurement; run it with --release --nocapture"]
    fn speed() {
        let (_dir, path) = place();
        let (mut index, _) = open(&path).expect("a fresh index");
        let rows: Vec<_> = (0..100_000).map(|n| node(n, n)).collect();
        let watch = Watch::start();
        let mut longest = Duration::ZERO;
        for batch in rows.chunks(1000) {
            let start = Instant::now();
            index.commit(batch).expect("a commit");
            longest = longest.max(start.elapsed());
        }
        watch.stop("100 commits of 1,000 rows");
        println!("the longest: {longest:?}");
        let watch = Watch::start();
        for n in 0..200 {
            index.commit(&[node(n * 400, n)]).expect("a commit");
        }
        watch.stop("200 commits of 1 row");
        drop(index);
        let watch = Watch::start();
        let (_index, rows) = open(&path).expect("the same index");
        watch.stop(&format!("load of {} rows", rows.len()));
        println!(
            "size: {} bytes",
            std::fs::metadata(&path).expect("the file").len()
        );
    }
}
