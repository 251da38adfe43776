//! Development tasks: `cargo xtask TASK`.

mod ci;
mod diff;
mod schema;
mod simulate;
mod tidy;

use anyhow::bail;

const TASKS: &str = "\
tasks:
  ci                                     format, tidy, lints, release build, all tests
  tidy                                   crate edges, file sizes, banned calls
  simulate [--seeds N] [--seed S]        controllers under faults, in memory; see docs/controllers.md
  schema --api DIR --apimachinery DIR --aggregator DIR --apiextensions DIR
                                         regenerate crates/schema/data from upstream's sources
  diff [--peer KUBECONFIG] [--server KUBECONFIG] [--record] [--only NAME]
                                         compare the answers of two API servers (docs/differences.md)
  diff fields OPENAPI_V2_FILE            list the fields that the recorded version lacks";

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("ci") => ci::run(),
        Some("tidy") => tidy::run(),
        Some("simulate") => simulate::run(&args[1..]),
        Some("schema") => schema::run(&args[1..]),
        Some("diff") => diff::run(&args[1..]),
        Some(task) => bail!("no task named {task}\n{TASKS}"),
        None => bail!("name a task\n{TASKS}"),
    }
}
