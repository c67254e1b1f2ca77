//! The commands, one file each: their arguments and what they do.

pub(crate) mod publish;
pub(crate) mod selftest;
