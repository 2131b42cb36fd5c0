//! The stranger's world: black-box cases that examine anyone's implementation.
#![forbid(unsafe_code)]
