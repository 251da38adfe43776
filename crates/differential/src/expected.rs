//! What upstream answered, as committed.

use std::fmt::Write as _;
use std::io::{self, Read, Write as _};
use std::path::PathBuf;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;
use crate::run::Outcomes;

/// A line of a file of expectations.
#[derive(Serialize, Deserialize)]
struct Line {
    id: String,
    is: Outcome,
}

fn file(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("data/expected").join(format!("{name}.jsonl.gz"))
}

/// Reads the expectations of a seed or a script.
///
/// # Errors
/// There are none, or they cannot be read.
pub fn read(name: &str) -> io::Result<Outcomes> {
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(file(name))?).read_to_string(&mut text)?;
    let mut outcomes = Outcomes::new();
    for line in text.lines() {
        let line: Line = serde_json::from_str(line)?;
        outcomes.insert(line.id, line.is.scrubbed_anew());
    }
    Ok(outcomes)
}

/// Writes them.
///
/// # Errors
/// The file cannot be written.
pub fn write(name: &str, outcomes: &Outcomes) -> io::Result<()> {
    let mut text = String::new();
    for (id, outcome) in outcomes {
        let line = Line {
            id: id.clone(),
            is: outcome.clone(),
        };
        let _ = writeln!(text, "{}", serde_json::to_string(&line)?);
    }
    let mut packed = GzEncoder::new(std::fs::File::create(file(name))?, Compression::best());
    packed.write_all(text.as_bytes())?;
    packed.finish().map(drop)
}
