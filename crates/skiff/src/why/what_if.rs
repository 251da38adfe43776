//! `--what-if`: changes of the cluster that are only thought.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};
use typed::Decoded;

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhatIf {
    /// `drain=NODE`: it is cordoned, and its pods go elsewhere.
    Drain(String),
    /// `add-node=cpu=4,memory=16Gi` or `add-node=like=NODE`.
    AddNode(NewNode),
    /// `scale=deploy/NAME=N`.
    Scale { name: String, replicas: u32 },
}

/// How an added node is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewNode {
    pub like: Option<String>,
    pub resources: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

impl FromStr for WhatIf {
    type Err = String;

    fn from_str(text: &str) -> Result<WhatIf, String> {
        let usage = "drain=NODE, add-node=cpu=4,memory=16Gi[,zone=Z][,label.KEY=VALUE], add-node=like=NODE, \
                     or scale=deploy/NAME=N";
        let wrong = || format!("{text:?} is none of {usage}");
        let (what, rest) = text.split_once('=').ok_or_else(wrong)?;
        match what {
            "drain" if !rest.is_empty() => Ok(WhatIf::Drain(rest.to_owned())),
            "add-node" => rest.parse().map(WhatIf::AddNode),
            "scale" => {
                let (target, replicas) = rest.rsplit_once('=').ok_or_else(wrong)?;
                let (kind, name) = target.split_once('/').ok_or_else(wrong)?;
                if !matches!(kind, "deploy" | "deployment" | "deployments") {
                    return Err(format!("only Deployments can be scaled here, not {kind:?}"));
                }
                let replicas = replicas
                    .parse()
                    .map_err(|_| format!("{replicas:?} is no number of replicas"))?;
                Ok(WhatIf::Scale {
                    name: name.to_owned(),
                    replicas,
                })
            }
            _ => Err(wrong()),
        }
    }
}

impl FromStr for NewNode {
    type Err = String;

    fn from_str(text: &str) -> Result<NewNode, String> {
        let mut node = NewNode::default();
        for part in text.split(',') {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| format!("{part:?} is not resource=amount"))?;
            match key.strip_prefix("label.") {
                Some(label) => drop(node.labels.insert(label.to_owned(), value.to_owned())),
                None if key == "like" => node.like = Some(value.to_owned()),
                None if key == "zone" => {
                    node.labels
                        .insert("topology.kubernetes.io/zone".to_owned(), value.to_owned());
                }
                None => {
                    let amount: api::Quantity =
                        value.parse().map_err(|_| format!("{value:?} is no amount of {key}"))?;
                    node.resources.insert(key.to_owned(), amount.to_string());
                }
            }
        }
        Ok(node)
    }
}

impl NewNode {
    /// The object: empty, ready, and without taints unless the node that it is like has some of its own.
    pub fn build(&self, name: &str, like: Option<&Node>) -> Result<Node> {
        let like = like.map(serde_json::to_value).transpose()?.unwrap_or(Value::Null);
        let mut resources = json!({"cpu": "4", "memory": "16Gi", "ephemeral-storage": "100Gi", "pods": "110"});
        if like["status"]["allocatable"].is_object() {
            resources = like["status"]["allocatable"].clone();
        }
        for (key, amount) in &self.resources {
            resources[key] = json!(amount);
        }
        let mut labels = json!({"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"});
        if like["metadata"]["labels"].is_object() {
            labels = like["metadata"]["labels"].clone();
        }
        for (key, value) in &self.labels {
            labels[key] = json!(value);
        }
        labels["kubernetes.io/hostname"] = json!(name);
        // What says how a node is at the moment is not what it is like.
        let taints = like["spec"]["taints"].as_array().into_iter().flatten();
        let taints: Vec<&Value> = taints
            .filter(|taint| {
                !taint["key"]
                    .as_str()
                    .unwrap_or_default()
                    .starts_with("node.kubernetes.io/")
            })
            .collect();
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {"taints": taints},
            "status": {
                "capacity": resources, "allocatable": resources, "conditions": [{"type": "Ready", "status": "True"}],
            },
        });
        Node::from_tree(&node).context("the node that is added")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read() {
        assert_eq!("drain=n1".parse(), Ok(WhatIf::Drain("n1".into())));
        let scale = WhatIf::Scale {
            name: "web".into(),
            replicas: 7,
        };
        assert_eq!("scale=deploy/web=7".parse(), Ok(scale));
        let Ok(WhatIf::AddNode(node)) = "add-node=cpu=8,memory=1024Mi,zone=z1,label.disk=ssd".parse() else {
            panic!("a node")
        };
        let node = node.build("new", None).unwrap();
        let labels = node.metadata.labels.unwrap();
        assert_eq!(
            (labels["disk"].as_str(), labels["topology.kubernetes.io/zone"].as_str()),
            ("ssd", "z1")
        );
        let allocatable = node.status.unwrap().allocatable.unwrap();
        assert_eq!(
            (allocatable["cpu"].0.as_str(), allocatable["memory"].0.as_str()),
            ("8", "1Gi")
        );
        for bad in [
            "",
            "drain",
            "drain=",
            "scale=sts/x=1",
            "scale=deploy/x",
            "scale=deploy/x=-1",
            "add-node=cpu=much",
            "x=y",
        ] {
            assert!(bad.parse::<WhatIf>().is_err(), "{bad}");
        }
    }
}
