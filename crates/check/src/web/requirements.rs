//! The numbered sentences of spec/web.md that a stranger can examine.
//!
//! No case here: web-8 (the RFC leaves it open), web-22, web-23 and web-26 (they need files placed
//! in the folder), web-62, web-64 to web-67 (they show only on the server's own machine).

use crate::case::{Level, Requirement};

macro_rules! requirement {
    ($name:ident, $number:literal, $level:ident, $sentence:literal) => {
        #[doc = $sentence]
        pub const $name: Requirement = Requirement {
            id: concat!("web-", $number),
            level: Level::$level,
            sentence: $sentence,
        };
    };
}

requirement!(WEB_1, 1, Must, "A malformed request is answered by 400.");
requirement!(
    WEB_2,
    2,
    Must,
    "An HTTP/1.1 request without exactly one Host is answered by 400."
);
requirement!(
    WEB_3,
    3,
    Must,
    "A major version other than 1 is answered by 505."
);
requirement!(
    WEB_4,
    4,
    Must,
    "GET and HEAD are served; another known method is answered by 405 with an Allow that names \
     them, an unknown one by 501."
);
requirement!(
    WEB_5,
    5,
    Must,
    "A head is bounded: too long a request line is answered by 414, endless fields by 431."
);
requirement!(
    WEB_6,
    6,
    Must,
    "A request whose body has no certain end is answered by 400 and the connection closed."
);
requirement!(
    WEB_7,
    7,
    Must,
    "The body of a request is not taken for the next request."
);
requirement!(
    WEB_9,
    9,
    Must,
    "An HTTP/1.1 connection stays open after an answer unless either side said close; then, and \
     after HTTP/1.0, it is closed."
);
requirement!(
    WEB_10,
    10,
    Must,
    "Requests that arrive together are answered in their order."
);
requirement!(
    WEB_11,
    11,
    Must,
    "The answer to HEAD has the fields of the answer to GET, and no body."
);
requirement!(
    WEB_12,
    12,
    Must,
    "Every answer has a Date, and a length that is exactly the length of its body."
);
requirement!(
    WEB_13,
    13,
    Should,
    "An answer given before the request's body was read is not lost when the server closes."
);
requirement!(
    WEB_20,
    20,
    Must,
    "The path is percent-decoded before a file is looked for; a bad escape is refused."
);
requirement!(WEB_21, 21, Must, "No path leads out of the served folder.");
requirement!(
    WEB_24,
    24,
    Must,
    "The path of a folder without a slash at its end is answered by 301 to the path with it, on \
     the same host."
);
requirement!(
    WEB_27,
    27,
    Must,
    "A path that names nothing is answered by 404."
);
requirement!(
    WEB_30,
    30,
    Must,
    "An answer with a file has a Content-Type."
);
requirement!(
    WEB_31,
    31,
    Should,
    "An answer with a file has an ETag and a Last-Modified, the same for the same content."
);
requirement!(
    WEB_32,
    32,
    Must,
    "If-None-Match with the current tag, or with *, is answered by 304, with other tags as if it \
     were not there; If-Modified-Since beside it is ignored."
);
requirement!(
    WEB_33,
    33,
    Must,
    "If-Modified-Since with the time of modification or a later one is answered by 304; a value \
     that is no date is ignored."
);
requirement!(
    WEB_34,
    34,
    Must,
    "If-Match without the current tag, or If-Unmodified-Since with an earlier date, is answered \
     by 412, before anything else is weighed."
);
requirement!(
    WEB_35,
    35,
    Must,
    "A 304 has no body, and the Date, ETag and Vary of the 200."
);
requirement!(
    WEB_40,
    40,
    Must,
    "A GET with one range that the file has is answered by 206 with just these bytes and their \
     Content-Range."
);
requirement!(
    WEB_41,
    41,
    Should,
    "Several ranges are answered by 206 with one part for each, multipart/byteranges."
);
requirement!(
    WEB_42,
    42,
    Must,
    "A range of which the file has nothing is answered by 416 with Content-Range: bytes */LENGTH."
);
requirement!(
    WEB_43,
    43,
    Must,
    "With If-Range a range is applied only if the tag or date is the current one; otherwise the \
     whole file is sent."
);
requirement!(
    WEB_44,
    44,
    Must,
    "A range request does not cost more than the file."
);
requirement!(
    WEB_45,
    45,
    Must,
    "A Range that is not understood, in another unit, or with HEAD is ignored."
);
requirement!(
    WEB_50,
    50,
    Must,
    "No coding is sent that the client has not allowed, and a negotiated answer says \
     Vary: Accept-Encoding."
);
requirement!(
    WEB_60,
    60,
    Must,
    "A request that does not arrive whole within the limit is answered by 408 or nothing, and the \
     connection closed."
);
requirement!(
    WEB_61,
    61,
    Must,
    "A connection without a request is closed after the idle limit."
);
requirement!(
    WEB_63,
    63,
    Must,
    "Silent clients do not keep others from being served."
);
