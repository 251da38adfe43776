//! Commands, attaching, logs.

use std::time::{Duration, Instant};

use runtime::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bed::{Bed, output};

fn request(id: &str, words: &[&str]) -> ExecRequest {
    let mut command = vec!["/probe".to_owned()];
    command.extend(words.iter().map(|word| word.to_string()));
    ExecRequest {
        container_id: id.into(),
        command,
        stdout: true,
        stderr: true,
        ..Default::default()
    }
}

async fn text(stream: Option<OutputStream>) -> String {
    let mut text = String::new();
    stream.unwrap().read_to_string(&mut text).await.unwrap();
    text
}

/// Reads until something was said.
async fn until(stream: &mut OutputStream, wanted: &str) -> String {
    let mut text = Vec::new();
    let mut byte = [0u8];
    while !String::from_utf8_lossy(&text).contains(wanted) {
        let length = stream.read(&mut byte).await.unwrap();
        assert!(length == 1, "it ended: {:?}", String::from_utf8_lossy(&text));
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

async fn sleeping(bed: &Bed) -> String {
    let pod = bed.run_pod("p").await;
    bed.start(&pod, bed.container(&["trap", "+", "sleep"])).await
}

pub async fn exec_output_and_code() {
    let bed = Bed::new().await;
    let id = sleeping(&bed).await;
    let session = bed
        .runtime()
        .exec(request(&id, &["print", "out", "+", "eprint", "err", "+", "exit", "9"]))
        .await
        .unwrap();
    assert!(session.stdin.is_none() && session.resize.is_none());
    assert_eq!(text(session.stdout).await, "out\n");
    assert_eq!(text(session.stderr).await, "err\n");
    assert_eq!(session.exit.await.unwrap(), 9);
    let words = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
    let result = bed
        .runtime()
        .exec_sync(&id, words(&["/probe", "env", "FROM"]), None)
        .await
        .unwrap();
    assert_eq!(
        (result.exit_code, result.stdout.as_slice()),
        (0, b"FROM=image\n".as_slice())
    );
    let error = bed
        .runtime()
        .exec_sync(&id, words(&["nowhere"]), None)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("executable file not found in $PATH"),
        "{error}"
    );
    let error = bed.runtime().exec_sync(&id, words(&[]), None).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Invalid { .. }));
    // A lot of output, from many at once.
    let many = (0..10).map(|_| async {
        let result = bed
            .runtime()
            .exec_sync(&id, words(&["/probe", "lines", "5000", "80"]), None)
            .await
            .unwrap();
        assert_eq!(result.stdout.iter().filter(|byte| **byte == b'\n').count(), 5000);
    });
    futures_util::future::join_all(many).await;
    // One that leaves somebody with its pipes behind does not hold us up.
    let started = Instant::now();
    let result = bed
        .runtime()
        .exec_sync(&id, words(&["/probe", "daemon", "+", "exit", "4"]), None)
        .await
        .unwrap();
    assert_eq!(result.exit_code, 4);
    assert!(started.elapsed() < Duration::from_secs(10));
    bed.runtime()
        .stop_container(&id, Duration::from_secs(10))
        .await
        .unwrap();
    let error = bed.runtime().exec(request(&id, &["exit", "0"])).await.err().unwrap();
    assert!(matches!(error, RuntimeError::WrongState { .. }), "{error}");
    bed.finish().await;
}

pub async fn exec_stdin() {
    let bed = Bed::new().await;
    let id = sleeping(&bed).await;
    let session = bed
        .runtime()
        .exec(ExecRequest {
            stdin: true,
            ..request(&id, &["cat"])
        })
        .await
        .unwrap();
    let mut stdin = session.stdin.unwrap();
    let big = vec![b'z'; 300_000];
    let copy = big.clone();
    let writer = tokio::spawn(async move {
        stdin.write_all(&copy).await.unwrap();
        stdin.shutdown().await.unwrap();
    });
    let got = text(session.stdout).await;
    assert_eq!(got.len(), big.len() + "end of input\n".len());
    writer.await.unwrap();
    assert_eq!(session.exit.await.unwrap(), 0);
    // Without, it is at its end at once.
    let session = bed.runtime().exec(request(&id, &["cat"])).await.unwrap();
    assert_eq!(text(session.stdout).await, "end of input\n");
    bed.finish().await;
}

pub async fn exec_tty() {
    let bed = Bed::new().await;
    let id = sleeping(&bed).await;
    let request = ExecRequest {
        stdin: true,
        tty: true,
        stderr: false,
        ..request(&id, &["env", "TERM", "+", "talk"])
    };
    let session = bed.runtime().exec(request).await.unwrap();
    assert!(session.stderr.is_none());
    let (mut stdin, mut stdout) = (session.stdin.unwrap(), session.stdout.unwrap());
    until(&mut stdout, "TERM=xterm").await;
    until(&mut stdout, "size 0x0\r\n").await;
    session
        .resize
        .as_ref()
        .unwrap()
        .resize(TerminalSize { width: 101, height: 33 });
    stdin.write_all(b"hello\n").await.unwrap();
    until(&mut stdout, "<hello> size 101x33\r\n").await;
    stdin.write_all(b"quit\n").await.unwrap();
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).await.unwrap();
    assert_eq!(session.exit.await.unwrap(), 5);
    bed.finish().await;
}

pub async fn exec_sync_timeout() {
    let bed = Bed::new().await;
    let id = sleeping(&bed).await;
    let command = vec!["/probe".to_owned(), "sleep".to_owned()];
    let result = bed
        .runtime()
        .exec_sync(&id, command, Some(Duration::from_millis(200)))
        .await;
    assert!(matches!(result, Err(RuntimeError::Timeout { .. })));
    wait_for_processes(&bed, &id, 1).await;
    bed.finish().await;
}

async fn wait_for_processes(bed: &Bed, id: &str, count: usize) {
    for _ in 0..1000 {
        let command = vec!["/probe".to_owned(), "list".to_owned(), "/proc".to_owned()];
        let listed = bed.runtime().exec_sync(id, command, None).await.unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        // The one that lists is one of them.
        if listed
            .split_ascii_whitespace()
            .filter(|name| name.parse::<u32>().is_ok())
            .count()
            == count + 1
        {
            return;
        }
    }
    panic!("there are never {count} processes");
}

pub async fn exec_dies_with_its_session() {
    let bed = Bed::new().await;
    let id = sleeping(&bed).await;
    let session = bed.runtime().exec(request(&id, &["sleep"])).await.unwrap();
    wait_for_processes(&bed, &id, 2).await;
    drop(session);
    wait_for_processes(&bed, &id, 1).await;
    bed.finish().await;
}

fn attach(id: &str, stdin: bool) -> AttachRequest {
    AttachRequest {
        container_id: id.into(),
        stdin,
        stdout: true,
        stderr: true,
    }
}

pub async fn attach_pipes() {
    let bed = Bed::new().await;
    let pod = bed.run_pod("p").await;
    let mut config = bed.container(&["talk"]);
    config.stdin = true;
    let id = bed.start(&pod, config).await;
    bed.wait_log(&id, "no terminal").await;
    let first = bed.runtime().attach(attach(&id, true)).await.unwrap();
    let second = bed.runtime().attach(attach(&id, false)).await.unwrap();
    let (mut stdin, mut stdout) = (first.stdin.unwrap(), first.stdout.unwrap());
    stdin.write_all(b"one\n").await.unwrap();
    until(&mut stdout, "<one>").await;
    until(&mut second.stdout.unwrap(), "<one>").await;
    // Leaving is not the end of input, unless it shall be.
    drop((stdin, stdout, first.exit));
    let third = bed.runtime().attach(attach(&id, true)).await.unwrap();
    let mut stdin = third.stdin.unwrap();
    stdin.write_all(b"two\nquit\n").await.unwrap();
    assert!(text(third.stdout).await.contains("<two>"));
    assert_eq!(third.exit.await.unwrap(), 5);
    assert_eq!(second.exit.await.unwrap(), 5);
    let status = bed.wait_exit(&id).await;
    assert!(output(&status.log_path).contains("<one>"));
    assert!(bed.runtime().attach(attach(&id, true)).await.is_err());
    bed.finish().await;
}

pub async fn attach_tty() {
    let bed = Bed::new().await;
    let pod = bed.run_pod("p").await;
    let mut config = bed.container(&["talk"]);
    (config.stdin, config.tty) = (true, true);
    let id = bed.start(&pod, config).await;
    bed.wait_log(&id, "size 0x0").await;
    let session = bed.runtime().attach(attach(&id, true)).await.unwrap();
    assert!(session.stderr.is_none());
    let (mut stdin, mut stdout) = (session.stdin.unwrap(), session.stdout.unwrap());
    session
        .resize
        .as_ref()
        .unwrap()
        .resize(TerminalSize { width: 77, height: 22 });
    loop {
        stdin.write_all(b"x\n").await.unwrap();
        // Input may overtake the first size, which takes another way.
        if until(&mut stdout, "\r\n<x> size ").await.len()
            + until(&mut stdout, "\r\n").await.find("77x22").map_or(0, |_| 1000)
            > 1000
        {
            break;
        }
    }
    stdin.write_all(b"quit\n").await.unwrap();
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).await.unwrap();
    assert_eq!(session.exit.await.unwrap(), 5);
    assert_eq!(bed.wait_exit(&id).await.exit_code, 5);
    bed.finish().await;
}

pub async fn stdin_once() {
    let bed = Bed::new().await;
    let pod = bed.run_pod("p").await;
    let mut config = bed.container(&["cat", "+", "exit", "2"]);
    (config.stdin, config.stdin_once) = (true, true);
    let id = bed.start(&pod, config).await;
    let session = bed.runtime().attach(attach(&id, true)).await.unwrap();
    let mut stdin = session.stdin.unwrap();
    stdin.write_all(b"input\n").await.unwrap();
    stdin.shutdown().await.unwrap();
    assert_eq!(text(session.stdout).await, "input\nend of input\n");
    assert_eq!(session.exit.await.unwrap(), 2);
    bed.finish().await;
}

pub async fn log_reopen_and_rotation() {
    let mut bed = Bed::new().await;
    bed.config.log_rotation = LogRotation {
        max_bytes: 20_000,
        max_files: 2,
    };
    bed.reopen().await;
    let pod = bed.run_pod("p").await;
    let mut config = bed.container(&["talk"]);
    config.stdin = true;
    let id = bed.start(&pod, config).await;
    bed.wait_log(&id, "no terminal").await;
    let path = bed.status(&id).await.log_path;
    let moved = path.with_extension("old");
    std::fs::rename(&path, &moved).unwrap();
    bed.runtime().reopen_container_log(&id).await.unwrap();
    let session = bed.runtime().attach(attach(&id, true)).await.unwrap();
    session.stdin.unwrap().write_all(b"after\nquit\n").await.unwrap();
    session.exit.await.unwrap();
    bed.wait_exit(&id).await;
    assert!(output(&moved).contains("no terminal") && !output(&moved).contains("after"));
    assert!(output(&path).contains("after"));
    assert!(bed.runtime().reopen_container_log(&id).await.is_err());
    let mut config = bed.container(&["lines", "1000", "100"]);
    config.log_path = "big/0.log".into();
    let (status, _) = bed.run_in(&pod, config).await;
    let folder = status.log_path.parent().unwrap();
    let sizes: Vec<u64> = std::fs::read_dir(folder)
        .unwrap()
        .flatten()
        .map(|entry| entry.metadata().unwrap().len())
        .collect();
    assert!((1..=2).contains(&sizes.len()), "{sizes:?}");
    assert!(sizes.len() == 2, "{sizes:?}");
    bed.finish().await;
}

/// Nothing is lost, whatever the speed.
pub async fn log_flood() {
    let bed = Bed::new().await;
    let (status, text) = bed.run(&["lines", "20000", "300"]).await;
    assert_eq!(status.exit_code, 0);
    for (number, line) in text.lines().enumerate() {
        assert!(line.starts_with(&format!("{number} xxx")), "{number}: {line}");
    }
    assert_eq!(text.lines().count(), 20_000);
    bed.finish().await;
}
