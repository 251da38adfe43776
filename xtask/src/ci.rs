//! Everything that must pass before a change lands, in the order in which it fails fastest.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::tidy;

/// Runs formatting, tidy, lints and all tests, with progress and times.
pub fn run() -> Result<()> {
    let start = Instant::now();
    step("tidy", tidy::run)?;
    cargo("format", &["fmt", "--all", "--check"])?;
    cargo("lints", &["clippy", "--workspace", "--", "-D", "warnings"])?;
    // Tests may unwrap, in functions of their own too.
    let tests = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
        "-A",
        "clippy::unwrap_used",
    ];
    cargo("lints of tests", &tests)?;
    cargo("program", &["build", "--release", "--package", "skiff"])?;
    cargo("tests", &["test", "--workspace", "--no-fail-fast"])?;
    println!("== all passed in {} s", start.elapsed().as_secs());
    Ok(())
}

fn cargo(name: &str, arguments: &[&str]) -> Result<()> {
    step(name, || {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(arguments)
            .status()
            .with_context(|| format!("start cargo {}", arguments.join(" ")))?;
        if !status.success() {
            bail!("cargo {} failed: {status}", arguments.join(" "));
        }
        Ok(())
    })
}

fn step(name: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("== {name}");
    let start = Instant::now();
    run()?;
    println!("== {name}: {} s", start.elapsed().as_secs());
    Ok(())
}
