//! Runs the fault simulation, which is a program of its own so that other tasks need not build it.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Builds and runs it with these arguments.
pub fn run(args: &[String]) -> Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let status = Command::new(&cargo)
        .args(["run", "--quiet", "--package", "simulation", "--"])
        .args(args)
        .status()
        .with_context(|| format!("run {cargo}"))?;
    if !status.success() {
        bail!("the simulation found something")
    }
    Ok(())
}
