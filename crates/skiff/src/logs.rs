//! Logs of this process, on standard error.

use anyhow::{Context, Result};

/// Starts them, as `filter` (`--log`) says.
pub fn start(filter: &str) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).context("--log")?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}
