//! Valid objects, one or more of each kind.

use serde::Deserialize;
use serde_json::Value;

/// The files, in the order in which they run.
const FILES: &[(&str, &str)] = &[
    ("core", include_str!("../data/seeds/core.yaml")),
    ("pods", include_str!("../data/seeds/pods.yaml")),
    ("workloads", include_str!("../data/seeds/workloads.yaml")),
    ("cluster", include_str!("../data/seeds/cluster.yaml")),
    ("volumes", include_str!("../data/seeds/volumes.yaml")),
    ("reviews", include_str!("../data/seeds/reviews.yaml")),
];

/// A valid object and where it goes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seed {
    /// Its name: the file with its expectations.
    pub seed: String,
    /// Path of its collection; `{ns}` stands for a namespace of its own.
    pub path: String,
    /// The object, without its status.
    pub object: Value,
    /// Its status, when updates of the status are tried.
    #[serde(default)]
    pub status: Option<Value>,
    /// Whether it is stored and updates of it are tried.
    #[serde(default = "yes")]
    pub update: bool,
    /// Whether edits of its metadata are tried.
    #[serde(default)]
    pub metadata: bool,
    /// Whether pod templates in it are walked whole.
    #[serde(default)]
    pub whole: bool,
    /// Parts of answers that are not compared, by JSON pointer: controllers of the server write them.
    #[serde(default)]
    pub skip: Vec<String>,
    /// Objects that must be there first.
    #[serde(default)]
    pub before: Vec<Before>,
}

/// An object that must be there before a seed is sent.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Before {
    /// Path of its collection.
    pub path: String,
    /// The object.
    pub object: Value,
}

fn yes() -> bool {
    true
}

/// Data of this crate that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("reading {file}")]
pub struct DataError {
    /// File.
    pub file: &'static str,
    /// Why.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// All seeds.
///
/// # Errors
/// A file of the corpus is not what it should be.
pub fn all() -> Result<Vec<Seed>, DataError> {
    let mut seeds = Vec::new();
    for (file, text) in FILES {
        let more: Vec<Seed> = serde_saphyr::from_multiple(text).map_err(|e| DataError {
            file,
            source: e.to_string().into(),
        })?;
        seeds.extend(more);
    }
    Ok(seeds)
}

impl Seed {
    /// The namespace that is its own.
    pub fn namespace(&self) -> String {
        format!("diff-{}", self.seed)
    }

    /// Whether it lives in a namespace.
    pub fn namespaced(&self) -> bool {
        self.path.contains("{ns}")
    }

    /// A path with the namespace filled in.
    pub fn fill(&self, path: &str) -> String {
        path.replace("{ns}", &self.namespace())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }
}
