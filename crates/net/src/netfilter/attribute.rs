//! Netlink attributes: a writer and a reader that trusts no length.

const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;

/// Writes attributes one after another. Integers are big-endian, as netfilter wants them.
#[derive(Debug, Default, Clone)]
pub(crate) struct Attributes(pub Vec<u8>);

impl Attributes {
    pub fn new() -> Self {
        Attributes::default()
    }

    pub fn raw(mut self, kind: u16, data: &[u8]) -> Self {
        let length = u16::try_from(data.len() + 4).expect("callers keep attributes below 64 KiB");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub fn u8(self, kind: u16, value: u8) -> Self {
        self.raw(kind, &[value])
    }

    pub fn u32(self, kind: u16, value: u32) -> Self {
        self.raw(kind, &value.to_be_bytes())
    }

    pub fn u64(self, kind: u16, value: u64) -> Self {
        self.raw(kind, &value.to_be_bytes())
    }

    pub fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.raw(kind, &bytes)
    }

    pub fn nested(self, kind: u16, inner: &Attributes) -> Self {
        self.raw(kind | NESTED, &inner.0)
    }
}

/// Reads attributes; stops at the first that does not fit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn find(self, kind: u16) -> Option<&'a [u8]> {
        self.into_iter().find(|(found, _)| *found == kind).map(|(_, data)| data)
    }

    pub fn nested(self, kind: u16) -> Option<Reader<'a>> {
        self.find(kind).map(Reader)
    }

    pub fn text(self, kind: u16) -> Option<&'a str> {
        let data = self.find(kind)?;
        std::str::from_utf8(data.strip_suffix(&[0]).unwrap_or(data)).ok()
    }

    pub fn u32(self, kind: u16) -> Option<u32> {
        self.find(kind)?.try_into().ok().map(u32::from_be_bytes)
    }

    pub fn u64(self, kind: u16) -> Option<u64> {
        self.find(kind)?.try_into().ok().map(u64::from_be_bytes)
    }
}

impl<'a> IntoIterator for Reader<'a> {
    type Item = (u16, &'a [u8]);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        Iter(self.0)
    }
}

/// The attributes of a [`Reader`].
pub(crate) struct Iter<'a>(&'a [u8]);

impl<'a> Iterator for Iter<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (header, _) = self.0.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
        let data = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let inner = Attributes::new().u32(1, 7).text(2, "name");
        let outer = Attributes::new().nested(3, &inner).u64(4, 9).u8(5, 1);
        let reader = Reader(&outer.0);
        let nested = reader.nested(3).expect("nested");
        assert_eq!(nested.u32(1), Some(7));
        assert_eq!(nested.text(2), Some("name"));
        assert_eq!(reader.u64(4), Some(9));
        assert_eq!(reader.find(5), Some(&[1u8][..]));
        assert_eq!(reader.find(6), None);
    }

    #[test]
    fn broken_lengths_end_the_list() {
        for bytes in [&[3u8, 0, 1, 0][..], &[0, 0, 0, 0], &[200, 0, 1, 0, 9], &[4], &[]] {
            assert_eq!(Reader(bytes).into_iter().count(), 0, "{bytes:?}");
        }
    }
}
