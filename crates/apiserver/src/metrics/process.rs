//! What the kernel says of this process, under the names every Prometheus client has for it.

use std::fs;

/// Appends the `process_*` metrics; what cannot be read is left out.
pub(super) fn write(out: &mut String, started_at: f64) {
    let mut put = |name: &str, kind: &str, help: &str, value: f64| {
        out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"));
    };
    put(
        "process_start_time_seconds",
        "gauge",
        "Start time of the process since unix epoch in seconds.",
        started_at,
    );
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok());
    if let (Some(user), Some(system), Some(virtual_bytes)) = (number(11), number(12), number(20)) {
        // USER_HZ is 100 on every architecture that Linux shows to programs.
        let cpu = (user + system) / 100.0;
        put(
            "process_cpu_seconds_total",
            "counter",
            "Total user and system CPU time spent in seconds.",
            cpu,
        );
        put(
            "process_virtual_memory_bytes",
            "gauge",
            "Virtual memory size in bytes.",
            virtual_bytes,
        );
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    if let Some(kib) = resident.and_then(|rest| rest.trim().split(' ').next()?.parse::<f64>().ok()) {
        put(
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory size in bytes.",
            kib * 1024.0,
        );
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        put(
            "process_open_fds",
            "gauge",
            "Number of open file descriptors.",
            open.count() as f64,
        );
    }
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    if let Some(most) = files.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok()) {
        put(
            "process_max_fds",
            "gauge",
            "Maximum number of open file descriptors.",
            most,
        );
    }
}
