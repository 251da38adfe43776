//! A machine that only notes what it is asked for.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use node::machine::{Facts, Filesystem, Load, Machine};
use parking_lot::Mutex;

#[derive(Default)]
pub struct FakeMachine {
    pub mounts: Mutex<Vec<PathBuf>>,
    /// Memory is short.
    pub short: AtomicBool,
    /// The disk is nearly full.
    pub full: AtomicBool,
}

impl Machine for FakeMachine {
    fn facts(&self) -> Facts {
        Facts {
            cpus: 4,
            memory_bytes: 8 << 30,
            architecture: "amd64".into(),
            boot_id: "b".into(),
            ..Facts::default()
        }
    }

    fn load(&self) -> Load {
        Load {
            memory_available: if self.short.load(Ordering::Relaxed) {
                50 << 20
            } else {
                4 << 30
            },
            memory_working_set: 4 << 30,
            cpu_nanos: 7,
            pids: 100,
            max_pids: 32768,
        }
    }

    fn filesystem(&self, _: &Path) -> io::Result<Filesystem> {
        Ok(Filesystem {
            capacity: 100 << 30,
            available: if self.full.load(Ordering::Relaxed) {
                5 << 30
            } else {
                50 << 30
            },
            inodes: 1000,
            inodes_free: 900,
        })
    }

    fn mount_tmpfs(&self, target: &Path, _: Option<u64>) -> io::Result<()> {
        self.mounts.lock().push(target.to_path_buf());
        Ok(())
    }

    fn bind(&self, _: &Path, target: &Path) -> io::Result<()> {
        self.mounts.lock().push(target.to_path_buf());
        Ok(())
    }

    fn unmount(&self, target: &Path) -> io::Result<()> {
        self.mounts.lock().retain(|mount| mount != target);
        Ok(())
    }

    fn mounts_below(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self
            .mounts
            .lock()
            .iter()
            .filter(|m| m.starts_with(folder) && *m != folder)
            .cloned()
            .collect())
    }

    fn chown(&self, _: &Path, _: Option<u32>, _: Option<u32>) -> io::Result<()> {
        Ok(())
    }
}
