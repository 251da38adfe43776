//! Names outside the cluster, which the machine's resolver knows.

use std::net::UdpSocket;

use crate::cluster::{Cluster, contains, file, must_contain, until};

/// Of the test's own resolver; what listens on every address does not take this one's port.
const RESOLVER: &str = "127.7.7.7";
const ANSWER: [u8; 4] = [192, 0, 2, 77];

/// Starts a resolver that knows one name, and makes the file that names it.
pub fn serve(cluster: &mut Cluster) {
    let socket = UdpSocket::bind((RESOLVER, 53)).expect("listen on port 53 of a loopback address");
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            if let Some(answer) = answer(&packet[..length]) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
    let text = format!("search example\nnameserver {RESOLVER}\n");
    cluster.resolv_conf = Some(file(&cluster.dir, "resolv.conf", &text));
}

/// An address for every question of that kind about `outside.example`; no such name for all others.
fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let name = b"\x07outside\x07example\x00";
    let question = query.get(12..)?;
    let known = question
        .get(..name.len())
        .is_some_and(|asked| asked.eq_ignore_ascii_case(name));
    let kind = question
        .get(question.iter().position(|byte| *byte == 0)? + 1..)?
        .get(..4)?;
    let is_address = known && kind[..2] == [0, 1];
    let mut answer = query[..2].to_vec();
    answer.extend([
        0x81,
        if known { 0x80 } else { 0x83 },
        0,
        1,
        0,
        u8::from(is_address),
        0,
        0,
        0,
        0,
    ]);
    let length = question.iter().position(|byte| *byte == 0)? + 5;
    answer.extend(&question[..length]);
    if is_address {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4]);
        answer.extend(ANSWER);
    }
    Some(answer)
}

pub fn outside(cluster: &mut Cluster) {
    let looked_up = until("an outside name is resolved", 20, || {
        let outcome = cluster.kubectl("exec -n demo tools -- nslookup -type=a outside.example");
        contains(&outcome.stdout, &["192.0.2.77"]).map(|()| outcome.stdout)
    });
    must_contain(&looked_up, &["10.96.0.10"]);
    // The machine's own search path is the last of the pod's.
    until("a short outside name is resolved", 20, || {
        let outcome = cluster.kubectl("exec -n demo tools -- ping -c 1 -W 1 outside");
        contains(&format!("{}{}", outcome.stdout, outcome.stderr), &["192.0.2.77"])
    });
    let absent = cluster.kubectl("exec -n demo tools -- nslookup -type=a absent.example");
    must_contain(&format!("{}{}", absent.stdout, absent.stderr), &["NXDOMAIN"]);
}
