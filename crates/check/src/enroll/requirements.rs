//! The numbered sentences of spec/enroll.md that a stranger can put to the test over the network.
//!
//! What a server prints (enroll-19, enroll-20), where it listens (enroll-1) and what it records
//! (enroll-23 to enroll-26) cannot be seen from outside.

use crate::case::{Level, Requirement};

const fn must(id: &'static str, sentence: &'static str) -> Requirement {
    let level = Level::Must;
    Requirement {
        id,
        level,
        sentence,
    }
}

const fn should(id: &'static str, sentence: &'static str) -> Requirement {
    let level = Level::Should;
    Requirement {
        id,
        level,
        sentence,
    }
}

/// Many clients.
pub const ENROLL_2: Requirement = must(
    "enroll-2",
    "A server for many clients serves them at the same time: neither a silent nor a slow client \
     keeps another from being served, and no byte of one reaches another's registration.",
);

/// One client after the other.
pub const ENROLL_3: Requirement = must(
    "enroll-3",
    "A server for one client at a time serves the next when the one before has ended, and lets at \
     least 10 clients wait for that.",
);

/// The greeting.
pub const ENROLL_4: Requirement = must(
    "enroll-4",
    "The server speaks first: as soon as it accepts a connection it sends a pickle of \
     {'clientid': N}, where N is the port from which the client connected, as an integer.",
);

/// The registration.
pub const ENROLL_5: Requirement = must(
    "enroll-5",
    "The server takes a registration: a dict with student_name, github_username (texts) and sid \
     (integer or text), in any order, ignoring further entries.",
);

/// Protocols.
pub const ENROLL_6: Requirement = must(
    "enroll-6",
    "The server reads pickles of every protocol from 0 to 5, references to remembered values \
     included.",
);

/// Where a pickle ends.
pub const ENROLL_7: Requirement = must(
    "enroll-7",
    "A pickle ends at its STOP instruction: whoever receives it puts it together from however many \
     pieces it arrives in, and keeps what follows it as the beginning of the next one.",
);

/// The acknowledgement.
pub const ENROLL_8: Requirement = must(
    "enroll-8",
    "The server acknowledges each registration with a pickle of the integer 1, in the order in \
     which they came, and sends nothing else.",
);

/// How long a connection lasts.
pub const ENROLL_9: Requirement = must(
    "enroll-9",
    "The server goes on reading registrations on a connection until the client ends its stream, \
     and then answers what is still due and closes.",
);

/// Nothing is executed.
pub const ENROLL_10: Requirement = should(
    "enroll-10",
    "Nothing that a pickle asks for is executed: an instruction that imports, calls, builds \
     objects or looks something up is refused, and the connection is dropped.",
);

/// Bombs.
pub const ENROLL_11: Requirement = must(
    "enroll-11",
    "No pickle, however deep, long, self-referring or boastful about its lengths, brings the \
     server down.",
);

/// Other clients.
pub const ENROLL_12: Requirement = must(
    "enroll-12",
    "Whatever one client sends, and however its connection ends, does not end the server or \
     disturb another client.",
);

/// Silence.
pub const ENROLL_13: Requirement = should(
    "enroll-13",
    "A server that has an idle limit drops a client from which no whole registration came for so \
     long; single bytes do not count.",
);

/// The plain form.
pub const ENROLL_14: Requirement = should(
    "enroll-14",
    "What is sent is written in protocol 4, with the bytes that CPython's pickler writes for it.",
);

/// Greetings that a client understands.
pub const ENROLL_15: Requirement = should(
    "enroll-15",
    "Besides {'clientid': N} the client takes the client id in these forms: the same with a dict \
     in place of N, and a bare integer.",
);

/// What a client sends.
pub const ENROLL_16: Requirement = must(
    "enroll-16",
    "The client sends a dict with student_name, github_username (texts) and sid (integer or text), \
     after it has been greeted.",
);

/// Answers that a client understands.
pub const ENROLL_17: Requirement = should(
    "enroll-17",
    "Besides the integer 1 the client takes a text or a dict as an acknowledgement.",
);

/// When a client gives up.
pub const ENROLL_18: Requirement = must(
    "enroll-18",
    "The client gives up with a message when no greeting or no acknowledgement comes in time, or \
     the connection ends before.",
);

/// What a client prints.
pub const ENROLL_21: Requirement = must(
    "enroll-21",
    "The client prints '<greeting> has successfully connected to <host>/<port>', with the greeting \
     as Python prints it, and 'Data acknowledged by server and you passed the test'.",
);

/// What a client must not print.
pub const ENROLL_22: Requirement = should(
    "enroll-22",
    "Text from the other side is escaped where it is printed: control characters, line ends and \
     marks that turn the direction of writing.",
);
