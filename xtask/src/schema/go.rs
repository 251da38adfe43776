//! A reader for the small part of Go that upstream's API types are written in.
//!
//! gofmt guarantees one declaration or member a line, so lines are enough.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::rc::Rc;

use anyhow::Context;

use super::prose::comment_lines;
use super::proto;

/// Import alias to import path.
pub type Imports = HashMap<String, String>;

/// All packages read so far, by import path.
#[derive(Default)]
pub struct Sources {
    pub packages: BTreeMap<String, Package>,
}

/// One Go package.
#[derive(Default)]
pub struct Package {
    pub types: BTreeMap<String, TypeDecl>,
    pub constants: Vec<Constant>,
    /// Type expressions registered with the scheme, and the API group.
    pub registered: Vec<String>,
    pub group: Option<String>,
    pub imports: Rc<Imports>,
    pub messages: proto::Messages,
}

/// `type X …`.
pub struct TypeDecl {
    pub doc: Vec<String>,
    pub body: Body,
    pub imports: Rc<Imports>,
}

/// Right-hand side of a type declaration.
pub enum Body {
    Struct(Vec<Member>),
    Named(String),
    Alias(String),
}

/// A struct member that has a tag.
#[derive(Clone)]
pub struct Member {
    /// Empty when embedded.
    pub name: String,
    pub ty: String,
    pub tags: HashMap<String, String>,
    pub doc: Vec<String>,
}

/// `Name Type = "value"`.
pub struct Constant {
    pub name: String,
    pub ty: String,
    pub value: String,
    pub doc: Vec<String>,
}

impl Sources {
    /// Reads every non-test Go file of a package, and its proto file.
    pub fn read_package(&mut self, path: &str, dir: &Path) -> anyhow::Result<()> {
        let mut package = Package::default();
        let mut files: Vec<_> = fs::read_dir(dir)
            .with_context(|| format!("cannot list {}", dir.display()))?
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .map(|entry| entry.path())
            .collect();
        files.sort();
        for file in files {
            let name = file.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if name == "generated.proto" {
                package.messages = proto::messages(&read(&file)?);
            }
            let skip = !name.ends_with(".go")
                || name.ends_with("_test.go")
                || name.ends_with("_fuzz.go")
                || name.starts_with("generated.")
                || name.starts_with("zz_")
                || name == "fieldsv1_string.go";
            if !skip {
                read_file(&mut package, &read(&file)?, name == "register.go");
            }
        }
        self.packages.insert(path.to_owned(), package);
        Ok(())
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn read_file(package: &mut Package, text: &str, register: bool) {
    let imports = Rc::new(imports(text));
    if register {
        package.imports = imports.clone();
        package.group = text
            .lines()
            .find_map(|l| l.strip_prefix("const GroupName = "))
            .map(unquote);
        package.registered = text
            .lines()
            .map(|l| l.split("//").next().unwrap_or_default())
            .flat_map(|line| line.split('&').skip(1))
            .filter_map(|rest| rest.split_once("{}").map(|(name, _)| name.to_owned()))
            .collect();
    }
    let mut lines = text.lines();
    let mut doc: Vec<&str> = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(comment) = line.strip_prefix("//") {
            doc.push(comment);
            continue;
        }
        let taken = std::mem::take(&mut doc);
        if let Some(rest) = line.strip_prefix("type ") {
            if let Some((name, body)) = type_decl(rest, &mut lines) {
                let decl = TypeDecl {
                    doc: comment_lines(&taken),
                    body,
                    imports: imports.clone(),
                };
                package.types.insert(name, decl);
            }
        } else if line == "const (" {
            constants(package, &mut lines);
        } else if let Some(rest) = line.strip_prefix("const ") {
            package.constants.extend(constant(rest, &taken));
        }
    }
}

fn imports(text: &str) -> Imports {
    let mut found = Imports::new();
    let mut inside = false;
    for line in text.lines() {
        let spec = match line {
            "import (" => {
                inside = true;
                continue;
            }
            ")" => {
                inside = false;
                continue;
            }
            _ if inside => line.trim(),
            _ => match line.strip_prefix("import ") {
                Some(spec) => spec.trim(),
                None => continue,
            },
        };
        if let Some((alias, quoted)) = spec.split_once('"') {
            let path = quoted.trim_end_matches('"').to_owned();
            let alias = match alias.trim() {
                "" => path.rsplit('/').next().unwrap_or_default().to_owned(),
                alias => alias.to_owned(),
            };
            found.insert(alias, path);
        }
    }
    found
}

fn type_decl<'a>(rest: &str, lines: &mut impl Iterator<Item = &'a str>) -> Option<(String, Body)> {
    let (name, body) = rest.split_once(' ')?;
    let body = body.split("//").next().unwrap_or_default().trim();
    let body = match body {
        "struct {" => Body::Struct(members(lines)),
        "struct{}" => Body::Struct(Vec::new()),
        _ if body.starts_with("interface") || body.starts_with("func") => {
            if body.ends_with('{') {
                lines.by_ref().find(|l| *l == "}");
            }
            return None;
        }
        _ => match body.strip_prefix("= ") {
            Some(target) => Body::Alias(target.to_owned()),
            None => Body::Named(body.to_owned()),
        },
    };
    Some((name.to_owned(), body))
}

fn members<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Vec<Member> {
    let mut found = Vec::new();
    let mut doc: Vec<&str> = Vec::new();
    for line in lines {
        if line == "}" {
            break;
        }
        let line = line.trim();
        if let Some(comment) = line.strip_prefix("//") {
            doc.push(comment);
            continue;
        }
        let taken = std::mem::take(&mut doc);
        let Some((head, rest)) = line.split_once('`') else {
            continue;
        };
        let tags = tags(rest.split('`').next().unwrap_or_default());
        let mut words = head.split_whitespace();
        let (first, second) = (words.next().unwrap_or_default(), words.next());
        let (name, ty) = match second {
            Some(ty) => (first, ty),
            None => ("", first),
        };
        found.push(Member {
            name: name.to_owned(),
            ty: ty.to_owned(),
            tags,
            doc: comment_lines(&taken),
        });
    }
    found
}

fn tags(text: &str) -> HashMap<String, String> {
    let mut found = HashMap::new();
    let mut rest = text.trim();
    while let Some((key, tail)) = rest.split_once(":\"") {
        let Some((value, tail)) = tail.split_once('"') else {
            break;
        };
        found.insert(key.trim().to_owned(), value.to_owned());
        rest = tail;
    }
    found
}

fn constants<'a>(package: &mut Package, lines: &mut impl Iterator<Item = &'a str>) {
    let mut doc: Vec<&str> = Vec::new();
    for line in lines {
        if line == ")" {
            break;
        }
        let line = line.trim();
        if let Some(comment) = line.strip_prefix("//") {
            doc.push(comment);
            continue;
        }
        let taken = std::mem::take(&mut doc);
        package.constants.extend(constant(line, &taken));
    }
}

/// Only typed string constants (and untyped ones, with an empty type) matter.
fn constant(line: &str, doc: &[&str]) -> Option<Constant> {
    let (left, right) = line.split_once('=')?;
    let mut words = left.split_whitespace();
    let name = words.next()?.to_owned();
    let right = right.trim();
    let (cast, quoted) = right.split_once('"')?;
    let value = quoted.split('"').next()?.to_owned();
    // `Name Type = "v"` or `Name = Type("v")`.
    let ty = words
        .next()
        .unwrap_or_else(|| cast.trim().trim_end_matches('('))
        .to_owned();
    Some(Constant {
        name,
        ty,
        value,
        doc: comment_lines(doc),
    })
}

fn unquote(s: &str) -> String {
    s.trim().trim_matches('"').to_owned()
}
