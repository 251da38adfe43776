//! What the tests' containers run: a static program that looks around and says what it sees.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::process::exit;
use std::time::Duration;

extern "C" fn terminated(_: libc::c_int) {
    let text = b"terminated\n";
    // SAFETY: both are allowed in a signal handler.
    unsafe {
        libc::write(1, text.as_ptr().cast(), text.len());
        libc::_exit(7);
    }
}

fn forever() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn on_sigterm() {
    // SAFETY: the handler does only what handlers may.
    unsafe { libc::signal(libc::SIGTERM, terminated as *const () as libc::sighandler_t) };
}

fn identity() {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    for line in status.lines() {
        if [
            "Uid",
            "Gid",
            "Groups",
            "CapPrm",
            "CapEff",
            "CapBnd",
            "CapInh",
            "CapAmb",
            "NoNewPrivs",
            "Seccomp",
            "SigBlk",
            "SigIgn",
        ]
        .iter()
        .any(|name| line.starts_with(&format!("{name}:")))
        {
            println!("{}", line.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
}

fn hog(bytes: usize) {
    let mut memory = vec![0u8; bytes];
    for page in memory.chunks_mut(4096) {
        page[0] = 1;
    }
    println!("got {}", std::hint::black_box(&memory).len());
}

fn size_of_terminal() -> String {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the call writes a size, which lives through it.
    let result = unsafe { libc::ioctl(std::io::stdin().as_raw_fd(), libc::TIOCGWINSZ, &mut size) };
    if result == 0 {
        format!("{}x{}", size.ws_col, size.ws_row)
    } else {
        "no terminal".to_owned()
    }
}

/// Says the terminal's size at each line of input, until one says `quit`.
fn talk() {
    println!("size {}", size_of_terminal());
    for line in std::io::stdin().lines().map_while(Result::ok) {
        match line.trim() {
            "quit" => exit(5),
            other => println!("<{other}> size {}", size_of_terminal()),
        }
    }
}

fn list(path: &str) {
    let mut names: Vec<String> = std::fs::read_dir(path)
        .map(|entries| {
            entries
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect()
        })
        .unwrap_or_else(|error| vec![format!("error: {error}")]);
    names.sort();
    println!("{}", names.join(" "));
}

fn say(result: std::io::Result<()>) {
    match result {
        Ok(()) => println!("done"),
        Err(error) => println!("error: {}", error.raw_os_error().unwrap_or(0)),
    }
}

fn last(result: libc::c_int) -> std::io::Result<()> {
    if result < 0 {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn system_call(name: &str) {
    // SAFETY: all of these take numbers, or strings that live long enough.
    say(last(unsafe {
        match name {
            "unshare" => libc::unshare(libc::CLONE_NEWNS),
            "mount" => libc::mount(
                c"none".as_ptr(),
                c"/tmp".as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                std::ptr::null(),
            ),
            "clone3" => libc::syscall(libc::SYS_clone3, 0, 0) as libc::c_int,
            "mknod" => libc::mknod(c"/tmp/disk".as_ptr(), libc::S_IFBLK | 0o600, libc::makedev(254, 0)),
            "chroot" => libc::chroot(c"/".as_ptr()),
            "setuid" => libc::setuid(1234),
            other => panic!("system call {other}"),
        }
    }));
}

/// Several steps, separated by `+`.
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    for step in args.split(|arg| arg == "+") {
        let words: Vec<&str> = step.iter().map(String::as_str).collect();
        match words.as_slice() {
            [] => {}
            ["exit", code] => exit(code.parse().expect("a number")),
            ["print", words @ ..] => println!("{}", words.join(" ")),
            ["prompt", text] => print!("{text}"),
            ["eprint", words @ ..] => eprintln!("{}", words.join(" ")),
            ["lines", count, length] => {
                let line = "x".repeat(length.parse().expect("a number"));
                let mut out = std::io::stdout().lock();
                for number in 0..count.parse::<u64>().expect("a number") {
                    writeln!(out, "{number} {line}").expect("standard output is open");
                }
            }
            ["sleep"] => forever(),
            ["nap", milliseconds] => {
                std::thread::sleep(Duration::from_millis(milliseconds.parse().expect("a number")));
            }
            ["trap"] => on_sigterm(),
            ["cat"] => {
                let mut buffer = [0u8; 4096];
                while let Ok(length @ 1..) = std::io::stdin().read(&mut buffer) {
                    std::io::stdout()
                        .write_all(&buffer[..length])
                        .expect("standard output is open");
                    std::io::stdout().flush().expect("standard output is open");
                }
                println!("end of input");
            }
            ["talk"] => talk(),
            ["id"] => identity(),
            ["env", name] => println!("{name}={}", std::env::var(name).unwrap_or_else(|_| "(none)".to_owned())),
            ["cwd"] => println!("{}", std::env::current_dir().expect("there is one").display()),
            ["read", path] => match std::fs::read_to_string(path) {
                Ok(text) => println!("{}", text.trim_end()),
                Err(error) => println!("error: {}", error.raw_os_error().unwrap_or(0)),
            },
            ["open", path] => say(std::fs::File::options().read(true).write(true).open(path).map(drop)),
            ["write", path, text] => say(std::fs::write(path, text)),
            ["stat", path] => {
                use std::os::unix::fs::MetadataExt;
                match std::fs::symlink_metadata(path) {
                    Ok(found) => println!("{path} {:o} {}:{}", found.mode(), found.uid(), found.gid()),
                    Err(error) => println!("{path} error: {}", error.raw_os_error().unwrap_or(0)),
                }
            }
            ["list", path] => list(path),
            ["hog", bytes] => hog(bytes.parse().expect("a number")),
            ["tasks", count] => {
                let spawned = (0..count.parse::<usize>().expect("a number"))
                    .map_while(|_| {
                        std::thread::Builder::new()
                            .stack_size(16 << 10)
                            .spawn(|| forever())
                            .ok()
                    })
                    .count();
                println!("spawned {spawned}");
            }
            ["daemon"] => {
                let me = std::env::current_exe().expect("it is known");
                // Whoever runs this wants to see what becomes of it.
                #[allow(clippy::zombie_processes)]
                let child = std::process::Command::new(me).arg("sleep").spawn().expect("can spawn");
                println!("spawned {}", child.id());
            }
            ["pid"] => println!("pid {}", std::process::id()),
            ["call", name] => system_call(name),
            other => panic!("unknown step {other:?}"),
        }
        std::io::stdout().flush().expect("standard output is open");
    }
}
