//! The options of a connection as an object: `PodExecOptions` and its like, from the query
//! (upstream `registry/core/pod/rest/subresources.go`, `apis/core/v1/defaults.go`).

use api::{Gvk, Map, Value};

use crate::call::Call;

/// Reads the query as that kind, in the shape of its JSON.
pub(super) fn read(call: &Call, gvk: &Gvk) -> Value {
    let query = &call.query;
    let mut object = Value::Object(Map::new());
    gvk.stamp(&mut object);
    match gvk.kind.as_str() {
        "PodExecOptions" | "PodAttachOptions" => {
            for (stream, default) in [("stdin", false), ("stdout", true), ("stderr", true), ("tty", false)] {
                if query.optional_flag(stream).unwrap_or(default) {
                    object[stream] = true.into();
                }
            }
            if let Some(container) = query.non_empty("container") {
                object["container"] = container.into();
            }
            if gvk.kind == "PodExecOptions" {
                let command: Vec<&str> = query.all("command").collect();
                object["command"] = if command.is_empty() {
                    Value::Null
                } else {
                    command.into()
                };
            }
        }
        "PodPortForwardOptions" => {
            let ports: Vec<i32> = query
                .all("ports")
                .flat_map(|list| list.split(','))
                .filter_map(|port| port.parse().ok())
                .collect();
            if !ports.is_empty() {
                object["ports"] = ports.into();
            }
        }
        _ => {
            let rest = call.info.path.split_once("/proxy").map_or("", |(_, rest)| rest);
            let rest = rest.strip_prefix('/').unwrap_or(rest);
            if !rest.is_empty() {
                object["path"] = rest.into();
            }
        }
    }
    object
}
