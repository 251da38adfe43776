//! The columns of every table, as upstream's server answers them. `Name:s/name` is a string column
//! of format `name`, `*1` one that is shown with `-o wide` only. Kinds without columns of their own
//! get the server's default table.

const TABLES: &str = "\
componentstatuses: Name:s/name, Status:s, Message:s, Error:s
configmaps: Name:s/name, Data:s, Age:s
endpoints: Name:s/name, Endpoints:s, Age:s
events: Last Seen:s, Type:s, Reason:s, Object:s, Subobject:s*1, Source:s*1, Message:s, First Seen:s*1, Count:s*1, Name:s/name*1
limitranges:
namespaces: Name:s/name, Status:s, Age:s
nodes: Name:s/name, Status:s, Roles:s, Age:s, Version:s, Internal-IP:s*1, External-IP:s*1, OS-Image:s*1, Kernel-Version:s*1, Container-Runtime:s*1
persistentvolumeclaims: Name:s/name, Status:s, Volume:s, Capacity:s, Access Modes:s, StorageClass:s, VolumeAttributesClass:s, Age:s, VolumeMode:s*1
persistentvolumes: Name:s/name, Capacity:s, Access Modes:s, Reclaim Policy:s, Status:s, Claim:s, StorageClass:s, VolumeAttributesClass:s, Reason:s, Age:s, VolumeMode:s*1
pods: Name:s/name, Ready:s, Status:s, Restarts:s, Age:s, IP:s*1, Node:s*1, Nominated Node:s*1, Readiness Gates:s*1
podtemplates: Name:s/name, Containers:s, Images:s, Pod Labels:s
replicationcontrollers: Name:s/name, Desired:i, Current:i, Ready:i, Age:s, Containers:s*1, Images:s*1, Selector:s*1
resourcequotas: Name:s/name, Age:s, Request:s, Limit:s
secrets: Name:s/name, Type:s, Data:s, Age:s
serviceaccounts: Name:s/name, Secrets:s, Age:s
services: Name:s/name, Type:s, Cluster-IP:s, External-IP:s, Port(s):s, Age:s, Selector:s*1
mutatingadmissionpolicies.admissionregistration.k8s.io: Name:s/name, Mutations:i, ParamKind:s, Age:s
mutatingadmissionpolicybindings.admissionregistration.k8s.io: Name:s/name, PolicyName:s, ParamRef:s, Age:s
mutatingwebhookconfigurations.admissionregistration.k8s.io: Name:s/name, Webhooks:i, Age:s
validatingadmissionpolicies.admissionregistration.k8s.io: Name:s/name, Validations:i, ParamKind:s, Age:s
validatingadmissionpolicybindings.admissionregistration.k8s.io: Name:s/name, PolicyName:s, ParamRef:s, Age:s
validatingwebhookconfigurations.admissionregistration.k8s.io: Name:s/name, Webhooks:i, Age:s
apiservices.apiregistration.k8s.io: Name:s/name, Service:s, Available:s, Age:s
controllerrevisions.apps: Name:s/name, Controller:s, Revision:s, Age:s
daemonsets.apps: Name:s/name, Desired:i, Current:i, Ready:i, Up-to-date:i, Available:i, Node Selector:s, Age:s, Containers:s*1, Images:s*1, Selector:s*1
deployments.apps: Name:s/name, Ready:s, Up-to-date:s, Available:s, Age:s, Containers:s*1, Images:s*1, Selector:s*1
replicasets.apps: Name:s/name, Desired:i, Current:i, Ready:i, Age:s, Containers:s*1, Images:s*1, Selector:s*1
statefulsets.apps: Name:s/name, Ready:s, Age:s, Containers:s*1, Images:s*1
horizontalpodautoscalers.autoscaling: Name:s/name, Reference:s, Targets:s, MinPods:s, MaxPods:s, Replicas:s, Age:s
horizontalpodautoscalers.autoscaling: Name:s/name, Reference:s, Targets:s, MinPods:s, MaxPods:s, Replicas:s, Age:s
cronjobs.batch: Name:s/name, Schedule:s, Timezone:s, Suspend:b, Active:i, Last Schedule:s, Age:s, Containers:s*1, Images:s*1, Selector:s*1
jobs.batch: Name:s/name, Status:s, Completions:s, Duration:s, Age:s, Containers:s*1, Images:s*1, Selector:s*1
certificatesigningrequests.certificates.k8s.io: Name:s/name, Age:s, SignerName:s, Requestor:s, RequestedDuration:s, Condition:s
clustertrustbundles.certificates.k8s.io: Name:s/name, SignerName:s
podcertificaterequests.certificates.k8s.io: Name:s/name, PodName:s, ServiceAccountName:s, NodeName:s, SignerName:s, State:s, Age:s
leases.coordination.k8s.io: Name:s/name, Holder:s, Age:s
endpointslices.discovery.k8s.io: Name:s/name, AddressType:s, Ports:s, Endpoints:s, Age:s
events.events.k8s.io: Last Seen:s, Type:s, Reason:s, Object:s, Subobject:s*1, Source:s*1, Message:s, First Seen:s*1, Count:s*1, Name:s/name*1
flowschemas.flowcontrol.apiserver.k8s.io: Name:s/name, PriorityLevel:s, MatchingPrecedence:s, DistinguisherMethod:s, Age:s, MissingPL:s
prioritylevelconfigurations.flowcontrol.apiserver.k8s.io: Name:s/name, Type:s, NominalConcurrencyShares:s, Queues:s, HandSize:s, QueueLengthLimit:s, Age:s
ingressclasses.networking.k8s.io: Name:s/name, Controller:s, Parameters:s, Age:s
ingresses.networking.k8s.io: Name:s/name, Class:s, Hosts:s, Address:s, Ports:s, Age:s
ipaddresses.networking.k8s.io: Name:s/name, ParentRef:s, Age:s
networkpolicies.networking.k8s.io: Name:s/name, Pod-Selector:s, Age:s
servicecidrs.networking.k8s.io: Name:s/name, CIDRs:s, Age:s
runtimeclasses.node.k8s.io: Name:s/name, Handler:s, Age:s
poddisruptionbudgets.policy: Name:s/name, Min Available:s, Max Unavailable:s, Allowed Disruptions:i, Age:s
clusterrolebindings.rbac.authorization.k8s.io: Name:s/name, Role:s, Age:s, Users:s*1, Groups:s*1, ServiceAccounts:s*1
clusterroles.rbac.authorization.k8s.io:
rolebindings.rbac.authorization.k8s.io: Name:s/name, Role:s, Age:s, Users:s*1, Groups:s*1, ServiceAccounts:s*1
roles.rbac.authorization.k8s.io:
deviceclasses.resource.k8s.io: Name:s/name, Age:s
devicetaintrules.resource.k8s.io: Name:s/name, Age:s
resourceclaims.resource.k8s.io: Name:s/name, State:s, Age:s
resourceclaimtemplates.resource.k8s.io: Name:s/name, Age:s
resourceslices.resource.k8s.io: Name:s/name, Node:s, Driver:s, Pool:s, Age:s
priorityclasses.scheduling.k8s.io: Name:s/name, Value:i, Global-Default:b, Age:s, PreemptionPolicy:s
csidrivers.storage.k8s.io: Name:s/name, AttachRequired:b, PodInfoOnMount:b, StorageCapacity:b, TokenRequests:s, RequiresRepublish:b, Modes:s, Age:s
csinodes.storage.k8s.io: Name:s/name, Drivers:i, Age:s
csistoragecapacities.storage.k8s.io: Name:s/name, StorageClassName:s, Capacity:s
storageclasses.storage.k8s.io: Name:s/name, Provisioner:s, ReclaimPolicy:s, VolumeBindingMode:s, AllowVolumeExpansion:s, Age:s
volumeattachments.storage.k8s.io: Name:s/name, Attacher:s/name, PV:s, Node:s, Attached:b, Age:s
volumeattributesclasses.storage.k8s.io: Name:s/name, DriverName:s, Age:s
storageversionmigrations.storagemigration.k8s.io: Name:s, Resource:s
";

#[test]
fn columns_are_upstreams() {
    let kinds = kinds::all();
    let mut lines = Vec::new();
    for kind in &kinds {
        let columns = kind.columns.iter().map(|column| {
            let format = if column.format.is_empty() {
                String::new()
            } else {
                format!("/{}", column.format)
            };
            let wide = if column.priority == 0 {
                String::new()
            } else {
                format!("*{}", column.priority)
            };
            format!("{}:{}{format}{wide}", column.name, &column.r#type[..1])
        });
        let group = if kind.gvk.group.is_empty() {
            String::new()
        } else {
            format!(".{}", kind.gvk.group)
        };
        let columns: Vec<String> = columns.collect();
        let space = if columns.is_empty() { "" } else { " " };
        lines.push(format!("{}{group}:{space}{}", kind.plural, columns.join(", ")));
    }
    assert_eq!(lines.join("\n"), TABLES.trim_end());
}
