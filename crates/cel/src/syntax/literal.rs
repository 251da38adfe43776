//! Texts as they are written (cel-go's parser/unescape.go).

/// The characters of a string, or the bytes of bytes; `raw` has its prefixes and quotes.
pub(super) fn unescape(raw: &str, bytes: bool) -> Result<Vec<u8>, String> {
    let unprefixed = raw.trim_start_matches(['b', 'B', 'r', 'R']);
    let is_raw = raw[..raw.len() - unprefixed.len()].contains(['r', 'R']);
    let quotes = if unprefixed.len() >= 6 && (unprefixed.starts_with("\"\"\"") || unprefixed.starts_with("'''")) {
        3
    } else {
        1
    };
    // Line ends are unified as Go does when it reads the text.
    let inside = unprefixed[quotes..unprefixed.len() - quotes]
        .replace("\r\n", "\n")
        .replace('\r', "\n");
    if is_raw || !inside.contains('\\') {
        return Ok(inside.into_bytes());
    }
    let mut out = Vec::with_capacity(inside.len());
    let mut rest = inside.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            push(&mut out, character);
            continue;
        }
        let invalid = || "unable to unescape string".to_owned();
        let escape = rest.next().ok_or_else(invalid)?;
        match escape {
            'a' => out.push(0x07),
            'b' => out.push(0x08),
            'f' => out.push(0x0c),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'v' => out.push(0x0b),
            '\\' | '\'' | '"' | '`' | '?' => push(&mut out, escape),
            'x' | 'X' => code(&mut out, digits(&mut rest, 2, 16).ok_or_else(invalid)?, bytes)?,
            'u' | 'U' if bytes => return Err(invalid()),
            'u' => code(&mut out, digits(&mut rest, 4, 16).ok_or_else(invalid)?, false)?,
            'U' => code(&mut out, digits(&mut rest, 8, 16).ok_or_else(invalid)?, false)?,
            '0'..='3' => {
                let first = escape.to_digit(8).unwrap_or_default();
                let others = digits(&mut rest, 2, 8).ok_or_else(invalid)?;
                code(&mut out, first * 64 + others, bytes)?;
            }
            _ => return Err(invalid()),
        }
    }
    Ok(out)
}

fn push(out: &mut Vec<u8>, character: char) {
    let mut buffer = [0; 4];
    out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
}

/// In bytes an escape is a byte, in strings a character.
fn code(out: &mut Vec<u8>, value: u32, bytes: bool) -> Result<(), String> {
    if bytes {
        out.push(value as u8);
        return Ok(());
    }
    let character = char::from_u32(value).ok_or_else(|| "unable to unescape string".to_owned())?;
    push(out, character);
    Ok(())
}

fn digits(rest: &mut std::str::Chars<'_>, count: usize, radix: u32) -> Option<u32> {
    let mut value = 0_u32;
    for _ in 0..count {
        value = value.checked_mul(radix)?.checked_add(rest.next()?.to_digit(radix)?)?;
    }
    Some(value)
}
