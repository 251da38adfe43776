//! A note beside the database of how far it had come.
//!
//! fjall takes a journal with a damaged frame for one that was torn there, and drops the rest
//! without a word. A torn end was never acknowledged, a damaged middle was: the note, written now
//! and then and at the end, tells them apart. It is not synchronized; an old note is a true one.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;

/// The note is brought up to date after so many revisions.
const EVERY: i64 = 1_000;

pub(super) struct HighWater {
    path: PathBuf,
    noted: i64,
}

impl HighWater {
    /// Checks `revision`, which the database in `dir` has come to, against the note.
    pub(super) fn check(dir: &Path, revision: i64) -> Result<Self, Error> {
        let path = dir.join("newest-revision");
        // Missing or half written notes say nothing.
        let noted = fs::read_to_string(&path)
            .ok()
            .and_then(|text| text.strip_suffix('\n')?.parse().ok())
            .unwrap_or(0);
        if noted > revision {
            return Err(Error::Lost {
                path,
                acknowledged: noted,
                found: revision,
            });
        }
        Ok(Self { path, noted })
    }

    /// Takes notice of a new revision that is on disk.
    pub(super) fn advance(&mut self, revision: i64) {
        if revision >= self.noted + EVERY {
            self.note(revision);
        }
    }

    pub(super) fn note(&mut self, revision: i64) {
        if revision > self.noted {
            self.noted = revision;
            if let Err(error) = fs::write(&self.path, format!("{revision}\n")) {
                tracing::debug!(%error, "cannot note the newest revision");
            }
        }
    }
}
