//! The committed data says what upstream's sources say.

use schema::model::{ListKind, MapKind};
use schema::{Docs, Schema, Shape, builtin};

fn pod() -> schema::TypeRef<'static> {
    builtin().kind("", "v1", "Pod").expect("Pod is registered")
}

#[test]
fn kinds_are_found_by_gvk_and_by_name() {
    let schema = builtin();
    assert_eq!(
        schema.root_of("", "v1", "Pod"),
        schema.by_name("io.k8s.api.core.v1.Pod")
    );
    assert_eq!(
        schema.root_of("apps", "v1", "Deployment"),
        schema.by_name("io.k8s.api.apps.v1.Deployment")
    );
    assert!(schema.root_of("apps", "v1", "DeleteOptions").is_some());
    assert_eq!(schema.root_of("apps", "v1", "Pod"), None);
}

#[test]
fn fields_carry_what_patching_and_applying_need() {
    let spec = pod().field("spec").expect("spec").ty();
    let containers = spec.field("containers").expect("containers");
    assert_eq!(
        (containers.number(), containers.patch_strategy(), containers.merge_key()),
        (2, Some("merge"), Some("name"))
    );
    assert!(containers.required() && !containers.omitempty());
    let Shape::List(list) = containers.ty().kind() else {
        panic!("containers is a list")
    };
    assert_eq!(*list.kind, ListKind::Map(["name".to_owned()].into()));
    let ports = list.elem().field("ports").expect("ports");
    let protocol = ports
        .ty()
        .elem()
        .and_then(|port| port.field("protocol"))
        .expect("protocol");
    assert_eq!(protocol.default(), Some(&"TCP".into()));
    assert_eq!(
        protocol.ty().enum_values().expect("an enumeration").collect::<Vec<_>>(),
        ["SCTP", "TCP", "UDP"]
    );
    let volumes = spec.field("volumes").expect("volumes");
    assert_eq!(volumes.patch_strategy(), Some("merge,retainKeys"));
    let volume = volumes.ty().elem().expect("an item");
    assert!(volume.field("configMap").is_some(), "embedded structs are seen through");
    assert_eq!(volume.field("volumeSource").map(|f| f.number()), None);
    let selector = spec.field("nodeSelector").expect("nodeSelector");
    assert!(matches!(selector.ty().kind(), Shape::Map(map) if map.kind == MapKind::Atomic));
    assert_eq!(spec.field("affinity").expect("affinity").ty().go_name(), "v1.Affinity");
}

#[test]
fn documentation_is_aligned() {
    let docs = Docs::builtin();
    let pod = pod();
    let pod_struct = pod.as_struct().expect("a struct");
    assert!(
        docs.of_struct(pod_struct.id())
            .starts_with("Pod is a collection of containers")
    );
    let spec = pod.field("spec").expect("spec");
    assert!(
        docs.of_field(spec)
            .starts_with("Specification of the desired behavior of the pod.")
    );
    assert!(
        docs.of_other("io.k8s.apimachinery.pkg.api.resource.Quantity")
            .starts_with("Quantity is")
    );
}

#[test]
fn damaged_data_is_refused() {
    let bytes = builtin().to_bytes();
    assert!(Schema::from_bytes(&bytes[..bytes.len() / 2]).is_err());
    assert!(Schema::from_bytes(b"").is_err());
    assert_eq!(Schema::from_bytes(&bytes).expect("whole").to_bytes(), bytes);
}
