//! Options from files: `/etc/skiff/config.yaml` and `config.yaml.d/`, key = flag name.
//!
//! Flags win over the environment (`SKIFF_…`), which wins over files; later files win over earlier.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

const CONFIG: &str = "/etc/skiff/config.yaml";

/// The default data directory: of the system for root, else of the user.
pub fn default_data_dir() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return "/var/lib/skiff".into();
    }
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).or_else(home);
    base.unwrap_or_else(std::env::temp_dir).join("skiff")
}

/// The command line with the options of the files put between the subcommand and its own flags.
/// Only `up` reads files.
///
/// # Errors
/// When a file cannot be read or holds something else than flags.
pub fn with_config_file(arguments: &[String]) -> Result<Vec<String>> {
    let mut merged = arguments.to_vec();
    if arguments.get(1).map(String::as_str) == Some("up") {
        merged.splice(2..2, from_files(Path::new(CONFIG))?);
    }
    Ok(merged)
}

fn from_files(main: &Path) -> Result<Vec<String>> {
    let mut files = vec![main.to_owned()];
    let folder = main.with_extension("yaml.d");
    if folder.is_dir() {
        let mut extra: Vec<PathBuf> = fs::read_dir(&folder)
            .with_context(|| format!("list {}", folder.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
            .collect();
        extra.sort();
        files.extend(extra);
    }
    let mut options = BTreeMap::new();
    for file in files.iter().filter(|file| file.exists()) {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        let values: BTreeMap<String, Value> =
            serde_saphyr::from_str(&text).with_context(|| format!("{} is not a map of flags", file.display()))?;
        options.extend(values.into_iter().map(|(key, value)| (key, (value, file.clone()))));
    }
    options
        .into_iter()
        .filter(|(key, _)| std::env::var_os(variable(key)).is_none())
        .map(flag)
        .collect()
}

fn variable(key: &str) -> String {
    format!("SKIFF_{}", key.to_uppercase().replace('-', "_"))
}

fn flag((key, (value, file)): (String, (Value, PathBuf))) -> Result<String> {
    match value {
        Value::String(text) => Ok(format!("--{key}={text}")),
        Value::Number(number) => Ok(format!("--{key}={number}")),
        Value::Bool(flag) => Ok(format!("--{key}={flag}")),
        Value::Array(items) => {
            let items: Vec<String> = items
                .iter()
                .map(|item| item.as_str().map_or_else(|| item.to_string(), String::from))
                .collect();
            Ok(format!("--{key}={}", items.join(",")))
        }
        _ => bail!("{}: {key} is neither text, number, flag nor list", file.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_files_win() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("config.yaml");
        fs::write(&main, "secure-port: 7443\nnode-name: a\n").unwrap();
        fs::create_dir(dir.path().join("config.yaml.d")).unwrap();
        fs::write(dir.path().join("config.yaml.d/10.yaml"), "node-name: b\n").unwrap();
        assert_eq!(from_files(&main).unwrap(), ["--node-name=b", "--secure-port=7443"]);
        fs::write(&main, "secure-port: {a: b}\n").unwrap();
        assert!(from_files(&main).is_err());
    }
}
