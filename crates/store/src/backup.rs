//! One-file backups of the state at one revision, and new stores from them.
//!
//! A file is a magic line, the revision, the key-values in key order, their number and the
//! SHA-256 of all that; numbers are big-endian.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::{Error, KeyValue, Range, Store, embedded};

const MAGIC: &[u8] = b"skiff-backup 1\n";
const PAGE: usize = 500;
const LONGEST_VALUE: u32 = 64 << 20;
/// A restored store goes on this much after the backup, so that clients that saw revisions after
/// the backup do not meet them again with other content; they are told to read anew.
const REVISION_GAP: i64 = 1_000_000;

/// What a restore made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The revision of the backup.
    pub backup_revision: i64,
    /// The revision that the new store starts at.
    pub revision: i64,
    /// The number of keys.
    pub keys: usize,
}

pub(crate) async fn write(store: &Store, path: &Path) -> Result<i64, Error> {
    let (store, path) = (store.clone(), path.to_owned());
    let runtime = tokio::runtime::Handle::current();
    let written = tokio::task::spawn_blocking(move || {
        let read = |range: Range| runtime.block_on(store.range(range));
        write_file(&path, read)
    });
    written.await.map_err(|_| Error::Closed)?
}

fn write_file(path: &Path, read: impl Fn(Range) -> Result<crate::RangeResponse, Error>) -> Result<i64, Error> {
    let failed = Error::io("write the backup");
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = Path::new(&part);
    // For its owner only: it holds secrets.
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(part)
        .map_err(&failed)?;
    let mut out = Hashed {
        inner: BufWriter::new(file),
        hash: Sha256::new(),
    };
    let mut page = read(Range {
        limit: PAGE,
        ..Range::default()
    })?;
    let revision = page.revision;
    let mut keys = 0_u64;
    out.write_all(MAGIC)
        .and_then(|()| out.write_all(&revision.to_be_bytes()))
        .map_err(&failed)?;
    loop {
        for kv in &page.kvs {
            write_key_value(&mut out, kv).map_err(&failed)?;
            keys += 1;
        }
        let Some(last) = page.kvs.last().filter(|_| page.more) else {
            break;
        };
        // U+0001 is the least character that a key may have.
        let start = format!("{}\u{1}", last.key);
        page = read(Range {
            start,
            revision,
            limit: PAGE,
            ..Range::default()
        })?;
    }
    out.write_all(&[0])
        .and_then(|()| out.write_all(&keys.to_be_bytes()))
        .map_err(&failed)?;
    let (mut inner, digest) = (out.inner, out.hash.finalize());
    inner.write_all(&digest).map_err(&failed)?;
    inner
        .into_inner()
        .map_err(|error| failed(error.into_error()))?
        .sync_all()
        .map_err(&failed)?;
    std::fs::rename(part, path).map_err(&failed)?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(&failed)?;
    Ok(revision)
}

fn write_key_value(out: &mut impl Write, kv: &KeyValue) -> io::Result<()> {
    out.write_all(&[1])?;
    write_bytes(out, kv.key.as_bytes())?;
    for number in [
        kv.create_revision,
        kv.mod_revision,
        kv.version,
        kv.expires_at_ms.unwrap_or(0),
    ] {
        out.write_all(&number.to_be_bytes())?;
    }
    write_bytes(out, &kv.value)
}

fn write_bytes(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    out.write_all(&length.to_be_bytes())?;
    out.write_all(bytes)
}

/// Makes a new store in `dir`, which must hold none yet, from the backup at `path`. The whole file
/// is checked first; a store appears whole or not at all.
///
/// # Errors
/// [`Error::Backup`] if the file is no whole backup or `dir` holds a store.
pub fn restore(path: &Path, dir: &Path) -> Result<Restored, Error> {
    check(path)?;
    let damaged = |reason: &str| Error::Backup {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    let mut input = open(path)?;
    let backup_revision = read_header(&mut input).map_err(|error| damaged(&error.to_string()))?;
    let revision = backup_revision.saturating_add(REVISION_GAP);
    let mut keys = 0;
    embedded::fill(dir, revision, || match read_key_value(&mut input) {
        Ok(kv) => {
            keys += usize::from(kv.is_some());
            Ok(kv)
        }
        Err(error) => Err(damaged(&error.to_string())),
    })?;
    Ok(Restored {
        backup_revision,
        revision,
        keys,
    })
}

fn open(path: &Path) -> Result<Hashed<BufReader<File>>, Error> {
    let failed = |error: io::Error| Error::Backup {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    Ok(Hashed {
        inner: BufReader::new(File::open(path).map_err(failed)?),
        hash: Sha256::new(),
    })
}

/// Reads the file to its end.
fn check(path: &Path) -> Result<(), Error> {
    let damaged = |reason: String| Error::Backup {
        path: path.to_owned(),
        reason,
    };
    let mut input = open(path)?;
    let mut read = || -> io::Result<bool> {
        read_header(&mut input)?;
        let mut keys = 0_u64;
        while read_key_value(&mut input)?.is_some() {
            keys += 1;
        }
        let counted = u64::from_be_bytes(read_array(&mut input)?);
        let digest = input.hash.clone().finalize();
        let expected: [u8; 32] = read_array(&mut input.inner)?;
        let at_end = input.inner.read(&mut [0])? == 0;
        Ok(counted == keys && digest[..] == expected && at_end)
    };
    match read() {
        Ok(true) => Ok(()),
        Ok(false) => Err(damaged("its checksum is wrong".into())),
        Err(error) => Err(damaged(error.to_string())),
    }
}

fn read_header(input: &mut impl Read) -> io::Result<i64> {
    let magic: [u8; MAGIC.len()] = read_array(input)?;
    if magic != MAGIC {
        return Err(io::Error::other("it does not begin as one"));
    }
    Ok(i64::from_be_bytes(read_array(input)?))
}

fn read_key_value(input: &mut impl Read) -> io::Result<Option<KeyValue>> {
    if read_array::<1>(input)? == [0] {
        return Ok(None);
    }
    let key = String::from_utf8(read_bytes(input)?).map_err(io::Error::other)?;
    let mut number = || Ok::<_, io::Error>(i64::from_be_bytes(read_array(input)?));
    let (create_revision, mod_revision, version, expires) = (number()?, number()?, number()?, number()?);
    let value = read_bytes(input)?.into();
    let expires_at_ms = Some(expires).filter(|expires| *expires != 0);
    Ok(Some(KeyValue {
        key: Arc::from(key),
        value,
        create_revision,
        mod_revision,
        version,
        expires_at_ms,
    }))
}

fn read_bytes(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let length = u32::from_be_bytes(read_array(input)?);
    if length > LONGEST_VALUE {
        return Err(io::Error::other("a length in it is too great"));
    }
    let mut bytes = Vec::new();
    input.take(u64::from(length)).read_to_end(&mut bytes)?;
    if bytes.len() < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

fn read_array<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Hashes what passes through.
struct Hashed<T> {
    inner: T,
    hash: Sha256,
}

impl<T: Write> Write for Hashed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Hashed<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.hash.update(&bytes[..read]);
        Ok(read)
    }
}
