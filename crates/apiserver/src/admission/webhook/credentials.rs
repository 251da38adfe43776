//! How the server makes itself known to webhooks: the kubeconfig that the plugin's settings name
//! (upstream `plugin/webhook/config`, `util/webhook/authentication.go`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use api::Value;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The users of a kubeconfig; their names say which hosts they are for.
#[derive(Default)]
pub(super) struct Credentials {
    users: BTreeMap<String, Value>,
    /// Where the kubeconfig lies: its files are named from there.
    folder: PathBuf,
    /// Who is said to call hosts that no name is for.
    other: Option<Value>,
}

/// What goes along with calls to one host.
#[derive(Default)]
pub(super) struct Login {
    pub authorization: Option<HeaderValue>,
    pub certificate: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl Credentials {
    /// Reads a `WebhookAdmissionConfiguration`; without one nobody is told who calls.
    ///
    /// # Errors
    /// If it or the kubeconfig cannot be used.
    pub fn read(settings: Option<&Value>) -> Result<Credentials, String> {
        let Some(settings) = settings else {
            return Ok(Credentials::default());
        };
        let kind = settings["kind"].as_str().unwrap_or("");
        if !matches!(kind, "WebhookAdmissionConfiguration" | "WebhookAdmission") {
            return Err(format!("unexpected kind {kind:?}, want WebhookAdmissionConfiguration"));
        }
        let path = Path::new(settings["kubeConfigFile"].as_str().unwrap_or(""));
        if !path.is_absolute() {
            return Err(format!(
                "kubeConfigFile: Invalid value: {path:?}: must be an absolute file path"
            ));
        }
        let text = std::fs::read_to_string(path).map_err(|error| format!("read {}: {error}", path.display()))?;
        let config: Value =
            serde_saphyr::from_str(&text).map_err(|error| format!("parse {}: {error}", path.display()))?;
        let users = config["users"].as_array().into_iter().flatten();
        Ok(Credentials {
            users: users
                .filter_map(|user| Some((user["name"].as_str()?.to_owned(), user["user"].clone())))
                .collect(),
            folder: path.parent().unwrap_or(Path::new("/")).to_owned(),
            other: None,
        })
    }

    /// One user for all hosts.
    pub fn of_all(user: Value, folder: PathBuf) -> Credentials {
        Credentials {
            users: BTreeMap::new(),
            folder,
            other: Some(user),
        }
    }

    /// The login for a `host:port`: of the user of that name, else of the closest `*.rest`.
    ///
    /// # Errors
    /// If the user's files cannot be used.
    pub fn login(&self, target: &str) -> Result<Login, String> {
        let found = self.find(target).or_else(|| self.find(target.strip_suffix(":443")?));
        let found = found.or(self.other.as_ref());
        found.map_or(Ok(Login::default()), |user| self.of(user))
    }

    fn find(&self, target: &str) -> Option<&Value> {
        if let Some(user) = self.users.get(target) {
            return Some(user);
        }
        let dots = target.match_indices('.').map(|(at, _)| &target[at + 1..]);
        dots.map(|rest| format!("*.{rest}"))
            .find_map(|name| self.users.get(&name))
    }

    fn of(&self, user: &Value) -> Result<Login, String> {
        let text = |field: &str| user.get(field).and_then(Value::as_str).filter(|t| !t.is_empty());
        let authorization = match (text("token"), text("tokenFile"), text("username")) {
            (Some(token), ..) => Some(format!("Bearer {token}")),
            (None, Some(file), _) => {
                let token = self.file(file)?;
                Some(format!("Bearer {}", String::from_utf8_lossy(&token).trim()))
            }
            (None, None, Some(name)) => {
                let pair = format!("{name}:{}", text("password").unwrap_or(""));
                Some(format!("Basic {}", STANDARD.encode(pair)))
            }
            _ => None,
        };
        let authorization = authorization
            .map(|value| HeaderValue::try_from(value).map_err(|_| "a token holds characters no header can".to_owned()))
            .transpose()?;
        let pem = |data: &str, file: &str| match (text(data), text(file)) {
            (Some(data), _) => STANDARD.decode(data).map(Some).map_err(|error| format!("{error}")),
            (None, Some(file)) => self.file(file).map(Some),
            (None, None) => Ok(None),
        };
        let certificate = match (
            pem("client-certificate-data", "client-certificate")?,
            pem("client-key-data", "client-key")?,
        ) {
            (Some(certificate), Some(key)) => {
                let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate).collect();
                let chain = chain.map_err(|error| format!("client certificate: {error}"))?;
                let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| format!("client key: {error}"))?;
                Some((chain, key))
            }
            _ => None,
        };
        Ok(Login {
            authorization,
            certificate,
        })
    }

    fn file(&self, name: &str) -> Result<Vec<u8>, String> {
        let path = self.folder.join(name);
        std::fs::read(&path).map_err(|error| format!("read {}: {error}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_name_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        std::fs::write(dir.path().join("token"), "from-file\n").unwrap();
        let text = "kind: Config\nusers:\n- {name: 'a.ns.svc:443', user: {token: one}}\n\
            - {name: '*.ns.svc', user: {tokenFile: token}}\n- {name: '*.svc', user: {username: u, password: p}}\n";
        std::fs::write(&path, text).unwrap();
        let settings = serde_json::json!({"kind": "WebhookAdmissionConfiguration", "kubeConfigFile": path});
        let credentials = Credentials::read(Some(&settings)).unwrap();
        let header = |target: &str| {
            let login = credentials.login(target).unwrap();
            login.authorization.map(|h| h.to_str().unwrap().to_owned())
        };
        assert_eq!(header("a.ns.svc:443").as_deref(), Some("Bearer one"));
        assert_eq!(header("b.ns.svc:443").as_deref(), Some("Bearer from-file"));
        assert_eq!(header("b.other.svc:443").as_deref(), Some("Basic dTpw"));
        assert_eq!(header("b.ns.svc:8443"), None);
        let relative = serde_json::json!({"kind": "WebhookAdmissionConfiguration", "kubeConfigFile": "x"});
        assert!(Credentials::read(Some(&relative)).is_err());
    }
}
