//! A skiff of its own, the commands that drive it, and how to wait for what they show.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

pub const SKIFF: &str = env!("CARGO_BIN_EXE_skiff");
pub const NODE: &str = "e2e-node";
pub const PORT: u16 = 17443;
const KUBELET_PORT: u16 = 17250;
/// For a command, unless it says otherwise.
const PATIENCE: u64 = 60;

/// Tells the person who waits; not captured by the test harness.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// What a command did.
#[derive(Debug)]
pub struct Outcome {
    pub command: String,
    pub stdout: String,
    pub stderr: String,
    pub code: Option<i32>,
}

impl Outcome {
    /// The output of a command that must succeed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.code == Some(0), "must succeed:\n{}", self.report());
        self.stdout
    }

    /// All that a command that must fail said.
    #[track_caller]
    pub fn fails(self) -> String {
        assert!(
            self.code.is_some_and(|code| code != 0 && code != 124),
            "must fail:\n{}",
            self.report()
        );
        format!("{}{}", self.stdout, self.stderr)
    }

    pub fn report(&self) -> String {
        format!(
            "$ {}\nexit code {:?}\n--- stdout\n{}--- stderr\n{}",
            self.command, self.code, self.stdout, self.stderr
        )
    }
}

/// Runs a command to its end, at most `seconds` (exit code 124).
pub fn run_for(seconds: u64, command: &mut Command, stdin: &str) -> Outcome {
    let mut timed = Command::new("timeout");
    timed
        .arg("--kill-after=5")
        .arg(seconds.to_string())
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => timed.env(name, value),
            None => timed.env_remove(name),
        };
    }
    timed
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let shown = format!("{command:?}");
    let mut child = timed.spawn().unwrap_or_else(|error| panic!("start {shown}: {error}"));
    // Who does not read its input may close it.
    let _ = child.stdin.take().expect("piped").write_all(stdin.as_bytes());
    let output = child
        .wait_with_output()
        .unwrap_or_else(|error| panic!("wait for {shown}: {error}"));
    Outcome {
        command: shown,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code(),
    }
}

pub fn run(program: &str, arguments: &[&str]) -> Outcome {
    run_for(PATIENCE, Command::new(program).args(arguments), "")
}

/// Asks until there is an answer; the last refusal is told when `seconds` have passed.
#[track_caller]
pub fn until<T>(what: &str, seconds: u64, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(refusal) if Instant::now() > deadline => panic!("waited {seconds} s until {what}:\n{refusal}"),
            Err(_) => std::thread::park_timeout(Duration::from_millis(100)),
        }
    }
}

/// `Ok` if the text has all parts.
pub fn contains(text: &str, parts: &[&str]) -> Result<(), String> {
    let missing: Vec<&&str> = parts.iter().filter(|part| !text.contains(**part)).collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!("missing {missing:?} in:\n{text}"))
    }
}

#[track_caller]
pub fn must_contain(text: &str, parts: &[&str]) {
    contains(text, parts).unwrap_or_else(|error| panic!("{error}"));
}

/// A program in the background and its lines of output, both streams.
pub struct Background {
    child: Child,
    lines: Receiver<String>,
    seen: String,
}

impl Background {
    pub fn start(command: &mut Command) -> Background {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let (sender, lines) = channel();
        let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let other = sender.clone();
        std::thread::spawn(move || {
            BufReader::new(stdout)
                .lines()
                .map_while(Result::ok)
                .all(|line| sender.send(line).is_ok())
        });
        std::thread::spawn(move || {
            BufReader::new(stderr)
                .lines()
                .map_while(Result::ok)
                .all(|line| other.send(line).is_ok())
        });
        Background {
            child,
            lines,
            seen: String::new(),
        }
    }

    /// The next line that has the text.
    #[track_caller]
    pub fn line_with(&mut self, text: &str, seconds: u64) -> String {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.seen.push_str(&line);
                    self.seen.push('\n');
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => panic!(
                    "no line with {text:?} within {seconds} s ({error}); it said:\n{}",
                    self.seen
                ),
            }
        }
    }

    /// Everything that was said so far.
    pub fn said(&mut self) -> String {
        while let Ok(line) = self.lines.try_recv() {
            self.seen.push_str(&line);
            self.seen.push('\n');
        }
        self.seen.clone()
    }

    pub fn signal(&self, signal: &str) {
        run("kill", &[signal, &self.child.id().to_string()]).ok();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end; the exit code.
    #[track_caller]
    pub fn end(&mut self, seconds: u64) -> Option<i32> {
        let child = &mut self.child;
        until("the program ends", seconds, || match child.try_wait() {
            Ok(Some(status)) => Ok(status.code()),
            other => Err(format!("{other:?}")),
        })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A cluster in a data directory of its own; dropped with all that it made.
pub struct Cluster {
    /// Holds the data directory and the files of the test.
    pub dir: PathBuf,
    pub data: PathBuf,
    /// Where outside names are asked, if not where the machine asks.
    pub resolv_conf: Option<PathBuf>,
    skiff: Option<Background>,
}

impl Cluster {
    pub fn new() -> Cluster {
        let dir = std::env::temp_dir().join(format!("skiff-e2e-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("make a folder for the test");
        fs::copy(SKIFF, dir.join("skiff")).expect("copy the program");
        Cluster {
            data: dir.join("data"),
            dir,
            resolv_conf: None,
            skiff: None,
        }
    }

    /// The program that `up` is started from: a copy, which may be replaced.
    pub fn program(&self) -> PathBuf {
        self.dir.join("skiff")
    }

    /// `skiff up`, not started.
    pub fn up(&self) -> Command {
        let mut command = Command::new(self.program());
        command.args(["up", "--node-name", NODE, "--log", "info"]);
        command.arg(format!("--data-dir={}", self.data.display()));
        command
            .arg(format!("--secure-port={PORT}"))
            .arg(format!("--kubelet-port={KUBELET_PORT}"));
        // A machine for tests may be fuller than one for work.
        command.arg("--eviction-hard=nodefs.available<1%,nodefs.inodesFree<1%");
        if let Some(path) = &self.resolv_conf {
            command.arg("--resolv-conf").arg(path);
        }
        command
    }

    /// Starts it and waits until it is ready; answers how many milliseconds it says that took.
    pub fn start(&mut self) -> u64 {
        let mut skiff = Background::start(&mut self.up());
        let line = skiff.line_with("ready in ", 60);
        self.skiff = Some(skiff);
        let number = line.strip_prefix("ready in ").and_then(|rest| rest.strip_suffix(" ms"));
        number
            .and_then(|number| number.parse().ok())
            .unwrap_or_else(|| panic!("a strange line: {line:?}"))
    }

    /// Ends it by a signal; answers its exit code.
    pub fn stop(&mut self, signal: &str) -> Option<i32> {
        let mut skiff = self.skiff.take().expect("it was started");
        skiff.signal(signal);
        skiff.end(30)
    }

    pub fn pid(&self) -> u32 {
        self.skiff.as_ref().expect("it was started").pid()
    }

    /// What skiff said.
    pub fn said(&mut self) -> String {
        self.skiff.as_mut().map(Background::said).unwrap_or_default()
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.data.join("admin.kubeconfig")
    }

    /// kubectl, or skiff's own; not started.
    pub fn command(&self, own: Client, arguments: &[&str]) -> Command {
        let mut command = match own {
            Client::Kubectl => Command::new("kubectl"),
            Client::Skiff => {
                let mut command = Command::new(SKIFF);
                command.arg("kubectl");
                command
            }
        };
        command
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", &self.dir);
        command
    }

    /// A command of kubectl's; the words are separated by blanks.
    pub fn kubectl(&self, words: &str) -> Outcome {
        self.kubectl_args(&words.split(' ').collect::<Vec<_>>())
    }

    pub fn kubectl_args(&self, arguments: &[&str]) -> Outcome {
        run_for(PATIENCE, &mut self.command(Client::Kubectl, arguments), "")
    }

    /// Waits by a command of kubectl's; when it fails, the pods are told.
    #[track_caller]
    pub fn settle(&self, words: &str) -> String {
        let outcome = self.kubectl(words);
        if outcome.code == Some(0) {
            return outcome.stdout;
        }
        let pods = self.kubectl("describe replicasets,pods -n demo");
        panic!("must succeed:\n{}\n{}", outcome.report(), pods.report());
    }

    /// The same by skiff's own kubectl.
    pub fn own(&self, words: &str) -> Outcome {
        run_for(
            PATIENCE,
            &mut self.command(Client::Skiff, &words.split(' ').collect::<Vec<_>>()),
            "",
        )
    }

    /// Applies a manifest.
    pub fn apply(&self, manifest: &str) -> Outcome {
        run_for(
            PATIENCE,
            &mut self.command(Client::Kubectl, &["apply", "-f", "-"]),
            manifest,
        )
    }

    /// An object, or a list, as JSON.
    #[track_caller]
    pub fn object(&self, words: &str) -> Value {
        let text = self.kubectl(&format!("get {words} -o json")).ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("get {words}: {error}: {text}"))
    }

    /// `skiff VERB …` on this data directory.
    pub fn skiff(&self, words: &str) -> Outcome {
        let data = self.data.display().to_string();
        run_for(
            PATIENCE,
            Command::new(SKIFF).args(words.split(' ')).args(["--data-dir", &data]),
            "",
        )
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.skiff.take());
        if self.data.exists() {
            let outcome = self.skiff("reset --yes");
            if outcome.code != Some(0) {
                say(&outcome.report());
                return;
            }
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Which program drives the cluster.
#[derive(Clone, Copy, Debug)]
pub enum Client {
    Kubectl,
    Skiff,
}

/// A GET by HTTP/1.0; the whole answer.
pub fn http_get(address: &str) -> Result<String, String> {
    use std::io::Read;
    use std::net::{TcpStream, ToSocketAddrs};
    let failed = |error: std::io::Error| format!("GET {address}: {error}");
    let target = address.to_socket_addrs().map_err(failed)?.next().ok_or("no address")?;
    let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(2)).map_err(failed)?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(failed)?;
    stream
        .write_all(format!("GET / HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())
        .map_err(failed)?;
    // As other clients do, by the length that the head tells; without one, to the end.
    let (mut answer, mut chunk) = (Vec::new(), [0; 4096]);
    while !is_whole(&String::from_utf8_lossy(&answer)) {
        match stream.read(&mut chunk).map_err(failed)? {
            0 => break,
            length => answer.extend_from_slice(&chunk[..length]),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn is_whole(answer: &str) -> bool {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return false;
    };
    let mut headers = head.lines().filter_map(|line| line.split_once(':'));
    let length = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length
        .and_then(|(_, length)| length.trim().parse::<usize>().ok())
        .is_some_and(|length| body.len() >= length)
}

pub fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub fn file(dir: &Path, name: &str, content: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, content).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    path
}
