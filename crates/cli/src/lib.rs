//! kubectl's commands over any Kubernetes API server: one file a command.
//!
//! Output, exit codes and error texts are kubectl's (1 when something failed; a remote command's own
//! code for `exec`). What it does not know: skiff's own parts; it speaks the public API only.

mod apply;
mod delete;
mod describe;
mod exec;
mod get;
mod logs;
mod manifest;
mod port_forward;
mod resources;
mod session;
mod table;
mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

pub use session::Session;

/// `skiff kubectl`.
#[derive(Debug, Parser)]
#[command(name = "kubectl", about = "Kubernetes' command line")]
pub struct Kubectl {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

/// Which cluster, as whom, where.
#[derive(Debug, Clone, Args)]
pub struct Connection {
    /// Path to the kubeconfig file; else $KUBECONFIG, else ~/.kube/config, else skiff's own
    #[arg(long, global = true)]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig to use
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// Address of the API server
    #[arg(short = 's', long, global = true)]
    pub server: Option<String>,
    /// Namespace of the request
    #[arg(short = 'n', long, global = true)]
    pub namespace: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show one or many resources
    Get(get::Options),
    /// Create or change resources from files
    Apply(apply::Options),
    /// Delete resources by name, label or file
    Delete(delete::Options),
    /// Print the logs of a container
    Logs(logs::Options),
    /// Run a command in a container
    Exec(exec::Options),
    /// Attach to a running container
    Attach(exec::AttachOptions),
    /// Forward local ports to a pod
    PortForward(port_forward::Options),
    /// Show details of a resource, with its events
    Describe(describe::Options),
}

impl Kubectl {
    /// Runs the command; errors go to standard error as kubectl prints them.
    pub async fn run(self) -> ExitCode {
        match self.execute().await {
            Ok(code) => code,
            Err(error) => {
                eprintln!("{}", session::explain(&error));
                ExitCode::FAILURE
            }
        }
    }

    async fn execute(self) -> Result<ExitCode> {
        let session = Session::open(&self.connection)?;
        match self.command {
            Command::Get(options) => get::run(&session, &options).await,
            Command::Apply(options) => apply::run(&session, &options).await,
            Command::Delete(options) => delete::run(&session, &options).await,
            Command::Logs(options) => logs::run(&session, &options).await,
            Command::Exec(options) => exec::run(&session, &options).await,
            Command::Attach(options) => exec::attach(&session, &options).await,
            Command::PortForward(options) => port_forward::run(&session, &options).await,
            Command::Describe(options) => describe::run(&session, &options).await,
        }
    }
}
