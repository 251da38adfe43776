//! A container's OCI configuration.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::ShimError;
use super::capabilities::CapabilitySet;
use super::rootfs::Staged;
use super::user::User;
use crate::cgroup::{DeviceKind, DeviceRule};
use crate::records::{ContainerDir, ContainerRecord, SandboxDir, SandboxRecord};
use crate::{Device, Mount, NamespaceMode, default_masked_paths, default_readonly_paths};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything that the configuration is made of.
pub(super) struct SpecInput<'a> {
    pub sandbox: &'a SandboxRecord,
    pub sandbox_dir: &'a SandboxDir,
    pub container: &'a ContainerRecord,
    pub container_dir: &'a ContainerDir,
    pub user: &'a User,
    pub staged: &'a Staged,
    /// The pod's PID namespace, if there is one.
    pub pid_namespace: Option<PathBuf>,
    pub oom_score_adj: i64,
}

/// The configuration and what libcontainer does not do with it.
pub(super) struct Spec {
    pub json: Value,
    /// For the v2 device controller.
    pub device_rules: Vec<DeviceRule>,
}

impl SpecInput<'_> {
    pub fn build(&self) -> Result<Spec, ShimError> {
        let config = &self.container.config;
        let security = &config.security_context;
        let devices = self.devices()?;
        let masked = if security.privileged {
            None
        } else {
            security.masked_paths.clone()
        };
        let readonly = if security.privileged {
            None
        } else {
            security.readonly_paths.clone()
        };
        let default_paths = |paths: fn() -> Vec<String>| if security.privileged { Vec::new() } else { paths() };
        // Mounts that propagate to the machine must not be cut off from it.
        let bidirectional = config
            .mounts
            .iter()
            .any(|mount| mount.propagation == crate::MountPropagation::Bidirectional);
        let mut linux = json!({
            "namespaces": self.namespaces(),
            "cgroupsPath": self.container.cgroup,
            "resources": { "devices": device_cgroup(&devices, security.privileged) },
            "devices": devices.iter().map(HostDevice::to_json).collect::<Vec<_>>(),
            "maskedPaths": masked.unwrap_or_else(|| default_paths(default_masked_paths)),
            "readonlyPaths": readonly.unwrap_or_else(|| default_paths(default_readonly_paths)),
        });
        if bidirectional {
            linux["rootfsPropagation"] = json!("shared");
        }
        let json = json!({
            "ociVersion": "1.0.2",
            "process": self.process()?,
            "root": { "path": self.container_dir.rootfs(), "readonly": security.readonly_rootfs },
            "mounts": self.mounts(),
            "linux": linux,
        });
        Ok(Spec {
            json,
            device_rules: device_rules(&devices, security.privileged),
        })
    }

    fn namespaces(&self) -> Value {
        // Network, IPC and UTS are those of the shim.
        let mut namespaces = vec![json!({ "type": "mount" }), json!({ "type": "cgroup" })];
        match self.container.config.security_context.pid {
            NamespaceMode::Node => {}
            NamespaceMode::Pod if self.pid_namespace.is_some() => {
                namespaces.push(json!({ "type": "pid", "path": self.pid_namespace }));
            }
            NamespaceMode::Pod | NamespaceMode::Container => namespaces.push(json!({ "type": "pid" })),
        }
        Value::Array(namespaces)
    }

    fn process(&self) -> Result<Value, ShimError> {
        let config = &self.container.config;
        let args = arguments(&config.command, &config.args, self.container);
        if args.is_empty() {
            return Err(ShimError {
                message: "no command specified: neither the container nor its image has one".into(),
            });
        }
        // The last steps of the new process need all that we have; they leave it what it shall have.
        let capabilities = CapabilitySet::of_this_process().names();
        let mut process = json!({
            "terminal": config.tty,
            "user": {
                "uid": self.user.uid,
                "gid": self.user.gid,
                "additionalGids": self.user.groups,
                "umask": 0o022,
            },
            "args": args,
            "env": self.environment(),
            "cwd": working_dir(self.container),
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
                "inheritable": [],
                "ambient": [],
            },
            "oomScoreAdj": self.oom_score_adj,
        });
        if config.security_context.no_new_privs {
            process["noNewPrivileges"] = json!(true);
        }
        Ok(process)
    }

    fn environment(&self) -> Vec<String> {
        let config = &self.container.config;
        let mut environment: Vec<(String, String)> = vec![("PATH".to_owned(), DEFAULT_PATH.to_owned())];
        let mut set = |key: &str, value: &str| match environment.iter_mut().find(|(name, _)| name == key) {
            Some(entry) => entry.1 = value.to_owned(),
            None => environment.push((key.to_owned(), value.to_owned())),
        };
        if self.sandbox.config.security_context.namespace_options.network != NamespaceMode::Node {
            set("HOSTNAME", &self.sandbox.config.hostname);
        }
        set("HOME", &self.user.home);
        if config.tty {
            set("TERM", "xterm");
        }
        for entry in &self.container.image_config.env {
            let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
            set(key, value);
        }
        for entry in &config.envs {
            set(&entry.key, &entry.value);
        }
        environment
            .into_iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect()
    }

    fn mounts(&self) -> Vec<Value> {
        let config = &self.container.config;
        let given = |path: &str| config.mounts.iter().any(|mount| clean(&mount.container_path) == path);
        let privileged = config.security_context.privileged;
        let writable = if privileged { "rw" } else { "ro" };
        let mut mounts: Vec<Value> = [
            ("/proc", "proc", "proc", vec!["nosuid", "noexec", "nodev"]),
            ("/dev", "tmpfs", "tmpfs", vec!["nosuid", "strictatime", "mode=755", "size=65536k"]),
            (
                "/dev/pts",
                "devpts",
                "devpts",
                vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            ),
            ("/dev/mqueue", "mqueue", "mqueue", vec!["nosuid", "noexec", "nodev"]),
            ("/sys", "sysfs", "sysfs", vec!["nosuid", "noexec", "nodev", writable]),
            ("/sys/fs/cgroup", "cgroup", "cgroup", vec!["nosuid", "noexec", "nodev", "relatime", writable]),
        ]
        .into_iter()
        .filter(|(destination, ..)| !given(destination))
        .map(|(destination, kind, source, options)| {
            json!({ "destination": destination, "type": kind, "source": source, "options": options })
        })
        .collect();
        let bind = |destination: &str, source: &Path, access: &str| json!({ "destination": destination, "type": "bind", "source": source, "options": ["rbind", access] });
        if !given("/dev/shm") {
            let source = self.staged.shm.as_deref().unwrap_or(Path::new("/dev/shm"));
            mounts.push(bind("/dev/shm", source, "rw"));
        }
        let access = if config.security_context.readonly_rootfs {
            "ro"
        } else {
            "rw"
        };
        for (destination, source) in [
            ("/etc/resolv.conf", self.sandbox_dir.resolv_conf()),
            ("/etc/hostname", self.sandbox_dir.hostname()),
        ] {
            if !given(destination) && source.exists() {
                mounts.push(bind(destination, &source, access));
            }
        }
        let mut wanted: Vec<(usize, &Mount)> = config.mounts.iter().enumerate().collect();
        // Parents first, otherwise in the order given.
        wanted.sort_by_key(|(_, mount)| clean(&mount.container_path).matches('/').count());
        for (index, mount) in wanted {
            let source = self.staged.mounts.get(&index).unwrap_or(&mount.host_path);
            mounts.push(bind(
                &clean(&mount.container_path),
                source,
                if mount.readonly { "ro" } else { "rw" },
            ));
        }
        mounts
    }

    fn devices(&self) -> Result<Vec<HostDevice>, ShimError> {
        let config = &self.container.config;
        let mut devices = Vec::new();
        if config.security_context.privileged {
            all_devices(Path::new("/dev"), &mut devices);
        }
        for device in &config.devices {
            let found = HostDevice::read(device).map_err(|error| ShimError {
                message: format!("device {}: {error}", device.host_path.display()),
            })?;
            devices.retain(|known: &HostDevice| known.path != found.path);
            devices.push(found);
        }
        Ok(devices)
    }
}

/// What the container runs: see the Pod API's table of `command` and `args` against the image's.
fn arguments(command: &[String], args: &[String], container: &ContainerRecord) -> Vec<String> {
    let image = &container.image_config;
    let entrypoint = if command.is_empty() { &image.entrypoint } else { command };
    let arguments = if args.is_empty() && command.is_empty() {
        &image.cmd
    } else {
        args
    };
    entrypoint.iter().chain(arguments).cloned().collect()
}

/// Where the container's process starts.
pub(super) fn working_dir(container: &ContainerRecord) -> &str {
    [&container.config.working_dir, &container.image_config.working_dir]
        .into_iter()
        .find(|dir| !dir.is_empty())
        .map_or("/", String::as_str)
}

fn clean(path: &str) -> String {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    format!("/{}", parts.join("/"))
}

struct HostDevice {
    path: String,
    kind: DeviceKind,
    major: u32,
    minor: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    access: String,
}

impl HostDevice {
    fn read(device: &Device) -> std::io::Result<HostDevice> {
        let metadata = fs::metadata(&device.host_path)?;
        let kind = if metadata.file_type().is_block_device() {
            DeviceKind::Block
        } else if metadata.file_type().is_char_device() {
            DeviceKind::Character
        } else {
            return Err(std::io::Error::other("not a device"));
        };
        let access = if device.permissions.is_empty() {
            "rwm"
        } else {
            &device.permissions
        };
        Ok(HostDevice {
            path: clean(&device.container_path),
            kind,
            major: libc::major(metadata.rdev()),
            minor: libc::minor(metadata.rdev()),
            mode: metadata.mode() & 0o777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            access: access.to_owned(),
        })
    }

    fn letter(&self) -> &'static str {
        match self.kind {
            DeviceKind::Block => "b",
            DeviceKind::Character => "c",
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "path": self.path,
            "type": self.letter(),
            "major": self.major,
            "minor": self.minor,
            "fileMode": self.mode,
            "uid": self.uid,
            "gid": self.gid,
        })
    }
}

/// The machine's devices, without terminals and other folders that containers have of their own.
fn all_devices(dir: &Path, found: &mut Vec<HostDevice>) {
    const LEFT_OUT: [&str; 8] = ["pts", "shm", "fd", "mqueue", "console", "ptmx", ".lxc", ".udev"];
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Ok(kind) = entry.file_type() else { continue };
        if LEFT_OUT.iter().any(|left_out| name == *left_out) {
            continue;
        }
        if kind.is_dir() {
            all_devices(&path, found);
        } else if kind.is_block_device() || kind.is_char_device() {
            let Some(inside) = path.to_str().map(str::to_owned) else {
                continue;
            };
            let device = Device {
                container_path: inside,
                host_path: path,
                permissions: "rwm".to_owned(),
            };
            found.extend(HostDevice::read(&device).ok());
        }
    }
}

/// For v1: deny all, then allow. libcontainer adds the default devices.
fn device_cgroup(devices: &[HostDevice], privileged: bool) -> Value {
    if privileged {
        return json!([{ "allow": true, "access": "rwm" }]);
    }
    let mut rules = vec![json!({ "allow": false, "access": "rwm" })];
    rules.extend(devices.iter().map(|device| {
        json!({
            "allow": true,
            "type": device.letter(),
            "major": device.major,
            "minor": device.minor,
            "access": device.access,
        })
    }));
    Value::Array(rules)
}

/// The same for v2, with the default devices.
fn device_rules(devices: &[HostDevice], privileged: bool) -> Vec<DeviceRule> {
    let rule = |kind, major, minor, access| DeviceRule {
        kind,
        major,
        minor,
        access,
    };
    if privileged {
        return vec![rule(None, None, None, DeviceRule::ALL)];
    }
    let character = Some(DeviceKind::Character);
    let mut rules = vec![
        // Making a node is harmless where opening it is not allowed.
        rule(character, None, None, DeviceRule::MKNOD),
        rule(Some(DeviceKind::Block), None, None, DeviceRule::MKNOD),
        rule(character, Some(5), Some(1), DeviceRule::ALL),
        rule(character, Some(136), None, DeviceRule::ALL),
        rule(character, Some(5), Some(2), DeviceRule::ALL),
        rule(character, Some(5), Some(0), DeviceRule::ALL),
        rule(character, Some(10), Some(200), DeviceRule::ALL),
    ];
    // null, zero, full, random, urandom
    rules.extend([3, 5, 7, 8, 9].map(|minor| rule(character, Some(1), Some(minor), DeviceRule::ALL)));
    rules.extend(devices.iter().map(|device| {
        let bits = [
            ('r', DeviceRule::READ),
            ('w', DeviceRule::WRITE),
            ('m', DeviceRule::MKNOD),
        ];
        let access = bits
            .iter()
            .filter(|(letter, _)| device.access.contains(*letter))
            .map(|(_, bit)| bit)
            .sum();
        rule(Some(device.kind), Some(device.major), Some(device.minor), access)
    }));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        assert_eq!(clean("/dev//shm/"), "/dev/shm");
        assert_eq!(clean("etc/./hosts"), "/etc/hosts");
    }
}
