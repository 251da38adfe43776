//! Objects from files, folders and standard input.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use schema::codec::yaml;
use serde_json::Value;

/// Reads all objects of `sources` in order: YAML or JSON, several in a file, lists unfolded. `-` is
/// standard input; a folder stands for its files by name.
pub(crate) fn read(sources: &[PathBuf]) -> Result<Vec<Value>> {
    let mut objects = Vec::new();
    for source in sources {
        if source == Path::new("-") {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("read standard input")?;
            parse(&text, "STDIN", &mut objects)?;
            continue;
        }
        if !source.exists() {
            bail!("the path \"{}\" does not exist", source.display());
        }
        for file in files(source)? {
            let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
            parse(&text, &file.display().to_string(), &mut objects)?;
        }
    }
    if objects.is_empty() {
        bail!("no objects passed to apply");
    }
    Ok(objects)
}

fn files(source: &Path) -> Result<Vec<PathBuf>> {
    if !source.is_dir() {
        return Ok(vec![source.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(source).with_context(|| format!("list {}", source.display()))? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if path.is_file() && matches!(extension, Some("yaml" | "yml" | "json")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn parse(text: &str, origin: &str, objects: &mut Vec<Value>) -> Result<()> {
    for document in yaml::documents(text) {
        let decoded = yaml::to_value(document.as_bytes())
            .map_err(|error| anyhow::anyhow!("error parsing {origin}: error converting YAML to JSON: {error}"))?;
        match decoded.value {
            Value::Null => {}
            Value::Object(mut list) if list.get("kind").is_some_and(|kind| kind == "List") => {
                if let Some(Value::Array(items)) = list.remove("items") {
                    objects.extend(items);
                }
            }
            object @ Value::Object(_) => {
                for field in ["apiVersion", "kind"] {
                    if object[field].as_str().is_none_or(str::is_empty) {
                        bail!("error validating \"{origin}\": error validating data: {field} not set");
                    }
                }
                objects.push(object);
            }
            _ => bail!("error parsing {origin}: a document is not an object"),
        }
    }
    Ok(())
}
