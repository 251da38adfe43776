//! The device controller of v2: a BPF program. (On v1 libcontainer writes `devices.allow` and `devices.deny`; for v2 it
//! would need a C library.)
//!
//! The kernel runs the program on each access with a context of three words: access and type, major, minor; what it
//! returns says whether the access is allowed. See bpf(2), `BPF_PROG_TYPE_CGROUP_DEVICE`.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// Accesses to allow. `None`: any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeviceRule {
    pub kind: Option<DeviceKind>,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    /// Of [`MKNOD`](DeviceRule::MKNOD), [`READ`](DeviceRule::READ), [`WRITE`](DeviceRule::WRITE).
    pub access: u32,
}

/// Block or character device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceKind {
    Block,
    Character,
}

impl DeviceRule {
    /// May be made.
    pub const MKNOD: u32 = 1;
    /// May be read.
    pub const READ: u32 = 2;
    /// May be written.
    pub const WRITE: u32 = 4;
    /// All of these.
    pub const ALL: u32 = 7;
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high half.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const LOAD_WORD: u8 = 0x61;
const MOVE_IMMEDIATE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND_IMMEDIATE: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
const JUMP_UNLESS_SAME: u8 = 0x5d;
const EXIT: u8 = 0x95;

const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: destination | source << 4,
        offset,
        immediate,
    }
}

/// A program that allows what any rule allows, and nothing else.
fn compile(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(MOVE_REGISTER, ACCESS, KIND, 0, 0),
        instruction(AND_IMMEDIATE, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules {
        // Each test jumps over the rest of the rule, so the distances are known only at its end.
        let mut tests = Vec::new();
        if let Some(kind) = rule.kind {
            let number = match kind {
                DeviceKind::Block => 1,
                DeviceKind::Character => 2,
            };
            tests.push(instruction(JUMP_UNLESS_EQUAL, KIND, 0, 0, number));
        }
        if rule.access != DeviceRule::ALL {
            // The access is a subset of the rule's when masking it changes nothing.
            tests.push(instruction(MOVE_REGISTER, SCRATCH, ACCESS, 0, 0));
            tests.push(instruction(AND_IMMEDIATE, SCRATCH, 0, 0, rule.access as i32));
            tests.push(instruction(JUMP_UNLESS_SAME, SCRATCH, ACCESS, 0, 0));
        }
        if let Some(major) = rule.major {
            tests.push(instruction(JUMP_UNLESS_EQUAL, MAJOR, 0, 0, major as i32));
        }
        if let Some(minor) = rule.minor {
            tests.push(instruction(JUMP_UNLESS_EQUAL, MINOR, 0, 0, minor as i32));
        }
        let unconditional = tests.is_empty();
        let end = tests.len() + 2;
        for (index, test) in tests.iter_mut().enumerate() {
            if matches!(test.code, JUMP_UNLESS_EQUAL | JUMP_UNLESS_SAME) {
                test.offset = (end - index - 1) as i16;
            }
        }
        program.extend(tests);
        program.push(instruction(MOVE_IMMEDIATE, 0, 0, 0, 1));
        program.push(instruction(EXIT, 0, 0, 0, 0));
        if unconditional {
            // The kernel refuses instructions that are never reached.
            return program;
        }
    }
    program.push(instruction(MOVE_IMMEDIATE, 0, 0, 0, 0));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

#[repr(C)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    program_flags: u32,
}

#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    attach_type: u32,
    attach_flags: u32,
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// Lets the processes of a v2 group (at `dir`) access these devices only. It ends with the group.
pub(crate) fn restrict_devices(dir: &Path, rules: &[DeviceRule]) -> io::Result<()> {
    let group = File::open(dir)?;
    let program = compile(rules);
    let load = LoadAttributes {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        program_flags: 0,
    };
    // SAFETY: the attributes and what they point to live through the call, and their size is given.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &load, size_of::<LoadAttributes>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor.
    let loaded = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let attach = AttachAttributes {
        target: group.as_raw_fd() as u32,
        program: loaded.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: as above.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &attach, size_of::<AttachAttributes>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would.
    fn allows(program: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let context = [kind | access << 16, major, minor];
        let mut registers = [0u64; 11];
        let mut at = 0usize;
        loop {
            let Instruction {
                code,
                registers: operands,
                offset,
                immediate,
            } = program[at];
            let (destination, source) = ((operands & 15) as usize, (operands >> 4) as usize);
            at += 1;
            match code {
                LOAD_WORD => registers[destination] = context[offset as usize / 4] as u64,
                MOVE_IMMEDIATE => registers[destination] = immediate as u64,
                MOVE_REGISTER => registers[destination] = registers[source],
                AND_IMMEDIATE => registers[destination] &= immediate as u64,
                SHIFT_RIGHT => registers[destination] >>= immediate,
                JUMP_UNLESS_EQUAL if registers[destination] != immediate as u64 => at += offset as usize,
                JUMP_UNLESS_SAME if registers[destination] != registers[source] => at += offset as usize,
                JUMP_UNLESS_EQUAL | JUMP_UNLESS_SAME => {}
                EXIT => return registers[0] != 0,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn programs_allow_what_the_rules_allow() {
        let null = DeviceRule {
            kind: Some(DeviceKind::Character),
            major: Some(1),
            minor: Some(3),
            access: DeviceRule::READ | DeviceRule::WRITE,
        };
        let any_mknod = DeviceRule {
            kind: Some(DeviceKind::Block),
            major: None,
            minor: None,
            access: DeviceRule::MKNOD,
        };
        let program = compile(&[null, any_mknod]);
        assert!(allows(&program, 2, DeviceRule::READ, 1, 3));
        assert!(allows(&program, 2, DeviceRule::READ | DeviceRule::WRITE, 1, 3));
        assert!(!allows(&program, 2, DeviceRule::MKNOD, 1, 3));
        assert!(!allows(&program, 2, DeviceRule::READ, 1, 4));
        assert!(!allows(&program, 1, DeviceRule::READ, 1, 3));
        assert!(allows(&program, 1, DeviceRule::MKNOD, 8, 0));
        assert!(!allows(&program, 1, DeviceRule::MKNOD | DeviceRule::READ, 8, 0));
        assert!(!allows(&compile(&[]), 2, DeviceRule::READ, 1, 3));
        let all = DeviceRule {
            kind: None,
            major: None,
            minor: None,
            access: DeviceRule::ALL,
        };
        assert!(allows(&compile(&[all]), 1, DeviceRule::ALL, 8, 0));
    }
}
