//! `cargo xtask simulate`: runs seeds of the fault simulation, and shows what a failing one did.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use simulation::shrink::shrink;
use simulation::{Trial, campaign};

const USAGE: &str = "\
usage: simulate [--seeds N] [--seed S] [--threads T] [--keep-going] [--trace]
  --seeds N      runs N seeds (100)
  --seed S       the first of them (0); alone, runs this one and shows what happens
  --threads T    at once (2)
  --keep-going   does not stop at the first failure, and shrinks none
  --trace        shows the whole run of a single seed, failing or not";

struct Options {
    seeds: u64,
    seed: u64,
    threads: u64,
    keep_going: bool,
    trace: bool,
}

fn options() -> Result<Options> {
    let mut options = Options {
        seeds: 100,
        seed: 0,
        threads: 2,
        keep_going: false,
        trace: false,
    };
    let (mut args, mut counted) = (std::env::args().skip(1), false);
    while let Some(arg) = args.next() {
        let mut number = || -> Result<u64> {
            let text = args.next().with_context(|| format!("{arg} needs a number"))?;
            text.parse().with_context(|| format!("{arg} {text} is no number"))
        };
        match arg.as_str() {
            "--seeds" => (options.seeds, counted) = (number()?, true),
            "--seed" => {
                options.seed = number()?;
                options.seeds = if counted { options.seeds } else { 1 };
            }
            "--threads" => options.threads = number()?.max(1),
            "--keep-going" => options.keep_going = true,
            "--trace" => options.trace = true,
            _ => bail!("{USAGE}"),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    match options().map(|options| run(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> bool {
    let begun = Instant::now();
    let found = campaign(options.seed, options.seeds, options.threads, options.keep_going);
    for (seed, wrong) in &found.failed {
        println!("seed {seed}: {wrong}");
    }
    println!(
        "{} seeds, {} failed, {} writes, {} faults, {:.1} s",
        found.seeds,
        found.failed.len(),
        found.writes,
        found.faults,
        begun.elapsed().as_secs_f64()
    );
    let one = options.seeds == 1 && options.trace;
    let shown = found
        .failed
        .first()
        .map(|(seed, _)| *seed)
        .or(one.then_some(options.seed));
    if let Some(seed) = shown.filter(|_| !options.keep_going) {
        show(seed, options.trace);
    }
    found.failed.is_empty()
}

fn show(seed: u64, whole: bool) {
    let mut trial = Trial::of(seed);
    if !whole {
        trial = shrink(trial);
    }
    trial.settings.trace = true;
    let verdict = trial.run();
    verdict.with.trace.iter().for_each(|line| println!("{line}"));
    println!(
        "seed {seed}, {} deeds, faults {:?}:",
        trial.history.len(),
        verdict.with.faults
    );
    verdict.wrong.iter().for_each(|line| println!("  {line}"));
}
