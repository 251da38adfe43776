//! `$(NAME)` in commands, arguments and values (third_party/forked/golang/expansion).

/// Replaces `$(NAME)` by what `lookup` knows; an unknown name stays as written, `$$` is a dollar.
pub fn expand(input: &str, mut lookup: impl FnMut(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(input.len());
    let mut rest = input;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('(') {
            let Some(end) = after.find(')') else {
                out.push_str("$(");
                rest = after;
                continue;
            };
            let name = &after[..end];
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = &after[end + 1..];
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_table() {
        let lookup = |name: &str| match name {
            "VAR_A" => Some("A".to_string()),
            "VAR_B" => Some("B".to_string()),
            "VAR_C" => Some("C".to_string()),
            "VAR_REF" => Some("$(VAR_A)".to_string()),
            "VAR_EMPTY" => Some(String::new()),
            _ => None,
        };
        for (input, expected) in [
            ("$(VAR_A)", "A"),
            ("___$(VAR_B)___", "___B___"),
            ("$(VAR_A)_$(VAR_B)", "A_B"),
            ("$$(VAR_B)_$(VAR_A)", "$(VAR_B)_A"),
            ("$$$(VAR_B)", "$B"),
            ("$$$$$$(BIG_MONEY)", "$$$(BIG_MONEY)"),
            ("$(VAR_REF)", "$(VAR_A)"),
            ("foo$(VAR_EMPTY)bar", "foobar"),
            ("$VAR_A", "$VAR_A"),
            ("$(MISSING)-$", "$(MISSING)-$"),
            ("$(VAR_A", "$(VAR_A"),
            ("f000-$$(VAR_A", "f000-$(VAR_A"),
            ("$?_boo_$!", "$?_boo_$!"),
            ("$()", "$()"),
            ("\n", "\n"),
        ] {
            assert_eq!(expand(input, lookup), expected, "{input}");
        }
    }
}
