//! Links in what a proxied server answers: those to its own paths are made to lead through the proxy
//! again (`apimachinery/pkg/util/proxy/transport.go`).

/// The attributes that hold links, by tag.
const LINKS: [(&str, &[&str]); 25] = [
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// Where links lead.
pub(super) struct Links<'a> {
    /// The proxy's own path: `/api/v1/namespaces/ns/services/web/proxy`.
    pub prefix: &'a str,
    /// The proxied server, as `host:port`.
    pub target: &'a str,
    /// What the client calls this server, as `host:port`.
    pub host: &'a str,
}

impl Links<'_> {
    /// One link, as the client has to follow it.
    pub fn rewrite(&self, link: &str) -> String {
        let (host, path) = split(link);
        let foreign = host.is_some_and(|host| host != self.target && host != self.host);
        if foreign || !path.starts_with('/') {
            return link.to_owned();
        }
        // A link to where the client already is keeps its scheme and host.
        let kept = host
            .filter(|host| *host == self.host)
            .map_or("", |_| &link[..link.len() - path.len()]);
        if path.starts_with(self.prefix) {
            return format!("{kept}{path}");
        }
        format!("{kept}{}{path}", self.prefix)
    }

    /// A page with its links rewritten; anything that is no tag stays as it is.
    pub fn rewrite_html(&self, html: &str) -> String {
        let mut out = String::with_capacity(html.len() + 256);
        let mut rest = html;
        while let Some(at) = rest.find('<') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let length = tag_length(rest);
            let (tag, after) = rest.split_at(length);
            self.put_tag(&mut out, tag);
            rest = after;
        }
        out.push_str(rest);
        out
    }

    fn put_tag(&self, out: &mut String, tag: &str) {
        let name_end = tag[1..]
            .find(|c: char| !c.is_ascii_alphanumeric())
            .map_or(tag.len(), |at| at + 1);
        let name = tag[1..name_end].to_ascii_lowercase();
        let Some((_, attributes)) = LINKS.iter().find(|(known, _)| *known == name) else {
            out.push_str(tag);
            return;
        };
        out.push_str(&tag[..name_end]);
        let mut rest = &tag[name_end..];
        while let Some(attribute) = Attribute::next(rest) {
            out.push_str(&rest[..attribute.value_at]);
            let is_link = attributes
                .iter()
                .any(|known| attribute.name.eq_ignore_ascii_case(known));
            let value = &rest[attribute.value_at..attribute.value_end];
            if is_link && !value.is_empty() {
                out.push_str(&self.rewrite(value));
            } else {
                out.push_str(value);
            }
            rest = &rest[attribute.value_end..];
        }
        out.push_str(rest);
    }
}

/// The host of an absolute link, and the path with all that follows it.
fn split(link: &str) -> (Option<&str>, &str) {
    let after_scheme = ["http://", "https://", "//"]
        .iter()
        .find_map(|scheme| link.strip_prefix(scheme));
    match after_scheme {
        None => (None, link),
        Some(rest) => match rest.find('/') {
            Some(slash) => (Some(&rest[..slash]), &rest[slash..]),
            None => (Some(rest), ""),
        },
    }
}

/// How long the markup is that begins here: a comment, or a tag with its quoted values.
fn tag_length(text: &str) -> usize {
    if let Some(comment) = text.strip_prefix("<!--") {
        return comment.find("-->").map_or(text.len(), |at| at + 7);
    }
    if !text[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '/') {
        return 1;
    }
    let mut quote = None;
    for (at, c) in text.char_indices().skip(1) {
        match (quote, c) {
            (None, '>') => return at + 1,
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
    }
    text.len()
}

/// An attribute with a value, by its place in the text.
struct Attribute<'a> {
    name: &'a str,
    value_at: usize,
    value_end: usize,
}

impl<'a> Attribute<'a> {
    /// The next one that has a value.
    fn next(text: &'a str) -> Option<Attribute<'a>> {
        let equals = text.find('=')?;
        let name = text[..equals].trim_end();
        let name = &name[name
            .rfind(|c: char| c.is_whitespace() || c == '/')
            .map_or(0, |at| at + 1)..];
        let after = &text[equals + 1..];
        let start = equals + 1 + (after.len() - after.trim_start().len());
        let quote = text[start..].chars().next()?;
        let (value_at, value_end) = if matches!(quote, '"' | '\'') {
            let inner = start + 1;
            (inner, inner + text[inner..].find(quote)?)
        } else {
            let end = text[start..].find(|c: char| c.is_whitespace() || c == '>');
            (start, end.map_or(text.len(), |at| start + at))
        };
        // The closing quote belongs to what follows.
        Some(Attribute {
            name,
            value_at,
            value_end,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINKS: Links<'static> = Links {
        prefix: "/proxy/node/node1:10250",
        target: "10.0.0.1:80",
        host: "foo.com",
    };

    #[test]
    fn links_to_the_server_lead_through_the_proxy() {
        for (link, want) in [
            ("/", "/proxy/node/node1:10250/"),
            ("/logs/", "/proxy/node/node1:10250/logs/"),
            ("http://10.0.0.1:80/x?a=b#c", "/proxy/node/node1:10250/x?a=b#c"),
            ("http://foo.com/x", "http://foo.com/proxy/node/node1:10250/x"),
            ("/proxy/node/node1:10250/x", "/proxy/node/node1:10250/x"),
            ("http://elsewhere.com/x", "http://elsewhere.com/x"),
            ("relative/x", "relative/x"),
            ("#top", "#top"),
        ] {
            assert_eq!(LINKS.rewrite(link), want, "{link}");
        }
    }

    #[test]
    fn pages_keep_everything_else() {
        let page = r#"<!-- <a href="/no"> --><pre a="1>2"><a class=x href="/kubelet.log">kubelet.log</a><img src='/a.png'/><p title="/x">1 < 2</p></pre>"#;
        let want = r#"<!-- <a href="/no"> --><pre a="1>2"><a class=x href="/proxy/node/node1:10250/kubelet.log">kubelet.log</a><img src='/proxy/node/node1:10250/a.png'/><p title="/x">1 < 2</p></pre>"#;
        assert_eq!(LINKS.rewrite_html(page), want);
        for odd in [
            "<",
            "<a",
            "<a href",
            "<a href=",
            "<a href=\"",
            "<a href='/x",
            "<é>",
            "<!--",
        ] {
            assert_eq!(LINKS.rewrite_html(odd), odd);
        }
    }
}
