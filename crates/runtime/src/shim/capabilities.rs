//! Capabilities as bit sets.

use std::io;

use crate::Capabilities;

/// By number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What containers have unless told otherwise.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// A set of capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CapabilitySet(u64);

/// A name that is no capability's.
#[derive(Debug, thiserror::Error)]
#[error("unknown capability \"{0}\"")]
pub(super) struct UnknownCapability(String);

fn bit(name: &str) -> Result<u64, UnknownCapability> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES
        .iter()
        .position(|candidate| *candidate == short)
        .map(|number| 1 << number)
        .ok_or_else(|| UnknownCapability(name.to_owned()))
}

fn is_all(name: &str) -> bool {
    name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL")
}

impl CapabilitySet {
    const ALL: CapabilitySet = CapabilitySet((1 << NAMES.len()) - 1);

    /// What this process could give at most.
    pub fn of_this_process() -> CapabilitySet {
        let bits = (0..NAMES.len() as u64).filter(|number| {
            // SAFETY: the call takes and gives numbers only.
            unsafe { libc::prctl(libc::PR_CAPBSET_READ, *number, 0, 0, 0) == 1 }
        });
        CapabilitySet(bits.map(|number| 1 << number).sum())
    }

    /// What a container is to have. See containerd's `WithCapabilities` for how `ALL` and names mix.
    pub fn wanted(privileged: bool, changes: &Capabilities) -> Result<CapabilitySet, UnknownCapability> {
        let mut bits = if privileged {
            CapabilitySet::ALL.0
        } else {
            DEFAULT
                .iter()
                .map(|name| bit(name).expect("the defaults are known"))
                .sum()
        };
        if changes.add.iter().any(|name| is_all(name)) {
            bits = CapabilitySet::ALL.0;
        }
        if changes.drop.iter().any(|name| is_all(name)) {
            bits = 0;
        }
        for name in changes.add.iter().filter(|name| !is_all(name)) {
            bits |= bit(name)?;
        }
        for name in changes.drop.iter().filter(|name| !is_all(name)) {
            bits &= !bit(name)?;
        }
        Ok(CapabilitySet(bits))
    }

    pub fn intersection(self, other: CapabilitySet) -> CapabilitySet {
        CapabilitySet(self.0 & other.0)
    }

    pub fn has(self, name: &str) -> bool {
        bit(name).is_ok_and(|bit| self.0 & bit != 0)
    }

    /// As the OCI's specification spells them.
    pub fn names(self) -> Vec<String> {
        NAMES
            .iter()
            .enumerate()
            .filter(|(number, _)| self.0 & 1 << number != 0)
            .map(|(_, name)| format!("CAP_{name}"))
            .collect()
    }

    /// Leaves this process these capabilities and no others, for ever. Needs `SETPCAP`.
    pub fn confine_this_process(self) -> io::Result<()> {
        #[repr(C)]
        struct Header {
            version: u32,
            pid: i32,
        }
        #[repr(C)]
        #[derive(Clone, Copy)]
        struct Data {
            effective: u32,
            permitted: u32,
            inheritable: u32,
        }
        const VERSION_3: u32 = 0x2008_0522;
        for number in 0..NAMES.len() as u64 {
            // SAFETY: the calls take and give numbers only.
            let kept_out = unsafe {
                self.0 & 1 << number == 0
                    && libc::prctl(libc::PR_CAPBSET_READ, number, 0, 0, 0) == 1
                    && libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) != 0
            };
            if kept_out {
                return Err(io::Error::last_os_error());
            }
        }
        // SAFETY: as above. A kernel without ambient capabilities has none to clear.
        unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
        let half = |shift: u32| {
            let bits = (self.0 >> shift) as u32;
            Data {
                effective: bits,
                permitted: bits,
                inheritable: 0,
            }
        };
        let header = Header {
            version: VERSION_3,
            pid: 0,
        };
        let data = [half(0), half(32)];
        // SAFETY: version 3 reads two data structs; both live through the call.
        match unsafe { libc::syscall(libc::SYS_capset, &header, data.as_ptr()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(privileged: bool, add: &[&str], drop: &[&str]) -> Vec<String> {
        let changes = Capabilities {
            add: add.iter().map(|name| name.to_string()).collect(),
            drop: drop.iter().map(|name| name.to_string()).collect(),
        };
        CapabilitySet::wanted(privileged, &changes).unwrap().names()
    }

    #[test]
    fn all_and_names_mix_as_upstream() {
        assert_eq!(names(false, &[], &[]).len(), 14);
        assert_eq!(names(false, &[], &["ALL"]), [""; 0]);
        assert_eq!(names(false, &["net_bind_service"], &["all"]), ["CAP_NET_BIND_SERVICE"]);
        assert_eq!(names(false, &["ALL"], &["CAP_SYS_ADMIN"]).len(), 40);
        assert_eq!(names(true, &[], &[]).len(), 41);
        assert!(
            CapabilitySet::wanted(
                false,
                &Capabilities {
                    add: vec!["NO_SUCH".into()],
                    drop: vec![]
                }
            )
            .is_err()
        );
    }
}
