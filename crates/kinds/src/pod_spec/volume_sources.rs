//! Volume types that pods and PersistentVolumes share: what each requires.

use api::field::{Error, Path};
use api::{Value, validate};

use super::volumes::no_backsteps;
use crate::{checks, tree};

/// Whose volume it is: secrets of persistent ones name their namespaces too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Owner<'a> {
    /// A pod's.
    Pod,
    /// That of a PersistentVolume of this name.
    Persistent(&'a str),
}

const HOST_PATH_TYPES: &[&str] = &[
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// Types of which no more is asked than fields that are set.
const PLAIN: &[(&str, &[&str])] = &[
    ("rbd", &["monitors", "image"]),
    ("cephfs", &["monitors"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("azureFile", &["secretName", "shareName"]),
    ("cinder", &["volumeID"]),
    ("glusterfs", &["endpoints", "path"]),
    ("nfs", &["server", "path"]),
];

/// Every error of one source; `path` is the source's.
pub fn details(kind: &str, source: &Value, owner: Owner<'_>, path: &Path) -> Vec<Error> {
    let plain = PLAIN.iter().find(|(name, _)| *name == kind);
    let mut errors = plain.map_or(Vec::new(), |(_, fields)| required(source, fields, path));
    errors.extend(match kind {
        "hostPath" => host_path(source, path),
        "local" => match tree::text(source, "path") {
            "" => required(source, &["path"], path),
            file => no_backsteps(file, &path.child("path")),
        },
        "gcePersistentDisk" => disk(source, "pdName", &persistent_disk(path)),
        "awsElasticBlockStore" => disk(source, "volumeID", path),
        "nfs" if !tree::text(source, "path").starts_with('/') => {
            let file = tree::text(source, "path");
            vec![Error::invalid(&path.child("path"), file, "must be an absolute path")]
        }
        "iscsi" => iscsi(source, owner, path),
        "fc" => fibre_channel(source, path),
        "flocker" => flocker(source, path),
        "quobyte" => quobyte(source, path),
        "flexVolume" => flex(source, path),
        "azureDisk" => azure_disk(source, path),
        "storageos" => storage_os(source, owner, path),
        "cinder" => secret_reference(source, owner, path),
        "csi" => csi(source, owner, path),
        "glusterfs" => endpoints_namespace(source, path),
        "azureFile" if owner != Owner::Pod && tree::text_opt(source, "secretNamespace") == Some("") => {
            vec![Error::required(&path.child("secretNamespace"), "")]
        }
        _ => Vec::new(),
    });
    errors
}

fn required(source: &Value, fields: &[&str], path: &Path) -> Vec<Error> {
    let missing = fields.iter().filter(|field| !tree::is_set(source.get(**field)));
    missing.map(|field| Error::required(&path.child(field), "")).collect()
}

fn host_path(source: &Value, path: &Path) -> Vec<Error> {
    let file = tree::text(source, "path");
    if file.is_empty() {
        return required(source, &["path"], path);
    }
    let mut errors = no_backsteps(file, &path.child("path"));
    let kind = tree::text_opt(source, "type");
    errors.extend(checks::optional_one_of(kind, HOST_PATH_TYPES, &path.child("type")));
    errors
}

/// Upstream's path of a `gcePersistentDisk` does not end in the field's name.
fn persistent_disk(path: &Path) -> Path {
    let parent = path.as_str().trim_end_matches("gcePersistentDisk");
    Path::new(&format!("{parent}persistentDisk"))
}

fn disk(source: &Value, id: &str, path: &Path) -> Vec<Error> {
    let mut errors = required(source, &[id], path);
    let partition = tree::count(source, "partition");
    if !(0..=255).contains(&partition) {
        let detail = validate::inclusive_range_error(1, 255);
        errors.push(Error::invalid(&path.child("partition"), partition, detail));
    }
    errors
}

/// The names of iSCSI's ends: `iqn.…`, `eui.…` or `naa.…`.
fn is_iscsi_name(name: &str) -> bool {
    let alphanumeric = |text: &str, length: usize| {
        text.chars().count() == length + 1 && text.chars().skip(1).all(|c| c.is_ascii_alphanumeric())
    };
    if let Some(rest) = name.strip_prefix("eui") {
        return alphanumeric(rest, 16);
    }
    if let Some(rest) = name.strip_prefix("naa") {
        return alphanumeric(rest, 32);
    }
    let Some(rest) = name.strip_prefix("iqn.") else {
        return false;
    };
    let bytes = rest.as_bytes();
    let date = bytes.len() > 8
        && bytes[..8].iter().enumerate().all(|(index, byte)| match index {
            4 => *byte == b'-',
            7 => *byte == b'.',
            _ => byte.is_ascii_digit(),
        });
    let Some((authority, target)) = rest.get(8..).and_then(|rest| rest.split_once(':')) else {
        return false;
    };
    date && !authority.is_empty()
        && authority
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
        && !target.is_empty()
        && !target
            .chars()
            .any(|c| matches!(c, ',' | ';' | '*' | '&' | '$' | '|') || c.is_ascii_whitespace())
}

fn iscsi_name(name: &str, owner: Owner<'_>, path: &Path) -> Vec<Error> {
    let known = ["iqn", "eui", "naa"].iter().any(|prefix| name.starts_with(prefix));
    let detail = match (known, owner) {
        (false, Owner::Pod) => "must be valid format starting with iqn, eui, or naa",
        _ => "must be valid format",
    };
    if known && is_iscsi_name(name) {
        return Vec::new();
    }
    vec![Error::invalid(path, name, detail)]
}

/// The kernel's limit for a name that is made of the volume's and the portal's.
pub fn initiator_length(volume: &str, portal: &str, shown: &str, path: &Path) -> Vec<Error> {
    if volume.len() + 1 + portal.len() <= 64 {
        return Vec::new();
    }
    let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
    vec![Error::invalid(path, shown, detail)]
}

fn iscsi(source: &Value, owner: Owner<'_>, path: &Path) -> Vec<Error> {
    let portal = tree::text(source, "targetPortal");
    let mut errors = required(source, &["targetPortal"], path);
    let initiator = tree::text_opt(source, "initiatorName");
    if let (Owner::Persistent(name), Some(_)) = (owner, initiator) {
        errors.extend(initiator_length(name, portal, portal, &path.child("targetportal")));
    }
    match tree::text(source, "iqn") {
        "" => errors.push(Error::required(&path.child("iqn"), "")),
        name => errors.extend(iscsi_name(name, owner, &path.child("iqn"))),
    }
    errors.extend(lun(source, path));
    let secret = tree::at(source, "secretRef");
    if secret.is_none() && (tree::flag(source, "chapAuthDiscovery") || tree::flag(source, "chapAuthSession")) {
        errors.push(Error::required(&path.child("secretRef"), ""));
    }
    if let (Owner::Persistent(_), Some(secret)) = (owner, secret) {
        errors.extend(required(secret, &["name"], &path.child("secretRef")));
    }
    if let Some(name) = initiator {
        errors.extend(iscsi_name(name, owner, &path.child("initiatorname")));
    }
    errors
}

fn lun(source: &Value, path: &Path) -> Vec<Error> {
    let lun = tree::count(source, "lun");
    let messages = validate::in_range(lun, 0, 255).into_iter();
    messages
        .map(|text| Error::invalid(&path.child("lun"), lun, text))
        .collect()
}

fn fibre_channel(source: &Value, path: &Path) -> Vec<Error> {
    let names = tree::list(source, "targetWWNs");
    let path_of_names = path.child("targetWWNs");
    let mut errors = Vec::new();
    match (names.is_empty(), tree::list(source, "wwids").is_empty()) {
        (true, true) => {
            let detail = "must specify either targetWWNs or wwids, but not both";
            errors.push(Error::required(&path_of_names, detail));
        }
        (false, false) => {
            let detail = "targetWWNs and wwids can not be specified simultaneously";
            errors.push(Error::invalid(&path_of_names, names.to_vec(), detail));
        }
        _ => {}
    }
    if !names.is_empty() {
        if tree::at(source, "lun").is_none() {
            let detail = "lun is required if targetWWNs is specified";
            errors.push(Error::required(&path.child("lun"), detail));
        } else {
            errors.extend(lun(source, path));
        }
    }
    errors
}

fn flocker(source: &Value, path: &Path) -> Vec<Error> {
    let (name, id) = (tree::text(source, "datasetName"), tree::text(source, "datasetUUID"));
    let mut errors = Vec::new();
    match (name, id) {
        ("", "") => errors.push(Error::required(path, "one of datasetName and datasetUUID is required")),
        (name, id) if !name.is_empty() && !id.is_empty() => {
            let detail = "datasetName and datasetUUID can not be specified simultaneously";
            errors.push(Error::invalid(path, "resource", detail));
        }
        _ => {}
    }
    if name.contains('/') {
        errors.push(Error::invalid(&path.child("datasetName"), name, "must not contain '/'"));
    }
    errors
}

fn quobyte(source: &Value, path: &Path) -> Vec<Error> {
    let registry = tree::text(source, "registry");
    let detail = "must be a host:port pair or multiple pairs separated by commas";
    let mut errors = Vec::new();
    if registry.is_empty() {
        errors.push(Error::required(&path.child("registry"), detail));
    } else if tree::text(source, "tenant").len() >= 65 {
        let detail = "must be a UUID and may not exceed a length of 64 characters";
        errors.push(Error::required(&path.child("tenant"), detail));
    } else {
        let is_pair = |pair: &str| match pair.strip_prefix('[') {
            Some(rest) => rest
                .split_once("]:")
                .is_some_and(|(_, port)| !port.contains([':', '[', ']'])),
            None => pair.matches(':').count() == 1,
        };
        let bad = registry.split(',').filter(|pair| !is_pair(pair));
        errors.extend(bad.map(|_| Error::invalid(&path.child("registry"), registry, detail)));
    }
    errors.extend(required(source, &["volume"], path));
    errors
}

fn flex(source: &Value, path: &Path) -> Vec<Error> {
    let mut errors = required(source, &["driver"], path);
    for (key, _) in tree::entries(source, "options") {
        let domain = key.split_once('/').map_or(key, |(domain, _)| domain);
        let domain = format!(".{}", domain.to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            errors.push(Error::invalid(&path.child("options").key(key), key, detail));
        }
    }
    errors
}

fn azure_disk(source: &Value, path: &Path) -> Vec<Error> {
    const MANAGED: &str =
        "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
    const BLOB: &str = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
    let mut errors = required(source, &["diskName", "diskURI"], path);
    let (caching, kind) = (tree::text_opt(source, "cachingMode"), tree::text_opt(source, "kind"));
    let known = &["None", "ReadOnly", "ReadWrite"];
    errors.extend(checks::optional_one_of(caching, known, &path.child("cachingMode")));
    let known = &["Dedicated", "Managed", "Shared"];
    errors.extend(checks::optional_one_of(kind, known, &path.child("kind")));
    let uri = tree::text(source, "diskURI");
    let (prefix, form) = match kind {
        None => return errors,
        Some("Managed") => ("/subscriptions/", MANAGED),
        Some(_) => ("https://", BLOB),
    };
    if !uri.starts_with(prefix) {
        errors.push(Error::not_supported(&path.child("diskURI"), uri, &[form]));
    }
    errors
}

fn secret_reference(source: &Value, owner: Owner<'_>, path: &Path) -> Vec<Error> {
    let Some(secret) = tree::at(source, "secretRef") else {
        return Vec::new();
    };
    let fields: &[&str] = match owner {
        Owner::Pod => &["name"],
        Owner::Persistent(_) => &["name", "namespace"],
    };
    required(secret, fields, &path.child("secretRef"))
}

fn storage_os(source: &Value, owner: Owner<'_>, path: &Path) -> Vec<Error> {
    let mut errors = match tree::text(source, "volumeName") {
        "" => required(source, &["volumeName"], path),
        name => checks::dns_label(name, &path.child("volumeName")),
    };
    let namespace = tree::text(source, "volumeNamespace");
    if !namespace.is_empty() {
        errors.extend(checks::dns_label(namespace, &path.child("volumeNamespace")));
    }
    errors.extend(secret_reference(source, owner, path));
    errors
}

fn endpoints_namespace(source: &Value, path: &Path) -> Vec<Error> {
    let path = path.child("endpointsNamespace");
    match tree::text_opt(source, "endpointsNamespace") {
        None => Vec::new(),
        Some("") => {
            let detail = "if the endpointnamespace is set, it must be a valid namespace name";
            vec![Error::invalid(&path, "", detail)]
        }
        Some(name) => checks::dns_label(name, &path),
    }
}

fn csi(source: &Value, owner: Owner<'_>, path: &Path) -> Vec<Error> {
    let mut errors = csi_driver(tree::text(source, "driver"), &path.child("driver"));
    if owner == Owner::Pod {
        if let Some(secret) = tree::at(source, "nodePublishSecretRef") {
            match tree::text(secret, "name") {
                "" => errors.push(Error::required(&path.child("nodePublishSecretRef").child("name"), "")),
                name => errors.extend(checks::dns_subdomain(name, &path.child("name"))),
            }
        }
        return errors;
    }
    errors.extend(required(source, &["volumeHandle"], path));
    for field in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        let Some(secret) = tree::at(source, field) else {
            continue;
        };
        let path = path.child(field);
        match tree::text(secret, "name") {
            "" => errors.push(Error::required(&path.child("name"), "")),
            name => errors.extend(checks::dns_subdomain(name, &path.child("name"))),
        }
        match tree::text(secret, "namespace") {
            "" => errors.push(Error::required(&path.child("namespace"), "")),
            name => errors.extend(checks::dns_label(name, &path.child("namespace"))),
        }
    }
    errors
}

/// The name of a CSI driver: at most 63 bytes, a subdomain in any case.
pub fn csi_driver(name: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if name.is_empty() {
        errors.push(Error::required(path, ""));
    }
    if name.len() > 63 {
        errors.push(Error::too_long(path, 63));
    }
    let messages = validate::dns1123_subdomain(&name.to_lowercase());
    errors.extend(checks::invalid_each(path, name, messages));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(kind: &str, source: Value, owner: Owner<'_>, want: &[&str]) {
        let errors = details(kind, &source, owner, &Path::new("v").child(kind));
        let got: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(got, want, "{kind} {source}");
    }

    #[test]
    fn faults_of_every_type() {
        let format = "must be valid format";
        check(
            "hostPath",
            json!({"path": ""}),
            Owner::Pod,
            &["v.hostPath.path: Required value"],
        );
        check(
            "hostPath",
            json!({"path": "/a/..", "type": "X"}),
            Owner::Pod,
            &[
                r#"v.hostPath.path: Invalid value: "/a/..": must not contain '..'"#,
                r#"v.hostPath.type: Unsupported value: "X": supported values: "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket""#,
            ],
        );
        check(
            "gcePersistentDisk",
            json!({"partition": 256}),
            Owner::Pod,
            &[
                "v.persistentDisk.pdName: Required value",
                "v.persistentDisk.partition: Invalid value: 256: must be between 1 and 255, inclusive",
            ],
        );
        check(
            "nfs",
            json!({"server": "s", "path": "a"}),
            Owner::Pod,
            &[r#"v.nfs.path: Invalid value: "a": must be an absolute path"#],
        );
        let good = json!({"targetPortal": "p", "iqn": "iqn.2015-02.example.com:init", "lun": 0});
        check("iscsi", good, Owner::Pod, &[]);
        check(
            "iscsi",
            json!({"targetPortal": "p", "iqn": "x", "initiatorName": "eui.1", "chapAuthSession": true}),
            Owner::Persistent("pv"),
            &[
                &format!(r#"v.iscsi.iqn: Invalid value: "x": {format}"#),
                "v.iscsi.secretRef: Required value",
                &format!(r#"v.iscsi.initiatorname: Invalid value: "eui.1": {format}"#),
            ],
        );
        check(
            "fc",
            json!({"targetWWNs": ["a"]}),
            Owner::Pod,
            &["v.fc.lun: Required value: lun is required if targetWWNs is specified"],
        );
        check(
            "flexVolume",
            json!({"driver": "d", "options": {"a.k8s.io/x": ""}}),
            Owner::Pod,
            &[
                r#"v.flexVolume.options[a.k8s.io/x]: Invalid value: "a.k8s.io/x": kubernetes.io and k8s.io namespaces are reserved"#,
            ],
        );
        check(
            "azureDisk",
            json!({"diskName": "d", "diskURI": "x", "kind": "Managed"}),
            Owner::Pod,
            &[
                r#"v.azureDisk.diskURI: Unsupported value: "x": supported values: "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}""#,
            ],
        );
        check(
            "quobyte",
            json!({"registry": "a:1,b", "volume": "v"}),
            Owner::Pod,
            &[
                r#"v.quobyte.registry: Invalid value: "a:1,b": must be a host:port pair or multiple pairs separated by commas"#,
            ],
        );
        check(
            "csi",
            json!({"driver": "d", "nodeExpandSecretRef": {"name": "s"}}),
            Owner::Persistent("pv"),
            &[
                "v.csi.volumeHandle: Required value",
                "v.csi.nodeExpandSecretRef.namespace: Required value",
            ],
        );
    }
}
