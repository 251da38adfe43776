//! Header blocks: name-value pairs, zlib-compressed as one endless stream a direction.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::StreamError;
use crate::connection::Headers;

/// The dictionary of the SPDY/3 specification, section 2.6.10.1.
const DICTIONARY: &[u8] = include_bytes!("headers_dictionary.bin");

/// No honest header block of these protocols comes near this.
const MAX_BLOCK_BYTES: usize = 64 * 1024;

pub(super) struct Encoder(Compress);

impl Encoder {
    pub(super) fn new() -> Encoder {
        let mut compress = Compress::new(Compression::fast(), true);
        compress
            .set_dictionary(DICTIONARY)
            .expect("a dictionary may be set before the first byte");
        Encoder(compress)
    }

    pub(super) fn encode(&mut self, headers: &Headers) -> Vec<u8> {
        let mut plain = Vec::new();
        let put = |plain: &mut Vec<u8>, text: &str| {
            plain.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
            plain.extend_from_slice(text.as_bytes());
        };
        plain.extend_from_slice(&u32::try_from(headers.len()).unwrap_or(u32::MAX).to_be_bytes());
        for (name, value) in headers {
            put(&mut plain, name);
            put(&mut plain, value);
        }
        let mut block = Vec::with_capacity(plain.len() + 64);
        let start = self.0.total_in();
        loop {
            block.reserve(256);
            let consumed = usize::try_from(self.0.total_in() - start).unwrap_or(usize::MAX);
            let room = block.capacity();
            let status = self
                .0
                .compress_vec(&plain[consumed..], &mut block, FlushCompress::Sync)
                .expect("deflate does not fail on valid state");
            let consumed = usize::try_from(self.0.total_in() - start).unwrap_or(usize::MAX);
            if consumed == plain.len() && (block.len() < room || status == Status::BufError) {
                return block;
            }
        }
    }
}

pub(super) struct Decoder(Decompress);

impl Decoder {
    pub(super) fn new() -> Decoder {
        Decoder(Decompress::new(true))
    }

    pub(super) fn decode(&mut self, block: &[u8]) -> Result<Headers, StreamError> {
        parse(&self.inflate(block)?)
    }

    fn inflate(&mut self, block: &[u8]) -> Result<Vec<u8>, StreamError> {
        let mut plain = Vec::with_capacity(1024);
        let start = self.0.total_in();
        loop {
            let consumed = usize::try_from(self.0.total_in() - start).unwrap_or(usize::MAX);
            plain.reserve(1024);
            let room = plain.capacity();
            match self
                .0
                .decompress_vec(&block[consumed..], &mut plain, FlushDecompress::Sync)
            {
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0
                        .set_dictionary(DICTIONARY)
                        .map_err(|_| StreamError::Protocol("unknown header dictionary".into()))?;
                    continue;
                }
                Err(_) => return Err(StreamError::Protocol("header block is not zlib data".into())),
            }
            if plain.len() > MAX_BLOCK_BYTES {
                return Err(StreamError::Protocol("header block is too large".into()));
            }
            let consumed = usize::try_from(self.0.total_in() - start).unwrap_or(usize::MAX);
            if consumed == block.len() && plain.len() < room {
                return Ok(plain);
            }
        }
    }
}

fn parse(mut plain: &[u8]) -> Result<Headers, StreamError> {
    let short = || StreamError::Protocol("header block ends early".into());
    let number = |plain: &mut &[u8]| -> Result<usize, StreamError> {
        let (head, rest) = plain.split_first_chunk::<4>().ok_or_else(short)?;
        *plain = rest;
        Ok(u32::from_be_bytes(*head) as usize)
    };
    let count = number(&mut plain)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let mut text = || -> Result<String, StreamError> {
            let length = number(&mut plain)?;
            let (head, rest) = plain.split_at_checked(length).ok_or_else(short)?;
            plain = rest;
            Ok(String::from_utf8_lossy(head).into_owned())
        };
        let name = text()?.to_ascii_lowercase();
        for value in text()?.split('\0') {
            headers.push((name.clone(), value.to_owned()));
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_follow_each_other_on_one_zlib_stream() {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        for request in 0..50 {
            let headers: Headers = vec![
                ("streamtype".into(), "data".into()),
                ("port".into(), "8080".into()),
                ("requestid".into(), request.to_string()),
                ("long".into(), "x".repeat(request * 97)),
            ];
            assert_eq!(decoder.decode(&encoder.encode(&headers)).unwrap(), headers);
        }
    }

    #[test]
    fn lies_about_lengths_are_errors() {
        assert!(parse(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 1]).is_err());
        assert!(parse(&[0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(Decoder::new().decode(b"rubbish").is_err());
    }
}
