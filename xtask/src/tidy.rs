//! Checks that the compiler does not make: crate edges, file sizes, banned calls.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Each crate with the crates of this workspace that it may use. Downward only; ARCHITECTURE.md draws
/// the picture, and a new edge needs a line here and an ADR.
const EDGES: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("pki", &[]),
    ("typed", &[]),
    ("streams", &[]),
    ("schema", &["api"]),
    ("cel", &["api"]),
    ("store", &["api"]),
    ("placement", &[]),
    ("quota", &["api"]),
    ("devices", &["api", "cel"]),
    ("controllers", &["api", "placement", "quota", "typed"]),
    ("scheduler", &["api", "devices", "placement", "typed"]),
    ("podlife", &["api"]),
    ("proxy", &["api"]),
    ("dnszone", &["api"]),
    ("client", &["api", "pki", "typed"]),
    ("runtime", &["api"]),
    ("net", &["api", "proxy"]),
    (
        "apiserver",
        &["api", "cel", "pki", "quota", "schema", "store", "streams"],
    ),
    ("kinds", &["api", "schema", "apiserver"]),
    ("differential", &["schema"]),
    ("driver", &["api", "client", "controllers", "scheduler", "typed"]),
    // A tool of development: nothing that is shipped uses it.
    (
        "simulation",
        &[
            "api",
            "apiserver",
            "client",
            "controllers",
            "driver",
            "kinds",
            "quota",
            "scheduler",
            "schema",
            "typed",
        ],
    ),
    (
        "node",
        &["api", "client", "net", "pki", "podlife", "runtime", "streams", "typed"],
    ),
    ("dns", &["client", "dnszone"]),
    ("cli", &["api", "client", "schema", "streams"]),
];

/// Crates without I/O, clock or randomness: none of [`IMPURE`] may be among their dependencies.
const PURE: &[&str] = &[
    "api",
    "typed",
    "schema",
    "placement",
    "quota",
    "devices",
    "cel",
    "controllers",
    "scheduler",
    "podlife",
    "proxy",
    "dnszone",
    "differential",
];
const IMPURE: &[&str] = &["tokio", "hyper", "rustls", "rand", "nix", "libc", "hyper-util"];

/// Crates that may contain `unsafe`.
const UNSAFE: &[&str] = &["runtime", "net"];

/// Lines in a file, tests included.
const MAX_LINES: usize = 800;

/// Texts that must not stand in code, and what to do instead. Split so that this file passes itself.
const BANNED: &[(&str, &str)] = &[
    (concat!("todo", "!("), "finish it"),
    (concat!("unimplemented", "!("), "finish it"),
    (concat!("dbg", "!("), "use tracing"),
    (concat!("#[ig", "nore"), "a test runs or is deleted"),
    (concat!("cfg!(", "test)"), "inject what differs"),
    (concat!("thread::", "sleep"), "wait for a condition"),
    (concat!("danger_accept_", "invalid"), "verify certificates"),
];

/// Files that may hold a banned text all the same, and why.
const EXEMPT: &[(&str, &str, &str)] = &[
    (
        "crates/runtime/src/cgroup/mod.rs",
        concat!("thread::", "sleep"),
        "the kernel tells nobody that a control group is empty in v1",
    ),
    (
        "crates/runtime/tests/probe/main.rs",
        concat!("thread::", "sleep"),
        "plays a container's process that sleeps",
    ),
];

/// Runs all checks and fails with every finding.
pub fn run() -> Result<()> {
    let root = root();
    let mut findings = Vec::new();
    for (name, allowed) in EDGES {
        check_edges(&root, name, allowed, &mut findings)?;
    }
    check_all_crates_are_listed(&root, &mut findings)?;
    let mut sources = Vec::new();
    for folder in ["crates", "xtask"] {
        collect_sources(&root.join(folder), &mut sources)?;
    }
    for path in sources {
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        check_source(path.strip_prefix(&root).unwrap_or(&path), &text, &mut findings);
    }
    if findings.is_empty() {
        println!("tidy: no findings");
        return Ok(());
    }
    bail!("tidy: {} findings\n{}", findings.len(), findings.join("\n"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace")
        .to_owned()
}

/// Names under `[dependencies]` (not `[dev-dependencies]`) of a crate's manifest.
fn dependencies(root: &Path, name: &str) -> Result<BTreeSet<String>> {
    let path = root.join("crates").join(name).join("Cargo.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            let end = line.find(['.', ' ', '=']).unwrap_or(line.len());
            names.insert(line[..end].to_owned());
        }
    }
    Ok(names)
}

fn check_edges(root: &Path, name: &str, allowed: &[&str], findings: &mut Vec<String>) -> Result<()> {
    let uses = dependencies(root, name)?;
    for (other, _) in EDGES {
        if uses.contains(*other) && !allowed.contains(other) {
            findings.push(format!("crates/{name}: may not use {other}"));
        }
    }
    if PURE.contains(&name) {
        for impure in IMPURE.iter().filter(|impure| uses.contains(**impure)) {
            findings.push(format!("crates/{name}: is pure and may not use {impure}"));
        }
    }
    Ok(())
}

fn check_all_crates_are_listed(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(root.join("crates"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "skiff" && !EDGES.iter().any(|(listed, _)| *listed == name) {
            findings.push(format!("crates/{name}: not listed in xtask/src/tidy.rs"));
        }
    }
    Ok(())
}

fn collect_sources(folder: &Path, sources: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect_sources(&path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(path);
        }
    }
    Ok(())
}

fn check_source(path: &Path, text: &str, findings: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > MAX_LINES {
        findings.push(format!("{}: {lines} lines, more than {MAX_LINES}", path.display()));
    }
    let crate_name = path
        .components()
        .nth(1)
        .map(|part| part.as_os_str().to_string_lossy().into_owned());
    let may_be_unsafe = crate_name.is_some_and(|name| UNSAFE.contains(&name.as_str()));
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for (banned, instead) in BANNED {
            let exempt = EXEMPT
                .iter()
                .any(|(file, text, _)| path == Path::new(file) && banned.contains(text));
            if code.contains(banned) && !exempt {
                findings.push(format!("{}:{}: {banned}: {instead}", path.display(), number + 1));
            }
        }
        if !may_be_unsafe && (code.contains(concat!("unsafe", " {")) || code.contains(concat!("unsafe", " fn"))) {
            findings.push(format!("{}:{}: unsafe outside {UNSAFE:?}", path.display(), number + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        run().unwrap();
    }

    #[test]
    fn findings_are_found() {
        let mut findings = Vec::new();
        let text = format!("fn f() {{ {}) }}\n{}", concat!("todo", "!("), "x\n".repeat(MAX_LINES));
        check_source(Path::new("crates/api/src/x.rs"), &text, &mut findings);
        check_source(
            Path::new("crates/net/src/x.rs"),
            concat!("unsafe", " { }"),
            &mut findings,
        );
        check_source(
            Path::new("crates/api/src/y.rs"),
            concat!("unsafe", " { }"),
            &mut findings,
        );
        assert_eq!(findings.len(), 3, "{findings:?}");
    }
}
