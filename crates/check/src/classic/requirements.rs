//! The sentences that can be seen from outside, by their numbers in spec/classic.md.

use crate::case::{Level, Requirement};

/// classic-1.
pub const CLASSIC_1: Requirement = Requirement {
    id: "classic-1",
    level: Level::Must,
    sentence: "A message is one JSON object; its end is found by reading, whatever the \
               segments and whether a line end follows or not.",
};

/// classic-2.
pub const CLASSIC_2: Requirement = Requirement {
    id: "classic-2",
    level: Level::Must,
    sentence: "What is sent is one line of ASCII that ends with LF.",
};

/// classic-3.
pub const CLASSIC_3: Requirement = Requirement {
    id: "classic-3",
    level: Level::Must,
    sentence: "Members come in any order, others are ignored, and fractions of seconds are \
               dropped.",
};

/// classic-4.
pub const CLASSIC_4: Requirement = Requirement {
    id: "classic-4",
    level: Level::Must,
    sentence: "Each message is answered by exactly one directory, in order.",
};

/// classic-5.
pub const CLASSIC_5: Requirement = Requirement {
    id: "classic-5",
    level: Level::Must,
    sentence: "A directory names for each file the holder with the largest time, of equals \
               the first, by the address of its connection and its announced port.",
};

/// classic-6.
pub const CLASSIC_6: Requirement = Requirement {
    id: "classic-6",
    level: Level::Must,
    sentence: "A name that leads out of a folder is neither listed, asked for, served nor \
               written.",
};

/// classic-7.
pub const CLASSIC_7: Requirement = Requirement {
    id: "classic-7",
    level: Level::Must,
    sentence: "An unfit entry is ignored and the rest of its message counts.",
};

/// classic-8.
pub const CLASSIC_8: Requirement = Requirement {
    id: "classic-8",
    level: Level::Must,
    sentence: "What is no message ends its connection, and no other.",
};

/// classic-10.
pub const CLASSIC_10: Requirement = Requirement {
    id: "classic-10",
    level: Level::Must,
    sentence: "A peer is known by its address and announced port, on whatever connection.",
};

/// classic-11.
pub const CLASSIC_11: Requirement = Requirement {
    id: "classic-11",
    level: Level::Must,
    sentence: "A keep-alive of an unknown peer registers it and is answered.",
};

/// classic-12.
pub const CLASSIC_12: Requirement = Requirement {
    id: "classic-12",
    level: Level::Must,
    sentence: "A further init replaces the files of its peer.",
};

/// classic-13.
pub const CLASSIC_13: Requirement = Requirement {
    id: "classic-13",
    level: Level::Must,
    sentence: "A peer that was silent for the timeout is forgotten with its files.",
};

/// classic-14.
pub const CLASSIC_14: Requirement = Requirement {
    id: "classic-14",
    level: Level::Must,
    sentence: "When a holder no longer has a file, the next newest holder takes its place.",
};

/// classic-17.
pub const CLASSIC_17: Requirement = Requirement {
    id: "classic-17",
    level: Level::Must,
    sentence: "A silent connection keeps nobody from being served.",
};

/// classic-30.
pub const CLASSIC_30: Requirement = Requirement {
    id: "classic-30",
    level: Level::Must,
    sentence: "A connection begins with an init, and keep-alives follow.",
};

/// classic-31.
pub const CLASSIC_31: Requirement = Requirement {
    id: "classic-31",
    level: Level::Must,
    sentence: "What is absent or older is fetched, and nothing else.",
};

/// classic-32.
pub const CLASSIC_32: Requirement = Requirement {
    id: "classic-32",
    level: Level::Must,
    sentence: "What the directory lists at the peer's own address and port is not fetched.",
};

/// classic-33.
pub const CLASSIC_33: Requirement = Requirement {
    id: "classic-33",
    level: Level::Must,
    sentence: "Programs and what is no regular file are not announced, served, fetched or \
               overwritten.",
};

/// classic-34.
pub const CLASSIC_34: Requirement = Requirement {
    id: "classic-34",
    level: Level::Must,
    sentence: "A file that was fetched has the time that the directory gave.",
};

/// classic-35.
pub const CLASSIC_35: Requirement = Requirement {
    id: "classic-35",
    level: Level::Must,
    sentence: "A file is not seen under its name before it is whole.",
};

/// classic-37.
pub const CLASSIC_37: Requirement = Requirement {
    id: "classic-37",
    level: Level::Must,
    sentence: "A holder that fails keeps no other file from being fetched.",
};

/// classic-39.
pub const CLASSIC_39: Requirement = Requirement {
    id: "classic-39",
    level: Level::Must,
    sentence: "When the tracker is gone, the peer comes back to it and begins with an init.",
};

/// classic-50.
pub const CLASSIC_50: Requirement = Requirement {
    id: "classic-50",
    level: Level::Must,
    sentence: "A request that ends with LF is answered by Content-Length, LF, and exactly so \
               many bytes.",
};

/// classic-51.
pub const CLASSIC_51: Requirement = Requirement {
    id: "classic-51",
    level: Level::Must,
    sentence: "A request without a line end is answered by the bytes of the file alone.",
};

/// classic-53.
pub const CLASSIC_53: Requirement = Requirement {
    id: "classic-53",
    level: Level::Must,
    sentence: "What is not there is answered by closing without a byte.",
};

/// classic-56.
pub const CLASSIC_56: Requirement = Requirement {
    id: "classic-56",
    level: Level::Must,
    sentence: "A silent client keeps no other from being served.",
};

/// classic-58.
pub const CLASSIC_58: Requirement = Requirement {
    id: "classic-58",
    level: Level::Must,
    sentence: "An answer of fewer or more bytes than were promised is discarded.",
};

/// classic-59.
pub const CLASSIC_59: Requirement = Requirement {
    id: "classic-59",
    level: Level::Must,
    sentence: "After the promised bytes the peer does not wait for the holder to close.",
};
