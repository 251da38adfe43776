//! Writes a revision into an object without decoding it.

use bytes::Bytes;

const FIELD: &[u8] = b"resourceVersion";

/// The JSON object with `metadata.resourceVersion` set to `revision`; a new field goes where keys
/// stay sorted. Bytes that are no JSON object with an object `metadata` come back as they are.
pub fn stamp_resource_version(json: &Bytes, revision: i64) -> Bytes {
    match edit(json) {
        Some(Edit {
            start,
            end,
            before,
            after,
        }) => {
            let text = format!("{before}\"{revision}\"{after}");
            let mut stamped = Vec::with_capacity(json.len() + text.len());
            stamped.extend_from_slice(&json[..start]);
            stamped.extend_from_slice(text.as_bytes());
            stamped.extend_from_slice(&json[end..]);
            stamped.into()
        }
        None => json.clone(),
    }
}

/// The bytes of a JSON object's `metadata`; none if it has none.
pub fn metadata_of(json: &[u8]) -> Option<&[u8]> {
    let mut top = Scanner { json, at: 0 };
    top.enter()?;
    loop {
        let (key, _) = top.key()?;
        let start = top.at;
        top.skip_value()?;
        if key == b"metadata" {
            return Some(&json[start..top.at]);
        }
        top.next_member()?;
    }
}

/// What is replaced, and what stands around the revision.
struct Edit {
    start: usize,
    end: usize,
    before: &'static str,
    after: &'static str,
}

fn edit(json: &[u8]) -> Option<Edit> {
    let mut top = Scanner { json, at: 0 };
    top.enter()?;
    loop {
        let (key, _) = top.key()?;
        if key == b"metadata" {
            break;
        }
        top.skip_value()?;
        top.next_member()?;
    }
    let mut metadata = Scanner { json, at: top.at };
    metadata.enter()?;
    if metadata.peek()? == b'}' {
        let at = metadata.at;
        return Some(Edit {
            start: at,
            end: at,
            before: "\"resourceVersion\":",
            after: "",
        });
    }
    let mut insert_at = None;
    loop {
        let (key, key_at) = metadata.key()?;
        let value_at = metadata.at;
        metadata.skip_value()?;
        if key == FIELD {
            return Some(Edit {
                start: value_at,
                end: metadata.at,
                before: "",
                after: "",
            });
        }
        if key > FIELD && insert_at.is_none() {
            insert_at = Some(key_at);
        }
        let end = metadata.at;
        if metadata.next_member().is_none() {
            // Only a whole object is edited.
            (metadata.peek()? == b'}').then_some(())?;
            return Some(match insert_at {
                Some(at) => Edit {
                    start: at,
                    end: at,
                    before: "\"resourceVersion\":",
                    after: ",",
                },
                None => Edit {
                    start: end,
                    end,
                    before: ",\"resourceVersion\":",
                    after: "",
                },
            });
        }
    }
}

/// Walks over JSON that a serializer wrote; anything else ends the walk.
struct Scanner<'a> {
    json: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// The next byte that is not white space; it stays.
    fn peek(&mut self) -> Option<u8> {
        while self.json.get(self.at)?.is_ascii_whitespace() {
            self.at += 1;
        }
        Some(self.json[self.at])
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn enter(&mut self) -> Option<()> {
        self.expect(b'{')?;
        self.peek().map(drop)
    }

    /// Goes over a key and its colon to the value; returns the key and where it began.
    fn key(&mut self) -> Option<(&'a [u8], usize)> {
        self.peek()?;
        let start = self.at;
        self.skip_string()?;
        let key = &self.json[start + 1..self.at - 1];
        self.expect(b':')?;
        self.peek()?;
        Some((key, start))
    }

    /// Goes over the comma before another member.
    fn next_member(&mut self) -> Option<()> {
        self.expect(b',')
    }

    fn skip_string(&mut self) -> Option<()> {
        self.expect(b'"')?;
        loop {
            match self.json.get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(())
    }

    fn skip_value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => self.skip_string()?,
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' if depth > 0 => self.at += 1,
                _ => {
                    let rest = &self.json[self.at..];
                    let length = rest.iter().position(|byte| b",:{}[]\" \t\r\n".contains(byte))?;
                    if length == 0 {
                        return None;
                    }
                    self.at += length;
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: &str) {
        let stamped = stamp_resource_version(&Bytes::copy_from_slice(json.as_bytes()), 42);
        assert_eq!(String::from_utf8_lossy(&stamped), expected);
        let again = stamp_resource_version(&stamped, 42);
        assert_eq!(again, stamped);
    }

    #[test]
    fn replaces_and_inserts_in_order() {
        check(
            r#"{"kind":"A","metadata":{"name":"a","resourceVersion":"7","uid":"u"}}"#,
            r#"{"kind":"A","metadata":{"name":"a","resourceVersion":"42","uid":"u"}}"#,
        );
        check(
            r#"{"metadata":{"name":"a","uid":"u"}}"#,
            r#"{"metadata":{"name":"a","resourceVersion":"42","uid":"u"}}"#,
        );
        check(
            r#"{"metadata":{"name":"a"},"x":1}"#,
            r#"{"metadata":{"name":"a","resourceVersion":"42"},"x":1}"#,
        );
        check(
            r#"{"metadata":{"uid":"a"}}"#,
            r#"{"metadata":{"resourceVersion":"42","uid":"a"}}"#,
        );
        check(r#"{"metadata":{}}"#, r#"{"metadata":{"resourceVersion":"42"}}"#);
        check(
            r#"{ "metadata" : { "name" : "a" } }"#,
            r#"{ "metadata" : { "name" : "a","resourceVersion":"42" } }"#,
        );
    }

    #[test]
    fn is_not_misled_by_content() {
        check(
            r#"{"data":{"metadata":{"resourceVersion":"1"},"a":["}",{"b":"\"metadata\":{"}]},"metadata":{"annotations":{"resourceVersion":"x","z":"\\"},"name":"n"}}"#,
            r#"{"data":{"metadata":{"resourceVersion":"1"},"a":["}",{"b":"\"metadata\":{"}]},"metadata":{"annotations":{"resourceVersion":"x","z":"\\"},"name":"n","resourceVersion":"42"}}"#,
        );
    }

    #[test]
    fn leaves_what_is_no_object() {
        for json in [
            "",
            "[]",
            "{}",
            "3",
            r#"{"metadata":3}"#,
            r#"{"metadata":{"a":"b""#,
            r#"{"a":1,"#,
            r#"{"metadata":{"a""#,
        ] {
            check(json, json);
        }
    }

    #[test]
    fn metadata_is_cut_out() {
        let cut = |json: &str| metadata_of(json.as_bytes()).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let json = r#"{"kind":"A","data":{"metadata":1},"metadata":{"a":"}","b":[{}]},"spec":{}}"#;
        assert_eq!(cut(json).as_deref(), Some(r#"{"a":"}","b":[{}]}"#));
        assert_eq!(cut(r#"{"kind":"A"}"#), None);
        assert_eq!(cut(r#"{"metadata":{"a":"#), None);
    }
}
