//! skiff: Kubernetes in one program. This crate is wiring: options, order of start and stop, and
//! adapters between crates that do not know each other.

mod bench;
mod claim;
mod component;
mod doctor;
mod hello;
mod hollow;
mod host;
mod image;
mod logs;
mod options;
mod reset;
mod transport;
mod up;
mod why;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(name = "skiff", version, about = "Kubernetes in one program")]
struct Skiff {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a cluster on this machine, in the foreground
    Up(Box<up::Options>),
    /// Kubernetes' command line
    Kubectl(Box<cli::Kubectl>),
    /// The web server of the image skiff.local/hello
    Hello(hello::Options),
    /// Images of this machine's node
    Image(image::Options),
    /// Check this machine, and say how to mend what is missing
    Doctor(doctor::Options),
    /// Remove everything that skiff made on this machine
    Reset(reset::Options),
    /// The scheduler alone, against any API server
    Scheduler(Box<component::SchedulerOptions>),
    /// The controllers alone, against any API server
    ControllerManager(Box<component::ControllerManagerOptions>),
    /// Simulated nodes and pods, against any API server
    Hollow(Box<hollow::Options>),
    /// Why a pod is pending, and what would have to change
    Why(Box<why::Options>),
    /// Measure this program on this machine
    Bench(bench::Options),
}

fn main() -> ExitCode {
    // Huge pages would make each small heap, of every shim too, megabytes larger than what is in it. Shims inherit
    // this; the runtime puts it back for containers.
    let _ = nix::sys::prctl::set_thp_disable(true);
    let arguments: Vec<String> = std::env::args().collect();
    // Containers are made by re-executing this program: before any thread exists.
    if arguments.get(1).is_some_and(|command| command == "shim") {
        runtime::shim_main(std::env::args_os().skip(2));
    }
    let called_kubectl = arguments
        .first()
        .is_some_and(|name| name.rsplit('/').next() == Some("kubectl"));
    if called_kubectl {
        return block_on(cli::Kubectl::parse().run());
    }
    let command = Skiff::command().args_override_self(true);
    let command = match options::with_config_file(&arguments) {
        Ok(arguments) => command.get_matches_from(arguments),
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let skiff = Skiff::from_arg_matches(&command).unwrap_or_else(|error| error.exit());
    let result = match skiff.command {
        Command::Kubectl(kubectl) => return block_on(kubectl.run()),
        Command::Hello(options) => hello::run(&options),
        Command::Image(options) => image::run(&options),
        Command::Doctor(options) => doctor::run(&options),
        Command::Reset(options) => reset::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Up(options) => up::run(*options),
        Command::Why(options) => why::run(&options),
        Command::Hollow(options) => hollow::run(&options),
        Command::Scheduler(options) => return ended(component::scheduler(&options)),
        Command::ControllerManager(options) => return ended(component::controller_manager(&options)),
    };
    ended(result.map(|()| ExitCode::SUCCESS))
}

fn ended(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn block_on(work: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(work);
            // A read of standard input cannot be cancelled; nothing waits for it.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
