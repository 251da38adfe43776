//! Unpacking a layer, in a process of its own: `skiff shim unpack`, with the job on standard input and the report on
//! standard output.
//!
//! The process mounts the layers below as an overlay in a mount namespace of its own and unpacks on top, so that the
//! kernel itself makes what overlays need (whiteouts, opaque folders), and links into lower layers work. What is kept is
//! the upper folder. A tar archive is hostile until proven otherwise: see [`super::extract`].

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};

use super::copy::copy_tree;
use super::digest::Hashing;
use super::extract::{Extractor, Limits};
use crate::shim::Overlay;

/// Bounds the memory that archive headers can make us take.
const MAX_MEMORY_BYTES: u64 = 2 << 30;

/// A layer to unpack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct UnpackJob {
    /// A file with a tar archive in it, plain or compressed by gzip or zstd.
    pub archive: PathBuf,
    /// Where in the file the archive is.
    pub offset: u64,
    pub length: u64,
    pub layers_dir: PathBuf,
    /// Names of the layers below.
    pub top_first: Vec<String>,
    /// A folder that exists and is empty. `fs` in it will be the layer.
    pub target: PathBuf,
    pub overlay: bool,
    pub limits: Limits,
}

/// A layer that was unpacked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unpacked {
    /// Digest of the archive, uncompressed: `sha256:…`.
    pub diff_id: String,
    pub bytes: u64,
    pub entries: u64,
}

/// Why a layer could not be unpacked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(super) enum UnpackError {
    /// It tries what no layer may, or more than it may.
    #[error("{0}")]
    Refused(String),
    /// It is not a layer.
    #[error("{0}")]
    Corrupt(String),
    /// The disk is full.
    #[error("{0}")]
    NoSpace(String),
    /// Anything else.
    #[error("{0}")]
    Io(String),
}

impl UnpackError {
    /// For operations of ours: what they fail with says whose fault it is.
    pub fn io(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> UnpackError {
        move |error| match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => UnpackError::NoSpace(format!("{what}: {error}")),
            Some(libc::ELOOP | libc::ENAMETOOLONG | libc::ENOTDIR | libc::EXDEV) => {
                UnpackError::Refused(format!("{what}: {error}"))
            }
            _ => UnpackError::Io(format!("{what}: {error}")),
        }
    }
}

/// The process: returns the exit code.
pub(crate) fn unpack_main(_: &[OsString]) -> i32 {
    let mut text = String::new();
    let job: Result<UnpackJob, _> = io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())
        .and_then(|_| serde_json::from_str(&text).map_err(|error| error.to_string()));
    let result = match job {
        Ok(job) => {
            bound_memory();
            unpack(&job)
        }
        Err(error) => Err(UnpackError::Io(format!("read the job: {error}"))),
    };
    match serde_json::to_string(&result) {
        Ok(report) => println!("{report}"),
        Err(error) => eprintln!("{error}"),
    }
    i32::from(result.is_err())
}

fn bound_memory() {
    let limit = libc::rlimit {
        rlim_cur: MAX_MEMORY_BYTES,
        rlim_max: MAX_MEMORY_BYTES,
    };
    // SAFETY: the limit lives through the call. Without it, what bounds us is the machine.
    unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) };
}

fn unpack(job: &UnpackJob) -> Result<Unpacked, UnpackError> {
    let mut archive = File::open(&job.archive).map_err(UnpackError::io(job.archive.display()))?;
    archive
        .seek(SeekFrom::Start(job.offset))
        .map_err(UnpackError::io(job.archive.display()))?;
    let archive = archive.take(job.length);
    let root = prepare_root(job)?;
    let root = File::open(&root).map_err(UnpackError::io(root.display()))?;
    let mut stream = Hashing::new(decompress(BufReader::with_capacity(128 << 10, archive))?);
    let mut extractor = Extractor::new(root.as_fd(), job.limits);
    extractor.extract(&mut stream)?;
    // What follows the archive's end belongs to the digest as well.
    let mut rest = (&mut stream).take(job.limits.bytes);
    io::copy(&mut rest, &mut io::sink()).map_err(|error| UnpackError::Corrupt(error.to_string()))?;
    let (bytes, entries) = extractor.finish()?;
    Ok(Unpacked {
        diff_id: stream.digest(),
        bytes,
        entries,
    })
}

/// Makes the folder that the archive is unpacked to.
fn prepare_root(job: &UnpackJob) -> Result<PathBuf, UnpackError> {
    let layer = job.target.join("fs");
    fs::create_dir(&layer).map_err(UnpackError::io(layer.display()))?;
    if job.top_first.is_empty() {
        return Ok(layer);
    }
    if !job.overlay {
        copy_tree(&job.layers_dir.join(&job.top_first[0]), &layer).map_err(UnpackError::io("copy lower layer"))?;
        return Ok(layer);
    }
    let (work, merged) = (job.target.join("work"), job.target.join("merged"));
    for folder in [&work, &merged] {
        fs::create_dir(folder).map_err(UnpackError::io(folder.display()))?;
    }
    enter_private_mounts().map_err(UnpackError::io("make mount namespace"))?;
    let names: Vec<&str> = job.top_first.iter().map(String::as_str).collect();
    Overlay {
        layers_dir: &job.layers_dir,
        top_first: &names,
        upper: &layer,
        work: &work,
    }
    .mount(&merged)
    .map_err(UnpackError::io("mount overlay"))?;
    Ok(merged)
}

fn enter_private_mounts() -> io::Result<()> {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    Ok(())
}

/// Looks at the first bytes rather than at what somebody says it is.
fn decompress<'a>(mut archive: impl io::BufRead + 'a) -> Result<Box<dyn Read + 'a>, UnpackError> {
    let start = archive.fill_buf().map_err(UnpackError::io("read layer"))?;
    if start.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(archive)));
    }
    if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let decoder = zstd::Decoder::with_buffer(archive).map_err(UnpackError::io("read layer"))?;
        return Ok(Box::new(decoder));
    }
    Ok(Box::new(archive))
}

/// `skiff shim overlay DIR`: exits with 0 if overlays can be mounted over folders there.
pub(crate) fn probe_overlay_main(args: &[OsString]) -> i32 {
    let Some(dir) = args.first().map(Path::new) else {
        return 2;
    };
    let probe = || -> io::Result<()> {
        let folder = |name: &str| {
            let path = dir.join(name);
            fs::create_dir_all(&path).map(|()| path)
        };
        let (upper, work, merged) = (folder("upper")?, folder("work")?, folder("merged")?);
        fs::write(folder("lower")?.join("file"), "")?;
        enter_private_mounts()?;
        Overlay {
            layers_dir: dir,
            top_first: &["lower"],
            upper: &upper,
            work: &work,
        }
        .mount(&merged)?;
        // Some file systems can be mounted over, but not written to as an upper one.
        fs::remove_file(merged.join("file"))
    };
    match probe() {
        Ok(()) => 0,
        Err(error) => {
            println!("{error}");
            1
        }
    }
}
