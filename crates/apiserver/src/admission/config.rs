//! Which plugins run, and with what settings (upstream `admission/config.go`,
//! `kubeapiserver/options/admission.go`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use api::Value;

use super::plugins::PLUGINS;

/// What `--enable-admission-plugins` and its companions say.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Plugins that run beside those that are on by default.
    pub enable: Vec<String>,
    /// Plugins that do not run.
    pub disable: Vec<String>,
    /// A file with an `AdmissionConfiguration`: settings of single plugins.
    pub control_config_file: Option<PathBuf>,
}

impl Default for Admission {
    /// Upstream's defaults and `NodeRestriction`, which every installer enables.
    fn default() -> Self {
        Admission {
            enable: vec!["NodeRestriction".to_owned()],
            disable: Vec::new(),
            control_config_file: None,
        }
    }
}

/// Why the admission plugins cannot be set up.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum AdmissionError {
    #[error("{flag} plugin {name:?} is unknown")]
    Unknown { flag: &'static str, name: String },
    #[error("{0:?} in enable-admission-plugins and disable-admission-plugins overlapped")]
    Overlap(Vec<String>),
    #[error("cannot read the admission control configuration {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is not an AdmissionConfiguration of apiserver.config.k8s.io: {why}")]
    Content { path: PathBuf, why: String },
    #[error("admission plugin {name:?} cannot use its configuration: {why}")]
    Plugin { name: &'static str, why: String },
}

impl Admission {
    /// The names of the plugins that run.
    pub(super) fn enabled(&self) -> Result<BTreeSet<&'static str>, AdmissionError> {
        for (flag, names) in [
            ("enable-admission-plugins", &self.enable),
            ("disable-admission-plugins", &self.disable),
        ] {
            if let Some(name) = names
                .iter()
                .find(|name| !PLUGINS.iter().any(|line| line.name == **name))
            {
                let name = name.clone();
                return Err(AdmissionError::Unknown { flag, name });
            }
        }
        let both: Vec<String> = self
            .enable
            .iter()
            .filter(|n| self.disable.contains(n))
            .cloned()
            .collect();
        if !both.is_empty() {
            return Err(AdmissionError::Overlap(both));
        }
        let named = |list: &[String], name: &str| list.iter().any(|n| n == name);
        let runs = PLUGINS
            .iter()
            .filter(|line| named(&self.enable, line.name) || (line.default_on && !named(&self.disable, line.name)));
        Ok(runs.map(|line| line.name).collect())
    }

    /// The settings of each plugin that has some.
    pub(super) fn settings(&self) -> Result<BTreeMap<String, Value>, AdmissionError> {
        match &self.control_config_file {
            Some(path) => read(path),
            None => Ok(BTreeMap::new()),
        }
    }
}

fn read(path: &Path) -> Result<BTreeMap<String, Value>, AdmissionError> {
    let file = load(path)?;
    let bad = |why: &str| AdmissionError::Content {
        path: path.to_owned(),
        why: why.to_owned(),
    };
    if file["kind"] != "AdmissionConfiguration" {
        return Err(bad("kind is not AdmissionConfiguration"));
    }
    let versions = ["apiserver.config.k8s.io/v1", "apiserver.k8s.io/v1alpha1"];
    if !versions.iter().any(|version| file["apiVersion"] == *version) {
        return Err(bad("apiVersion is not apiserver.config.k8s.io/v1"));
    }
    let mut settings = BTreeMap::new();
    for plugin in file["plugins"].as_array().into_iter().flatten() {
        let name = plugin["name"].as_str().ok_or_else(|| bad("a plugin has no name"))?;
        let beside = plugin["path"].as_str().filter(|path| !path.is_empty());
        let setting = match (plugin.get("configuration").filter(|c| !c.is_null()), beside) {
            (Some(inline), _) => inline.clone(),
            // A relative path starts at the file that names it.
            (None, Some(beside)) => load(&path.parent().unwrap_or(Path::new("")).join(beside))?,
            (None, None) => continue,
        };
        settings.insert(name.to_owned(), setting);
    }
    Ok(settings)
}

fn load(path: &Path) -> Result<Value, AdmissionError> {
    let text = std::fs::read_to_string(path).map_err(|source| AdmissionError::Read {
        path: path.to_owned(),
        source,
    })?;
    serde_saphyr::from_str(&text).map_err(|error| AdmissionError::Content {
        path: path.to_owned(),
        why: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(enable: &[&str], disable: &[&str]) -> Admission {
        let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        Admission {
            enable: owned(enable),
            disable: owned(disable),
            control_config_file: None,
        }
    }

    #[test]
    fn flags_name_known_plugins_once() {
        let on = admission(&[], &["Priority"]).enabled().unwrap();
        assert!(on.contains("NamespaceLifecycle") && !on.contains("Priority") && !on.contains("NodeRestriction"));
        assert!(
            admission(&["NodeRestriction"], &[])
                .enabled()
                .unwrap()
                .contains("NodeRestriction")
        );
        let unknown = admission(&["Nonsense"], &[]).enabled().unwrap_err();
        assert_eq!(
            unknown.to_string(),
            "enable-admission-plugins plugin \"Nonsense\" is unknown"
        );
        let both = admission(&["Priority"], &["Priority"]).enabled().unwrap_err();
        assert!(both.to_string().ends_with("overlapped"));
    }

    #[test]
    fn settings_stand_in_the_file_or_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        std::fs::write(dir.path().join("beside.yaml"), "a: 1\n").unwrap();
        let text = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n\
            - name: One\n  path: beside.yaml\n- name: Two\n  configuration: {b: 2}\n- name: Three\n";
        std::fs::write(&path, text).unwrap();
        let settings = read(&path).unwrap();
        assert_eq!(settings.len(), 2);
        assert_eq!((&settings["One"]["a"], &settings["Two"]["b"]), (&1.into(), &2.into()));
        std::fs::write(&path, "kind: Other\n").unwrap();
        assert!(matches!(read(&path), Err(AdmissionError::Content { .. })));
    }
}
