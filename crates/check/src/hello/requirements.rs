//! The numbered sentences of spec/hello.md that a stranger can examine, for servers and for
//! clients.
//!
//! hello-22 (bounded memory), hello-35 (quota) and hello-37 (protection is a choice) have no case:
//! they show only from inside, or only to many machines.

use crate::case::{Level, Requirement};

macro_rules! requirement {
    ($name:ident, $id:literal, $level:ident, $sentence:literal) => {
        #[doc = $sentence]
        pub const $name: Requirement = Requirement {
            id: $id,
            level: Level::$level,
            sentence: $sentence,
        };
    };
}

requirement!(
    HELLO_1,
    "hello-1",
    Must,
    "A request is the ASCII text HELLO, one space and an id; the server answers it."
);
requirement!(
    HELLO_2,
    "hello-2",
    Must,
    "If the id is free, the reply is OK, the id, and the IP address and port of the client as the \
     server sees them, with single spaces; the id is in use from then on."
);
requirement!(
    HELLO_3,
    "hello-3",
    Must,
    "If the id is in use, the reply is RESET, one space and the id, whoever asks."
);
requirement!(
    HELLO_4,
    "hello-4",
    Should,
    "A reply is its plain form and nothing more: no newline, nothing behind it."
);
requirement!(
    HELLO_5,
    "hello-5",
    Must,
    "An id is compared and sent back as the bytes that came: 0042 and 42 are two ids."
);
requirement!(
    HELLO_6,
    "hello-6",
    Must,
    "What follows the id in a request, after a space, is ignored."
);
requirement!(
    HELLO_7,
    "hello-7",
    Should,
    "A request that ends with LF or CRLF is answered like one without."
);
requirement!(
    HELLO_8,
    "hello-8",
    Must,
    "Over UDP each request is answered by exactly one datagram, sent to its source."
);
requirement!(
    HELLO_9,
    "hello-9",
    Must,
    "A datagram is answered from the address and port that it was sent to."
);
requirement!(
    HELLO_10,
    "hello-10",
    Must,
    "Over TCP the server answers as soon as a whole request is there; it waits neither for a \
     newline nor for the end of the stream."
);
requirement!(
    HELLO_11,
    "hello-11",
    Must,
    "A request that TCP delivers in several pieces is one request."
);
requirement!(
    HELLO_12,
    "hello-12",
    Must,
    "Over TCP the server closes the connection after its one reply, cleanly: the client reads the \
     reply and then the end of the stream."
);
requirement!(
    HELLO_13,
    "hello-13",
    Must,
    "A datagram that is not a request is not answered, and the server goes on."
);
requirement!(
    HELLO_14,
    "hello-14",
    Must,
    "A connection that brings something other than a request is closed without a reply, and the \
     server goes on."
);
requirement!(
    HELLO_15,
    "hello-15",
    Must,
    "An id is in use for the lease time after it was granted (30 s), and then free."
);
requirement!(
    HELLO_16,
    "hello-16",
    Must,
    "A RESET does not prolong the time for which an id is in use."
);
requirement!(
    HELLO_17,
    "hello-17",
    Must,
    "A server of both transports has one table of ids for both."
);
requirement!(
    HELLO_18,
    "hello-18",
    Must,
    "Without any request for the idle time (120 s) the server closes its sockets and exits."
);
requirement!(
    HELLO_19,
    "hello-19",
    Must,
    "Any datagram and any accepted connection starts the idle time anew."
);
requirement!(
    HELLO_20,
    "hello-20",
    Must,
    "A silent TCP connection does not keep other clients from being served."
);
requirement!(
    HELLO_21,
    "hello-21",
    Must,
    "A silent TCP connection does not keep the server alive."
);
requirement!(
    HELLO_23,
    "hello-23",
    Must,
    "The client sends HELLO and the id that its user gave."
);
requirement!(
    HELLO_24,
    "hello-24",
    Should,
    "Over TCP the client ends its writing side after the request."
);
requirement!(
    HELLO_25,
    "hello-25",
    Must,
    "The client acts on the reply; it does not wait for the server to close."
);
requirement!(
    HELLO_26,
    "hello-26",
    Should,
    "The client understands a reply that ends with LF or CRLF."
);
requirement!(
    HELLO_27,
    "hello-27",
    Must,
    "The client waits for a reply for the reply time (15 s), no less and no more."
);
requirement!(
    HELLO_28,
    "hello-28",
    Must,
    "After a RESET, a timeout or a refusal the client prints Connection Error, the id and the \
     time, asks for a new id on standard input, and tries that one with a new socket."
);
requirement!(
    HELLO_29,
    "hello-29",
    Must,
    "After three failed tries the client prints Connection Failure and the time, and exits."
);
requirement!(
    HELLO_30,
    "hello-30",
    Must,
    "After an OK the client prints Connection established, the id, IP address and port of the \
     reply and the time, and exits."
);
requirement!(
    HELLO_31,
    "hello-31",
    Must,
    "A time is printed as ' on YYYY-MM-DD HH:MM:SS.ffffff', in local time, at the end of its line."
);
requirement!(
    HELLO_32,
    "hello-32",
    Must,
    "The end of standard input at the prompt ends the client as a failure; it does not crash."
);
requirement!(
    HELLO_33,
    "hello-33",
    Should,
    "The client refuses an id that is not four digits, with a message, before it sends anything."
);
requirement!(
    HELLO_34,
    "hello-34",
    Must,
    "A server with protection answers OK again to the socket that holds the id, without prolonging \
     its time."
);
requirement!(
    HELLO_36,
    "hello-36",
    Must,
    "A server with protection never answers a datagram with a longer one."
);
requirement!(
    HELLO_38,
    "hello-38",
    Should,
    "The client sends the plain form of the request and nothing more: one space, no newline."
);
requirement!(
    HELLO_39,
    "hello-39",
    Should,
    "The client exits with status 0 after an OK and with another status after a failure."
);
requirement!(
    HELLO_40,
    "hello-40",
    Should,
    "Bytes that a TCP client sends after its request do not destroy the reply: the server ends its \
     side, reads on for a moment, and only then closes."
);
requirement!(
    HELLO_41,
    "hello-41",
    Should,
    "The client does not take the reply to another id for its own."
);
