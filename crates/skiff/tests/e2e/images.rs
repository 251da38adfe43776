//! Images from files and from a registry.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::cluster::{Cluster, SKIFF, contains, file, must_contain, run_for, until};
use crate::image_tar::build;
use crate::manifests::puller;
use crate::registry::{PASSWORD, USER, serve};

pub const TOOLS: &str = "e2e.local/tools:1";
pub const WEB: &str = "e2e.local/web:2";
const LATE: &str = "e2e.local/late:3";

pub fn import(cluster: &mut Cluster) {
    let tools = build(&cluster.dir, "tools", &["sh"], "tools\n").docker_archive(&cluster.dir, TOOLS);
    let web = build(
        &cluster.dir,
        "web",
        &["httpd", "-f", "-p", "8080", "-h", "/www"],
        "web\n",
    )
    .oci_archive(&cluster.dir, WEB);
    must_contain(
        &cluster
            .skiff(&format!("image import {} {}", tools.display(), web.display()))
            .ok(),
        &[TOOLS, WEB],
    );
    must_contain(&cluster.skiff("image list").ok(), &["IMAGE", TOOLS, WEB, "MiB"]);
    let junk = file(&cluster.dir, "junk.tar", "no archive");
    must_contain(
        &cluster.skiff(&format!("image import {}", junk.display())).fails(),
        &["junk.tar"],
    );
    must_contain(&cluster.skiff("image import /absent.tar").fails(), &["/absent.tar"]);
    must_contain(
        &cluster.skiff("image remove e2e.local/absent:1").fails(),
        &["there is no image e2e.local/absent:1"],
    );
    must_contain(&cluster.skiff(&format!("image remove {WEB}")).ok(), &["removed", WEB]);
    assert!(!cluster.skiff("image list").ok().contains(WEB));
    cluster.skiff(&format!("image import {}", web.display())).ok();
}

/// A registry with one image of its own.
pub fn served(cluster: &Cluster, wants_password: bool) -> SocketAddr {
    let name = if wants_password { "closed" } else { "open" };
    serve(
        Arc::new(build(&cluster.dir, name, &["sh"], &format!("{name}\n"))),
        wants_password,
    )
}

/// `skiff image` while skiff runs: what it does is seen by pods at once.
pub fn while_running(cluster: &mut Cluster) {
    let late = build(&cluster.dir, "late", &["cat", "/content"], "late\n").oci_archive(&cluster.dir, LATE);
    must_contain(
        &cluster.skiff(&format!("image import {}", late.display())).ok(),
        &["imported", LATE],
    );
    must_contain(&cluster.skiff("image list").ok(), &[TOOLS, LATE]);
    cluster
        .kubectl(&format!(
            "run late -n demo --image={LATE} --restart=Never --command -- sh -c true"
        ))
        .ok();
    reaches(cluster, "late", "Succeeded");
    cluster.kubectl("delete pod late -n demo --timeout=40s").ok();
    must_contain(&cluster.skiff(&format!("image remove {LATE}")).ok(), &["removed", LATE]);
    assert!(!cluster.skiff("image list").ok().contains(LATE));

    let (open, closed) = (served(cluster, false), served(cluster, true));
    let name = format!("{open}/any/name:1");
    let pulled = cluster.skiff(&format!("image pull {name}"));
    must_contain(&pulled.stderr, &["MiB", "layers"]);
    must_contain(&pulled.ok(), &["pulled", &name]);
    must_contain(&cluster.skiff("image list").ok(), &[&name]);
    let said = cluster.said();
    must_contain(&said, &[&format!("pulling {name}: "), &format!("pulled {name}: ")]);

    let name = format!("{closed}/any/name:1");
    must_contain(
        &cluster.skiff(&format!("image pull {name}")).fails(),
        &["refused access"],
    );
    let data = cluster.data.display().to_string();
    let mut pull = Command::new(SKIFF);
    pull.args(["image", "pull", &name, "-u", USER, "--data-dir", &data]);
    must_contain(
        &run_for(30, &mut pull, &format!("{PASSWORD}\n")).ok(),
        &["pulled", &name],
    );
    must_contain(
        &cluster.skiff(&format!("image pull {open}/any/name:absent")).fails(),
        &["not found"],
    );
}

/// The pod's only container has this phase, or waits for this reason.
pub fn reaches(cluster: &Cluster, pod: &str, wanted: &str) -> Value {
    until(&format!("pod {pod} is {wanted}"), 40, || {
        let object = cluster.object(&format!("pod/{pod} -n demo"));
        let status = object["status"].to_string();
        contains(&status, &[wanted]).map(|()| object)
    })
}

pub fn pull(cluster: &mut Cluster) {
    let image = Arc::new(build(&cluster.dir, "pulled", &["sh"], "pulled\n"));
    let open = serve(image.clone(), false);
    cluster
        .apply(&puller("pull-open", &format!("{open}/any/name:1"), "[]"))
        .ok();
    reaches(cluster, "pull-open", "Succeeded");
    must_contain(&cluster.kubectl("logs -n demo pull-open").ok(), &["pulled"]);
    let events = cluster
        .kubectl("get events -n demo --field-selector involvedObject.name=pull-open")
        .ok();
    must_contain(&events, &["Pulling", "Pulled", "Successfully pulled image"]);

    let closed = serve(image, true);
    let auth = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let config = json!({ "auths": { closed.to_string(): { "auth": auth } } }).to_string();
    let path = file(&cluster.dir, "docker.json", &config).display().to_string();
    cluster
        .kubectl(&format!("create secret generic reader -n demo --type=kubernetes.io/dockerconfigjson --from-file=.dockerconfigjson={path}"))
        .ok();
    cluster
        .apply(&puller(
            "pull-closed",
            &format!("{closed}/other/name:1"),
            "[{name: reader}]",
        ))
        .ok();
    reaches(cluster, "pull-closed", "Succeeded");
    cluster
        .apply(&puller("pull-refused", &format!("{closed}/third/name:1"), "[]"))
        .ok();
    reaches(cluster, "pull-refused", "ErrImagePull");
    let told = cluster.kubectl("describe pod pull-refused -n demo").ok();
    must_contain(&told, &["refused access", "imagePullSecrets"]);
    cluster
        .kubectl("delete pod pull-open pull-closed pull-refused -n demo --timeout=40s")
        .ok();
}

pub fn bad_images(cluster: &mut Cluster) {
    let registry = serve(Arc::new(build(&cluster.dir, "never", &["sh"], "never\n")), false);
    for (name, image, told) in [
        ("absent-image", format!("{registry}/any/name:absent"), "not found"),
        // Port 9 is discard's; nobody listens on it.
        (
            "absent-registry",
            "127.0.0.1:9/any/name:1".to_owned(),
            "cannot be reached",
        ),
    ] {
        cluster.apply(&puller(name, &image, "[]")).ok();
        reaches(cluster, name, "ErrImagePull");
        reaches(cluster, name, "ImagePullBackOff");
        must_contain(
            &cluster.kubectl(&format!("describe pod {name} -n demo")).ok(),
            &["Failed", told],
        );
    }
    cluster.apply(&puller("no-name", "UPPER CASE", "[]")).ok();
    reaches(cluster, "no-name", "InvalidImageName");
    cluster
        .kubectl("delete pod absent-image absent-registry no-name -n demo --timeout=40s")
        .ok();
}
