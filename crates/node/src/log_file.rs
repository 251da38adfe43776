//! Log files in the CRI's format: `<RFC 3339 time> <stdout|stderr> <P|F> <text>` a line.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use jiff::Timestamp;

/// A line of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// As written.
    pub time: &'a str,
    pub stream: Stream,
    /// The container's line goes on in the next one.
    pub partial: bool,
    /// Without a line feed.
    pub text: &'a [u8],
}

/// Where a line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl<'a> Line<'a> {
    /// Reads a line (without its line feed).
    pub fn parse(line: &'a [u8]) -> Option<Line<'a>> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?;
        let stream = match parts.next()? {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        };
        let tag = parts.next()?;
        let text = parts.next().unwrap_or_default();
        Some(Line {
            time,
            stream,
            partial: tag.first() == Some(&b'P'),
            text,
        })
    }

    /// When it was written.
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }
}

/// Where the last `count` lines of a file of `size` bytes begin.
pub(crate) fn tail_start(file: &mut (impl Read + Seek), size: u64, count: u64) -> io::Result<u64> {
    const BLOCK: u64 = 16 * 1024;
    if count == 0 {
        return Ok(size);
    }
    let mut wanted = count;
    let mut end = size;
    let mut buffer = Vec::new();
    let mut last = true;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        buffer.resize((end - start) as usize, 0);
        file.read_exact(&mut buffer)?;
        for (at, byte) in buffer.iter().enumerate().rev() {
            let is_last = std::mem::take(&mut last);
            if *byte != b'\n' || is_last {
                continue;
            }
            wanted -= 1;
            if wanted == 0 {
                return Ok(start + at as u64 + 1);
            }
        }
        end = start;
    }
    Ok(0)
}

/// The text of the last lines of a log, for a termination message.
pub(crate) fn tail_text(path: &Path) -> String {
    use podlife::termination_message::{MAX_LOG_BYTES, MAX_LOG_LINES};
    let read = || -> io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let size = file.metadata()?.len();
        let start = tail_start(&mut file, size, MAX_LOG_LINES as u64)?;
        // Times and tags take room as well.
        let start = start.max(size.saturating_sub((MAX_LOG_BYTES * 8) as u64));
        file.seek(SeekFrom::Start(start))?;
        let mut out = Vec::new();
        file.take((MAX_LOG_BYTES * 8) as u64).read_to_end(&mut out)?;
        Ok(out)
    };
    let mut out = Vec::new();
    for line in read()
        .unwrap_or_default()
        .split(|byte| *byte == b'\n')
        .filter_map(Line::parse)
    {
        out.extend_from_slice(line.text);
        if !line.partial {
            out.push(b'\n');
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let line = Line::parse(b"2026-11-20T21:00:00.000000001Z stdout F hello  world").unwrap();
        assert_eq!(
            (line.text, line.partial, line.stream),
            (&b"hello  world"[..], false, Stream::Stdout)
        );
        assert_eq!(line.timestamp().unwrap().subsec_nanosecond(), 1);
        assert!(Line::parse(b"t stderr P ").unwrap().partial);
        assert_eq!(Line::parse(b"t stdout F").unwrap().text, b"");
        assert_eq!(Line::parse(b"junk"), None);
    }

    #[test]
    fn tails() {
        let text = b"one\ntwo\nthree\n";
        let at = |count| tail_start(&mut io::Cursor::new(text), text.len() as u64, count).unwrap();
        assert_eq!([at(0), at(1), at(2), at(3), at(9)], [14, 8, 4, 0, 0]);
        let open = b"one\ntwo";
        assert_eq!(tail_start(&mut io::Cursor::new(open), 7, 1).unwrap(), 4);
        let long: Vec<u8> = (0..20_000).flat_map(|n| format!("{n}\n").into_bytes()).collect();
        let start = tail_start(&mut io::Cursor::new(&long), long.len() as u64, 10_000).unwrap();
        assert!(long[start as usize..].starts_with(b"10000\n"));
    }
}
