//! The wire format: a reader of fields and a writer that fills its buffer from the end.

/// Why bytes are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It does not begin with `k8s\0`.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoMagic,
    /// A length or varint reaches beyond the end.
    #[error("unexpected EOF")]
    Truncated,
    /// A varint has more than 64 bits.
    #[error("proto: integer overflow")]
    Overflow,
    /// Field number 0 or a reserved wire type.
    #[error("proto: illegal tag {0}")]
    IllegalTag(u64),
    /// A known field with the wrong wire type.
    #[error("proto: wrong wireType = {wire_type} for field {field}")]
    WrongType {
        /// What was found.
        wire_type: u8,
        /// JSON name of the field.
        field: String,
    },
    /// Messages nested too deep.
    #[error("proto: exceeded max depth")]
    TooDeep,
    /// A quantity, a time or raw JSON inside the message does not parse.
    #[error("field {field}: {message}")]
    Content {
        /// JSON name of the field.
        field: String,
        /// What is wrong.
        message: String,
    },
    /// The type has no protobuf form.
    #[error("{0} has no protobuf encoding")]
    NotOnWire(String),
}

/// A field's value as the wire has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

impl Payload<'_> {
    pub(crate) fn wire_type(self) -> u8 {
        match self {
            Self::Varint(_) => 0,
            Self::Fixed64(_) => 1,
            Self::Bytes(_) => 2,
            Self::Fixed32 => 5,
        }
    }
}

/// Iterates over the fields of a message; groups are skipped.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn read(&mut self) -> Result<Option<(u32, Payload<'a>)>, WireError> {
        let mut groups = 0u32;
        loop {
            if self.rest.is_empty() {
                return if groups == 0 {
                    Ok(None)
                } else {
                    Err(WireError::Truncated)
                };
            }
            let tag = varint(&mut self.rest)?;
            let number = u32::try_from(tag >> 3).ok().filter(|n| (1..1 << 29).contains(n));
            let Some(number) = number else {
                return Err(WireError::IllegalTag(tag));
            };
            let payload = match tag & 7 {
                0 => Payload::Varint(varint(&mut self.rest)?),
                1 => Payload::Fixed64(u64::from_le_bytes(
                    self.take(8)?.try_into().expect("eight bytes were taken"),
                )),
                2 => {
                    let len = varint(&mut self.rest)?;
                    let len = usize::try_from(len).map_err(|_| WireError::Truncated)?;
                    Payload::Bytes(self.take(len)?)
                }
                3 => {
                    groups += 1;
                    continue;
                }
                4 if groups > 0 => {
                    groups -= 1;
                    continue;
                }
                5 => {
                    self.take(4)?;
                    Payload::Fixed32
                }
                _ => return Err(WireError::IllegalTag(tag)),
            };
            if groups == 0 {
                return Ok(Some((number, payload)));
            }
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Payload<'a>), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.read().transpose();
        if matches!(item, Some(Err(_))) {
            self.rest = &[];
        }
        item
    }
}

/// Reads a varint and moves past it.
pub(crate) fn varint(rest: &mut &[u8]) -> Result<u64, WireError> {
    let mut value = 0u64;
    for (i, byte) in rest.iter().enumerate() {
        if i == 9 && *byte > 1 {
            return Err(WireError::Overflow);
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if *byte < 0x80 {
            *rest = &rest[i + 1..];
            return Ok(value);
        }
    }
    Err(WireError::Truncated)
}

/// Writes a message back to front, so that lengths are known when they are written.
pub(crate) struct Back {
    buffer: Vec<u8>,
    /// Content is `buffer[at..]`.
    at: usize,
}

impl Back {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let capacity = capacity.max(64);
        Self {
            buffer: vec![0; capacity],
            at: capacity,
        }
    }

    /// How much is written; give it to [`Back::close`] later.
    pub(crate) fn written(&self) -> usize {
        self.buffer.len() - self.at
    }

    fn room(&mut self, len: usize) -> &mut [u8] {
        if self.at < len {
            let written = self.written();
            let grown = (self.buffer.len() * 2).max(written + len);
            let mut buffer = vec![0; grown];
            buffer[grown - written..].copy_from_slice(&self.buffer[self.at..]);
            self.at = grown - written;
            self.buffer = buffer;
        }
        self.at -= len;
        &mut self.buffer[self.at..self.at + len]
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
    }

    fn plain_varint(&mut self, mut value: u64) {
        let len = (64 - (value | 1).leading_zeros() as usize).div_ceil(7);
        let room = self.room(len);
        for byte in &mut room[..len - 1] {
            *byte = value as u8 | 0x80;
            value >>= 7;
        }
        room[len - 1] = value as u8;
    }

    pub(crate) fn tag(&mut self, number: u32, wire_type: u8) {
        self.plain_varint(u64::from(number) << 3 | u64::from(wire_type));
    }

    pub(crate) fn varint(&mut self, number: u32, value: u64) {
        self.plain_varint(value);
        self.tag(number, 0);
    }

    pub(crate) fn fixed64(&mut self, number: u32, value: u64) {
        self.raw(&value.to_le_bytes());
        self.tag(number, 1);
    }

    pub(crate) fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.raw(bytes);
        self.plain_varint(bytes.len() as u64);
        self.tag(number, 2);
    }

    pub(crate) fn string(&mut self, number: u32, text: &str) {
        self.bytes(number, text.as_bytes());
    }

    /// Ends a nested message that began at `mark`.
    pub(crate) fn close(&mut self, number: u32, mark: usize) {
        let len = self.written() - mark;
        self.plain_varint(len as u64);
        self.tag(number, 2);
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.buffer.drain(..self.at);
        self.buffer
    }
}
