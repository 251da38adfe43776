//! `cargo xtask schema`: reads upstream's Go types and proto files, writes `crates/schema/data`.

mod assemble;
mod go;
mod prose;
mod proto;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use go::Sources;

/// Packages of apimachinery whose types appear in API objects.
const APIMACHINERY: &[&str] = &[
    "pkg/api/resource",
    "pkg/apis/meta/v1",
    "pkg/apis/meta/v1beta1",
    "pkg/runtime",
    "pkg/types",
    "pkg/util/intstr",
    "pkg/version",
];

/// Packages of kube-aggregator whose types are served.
const AGGREGATOR: &[&str] = &["pkg/apis/apiregistration/v1"];

/// Packages of apiextensions-apiserver whose types are served.
const APIEXTENSIONS: &[&str] = &["pkg/apis/apiextensions/v1"];

/// Runs the task.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    let api = PathBuf::from(option(args, "--api")?);
    let apimachinery = PathBuf::from(option(args, "--apimachinery")?);
    let mut sources = Sources::default();
    for dir in APIMACHINERY {
        sources.read_package(&format!("k8s.io/apimachinery/{dir}"), &apimachinery.join(dir))?;
    }
    for (path, dir) in api_packages(&api)? {
        sources.read_package(&path, &dir)?;
    }
    let aggregator = PathBuf::from(option(args, "--aggregator")?);
    for dir in AGGREGATOR {
        sources.read_package(&format!("k8s.io/kube-aggregator/{dir}"), &aggregator.join(dir))?;
    }
    let apiextensions = PathBuf::from(option(args, "--apiextensions")?);
    for dir in APIEXTENSIONS {
        let path = format!("k8s.io/apiextensions-apiserver/{dir}");
        sources.read_package(&path, &apiextensions.join(dir))?;
    }
    let (schema, docs) = assemble::assemble(&sources)?;
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/schema/data");
    for (name, bytes) in [("builtin.bin", schema.to_bytes()), ("docs.bin", docs.to_bytes())] {
        let path = data.join(name);
        fs::write(&path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}: {} bytes", path.display(), bytes.len());
    }
    println!(
        "{} kinds, {} structs, {} fields documented by {} texts",
        schema.roots().count(),
        schema.structs().count(),
        docs.fields.len(),
        docs.texts.len()
    );
    Ok(())
}

fn option<'a>(args: &'a [String], name: &str) -> anyhow::Result<&'a str> {
    let Some(at) = args.iter().position(|arg| arg == name) else {
        bail!(
            "cargo xtask schema --api DIR --apimachinery DIR --aggregator DIR --apiextensions DIR: {name} is missing"
        );
    };
    args.get(at + 1)
        .map(String::as_str)
        .with_context(|| format!("{name} needs a directory"))
}

/// Directories `<group>/<version>` that hold a `types.go`, by import path, sorted.
fn api_packages(api: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for group in subdirectories(api)? {
        for version in subdirectories(&group)? {
            if version.join("types.go").is_file() {
                let relative = version
                    .strip_prefix(api)
                    .expect("a child of the directory")
                    .display()
                    .to_string();
                found.push((format!("k8s.io/api/{relative}"), version));
            }
        }
    }
    ensure!(
        !found.is_empty(),
        "{} holds no <group>/<version>/types.go",
        api.display()
    );
    found.sort();
    Ok(found)
}

fn subdirectories(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    Ok(found)
}
