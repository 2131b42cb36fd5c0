//! Folders in which somebody works against us.
