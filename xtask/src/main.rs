//! Development tasks: `cargo xtask TASK`.

mod schema;

use anyhow::bail;

const TASKS: &str = "\
tasks:
  schema --api DIR --apimachinery DIR    regenerate crates/schema/data from upstream's sources";

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("schema") => schema::run(&args[1..]),
        Some(task) => bail!("no task named {task}\n{TASKS}"),
        None => bail!("name a task\n{TASKS}"),
    }
}
