//! Cluster roles of users, of the system's components and of add-ons
//! (`plugin/pkg/auth/authorizer/rbac/bootstrappolicy/policy.go`).
//!
//! A rule is written `verbs : groups : resources [: names]`, or `verbs @ paths`; words are
//! separated by spaces, and `core` is the group without a name.

use super::Role;

/// In the order of their names, without the aggregated ones.
pub(super) const ROLES: &[Role] = &[
    Role {
        name: "cluster-admin",
        aggregate_to: "",
        rules: &["* : * : *", "* @ *"],
    },
    Role {
        name: "system:aggregate-to-admin",
        aggregate_to: "admin",
        rules: &[
            "create : authorization.k8s.io : localsubjectaccessreviews",
            "create delete deletecollection get list patch update watch : rbac.authorization.k8s.io : \
             rolebindings roles",
        ],
    },
    Role {
        name: "system:aggregate-to-edit",
        aggregate_to: "edit",
        rules: &[
            "get list watch : core : pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy",
            "impersonate : core : serviceaccounts",
            "create delete deletecollection patch update : core : pods pods/attach pods/exec \
             pods/portforward pods/proxy",
            "create : core : pods/eviction",
            "create delete deletecollection patch update : core : configmaps \
             persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets \
             serviceaccounts services services/proxy",
            "create : core : serviceaccounts/token",
            "create delete deletecollection patch update : core events.k8s.io : events",
            "create delete deletecollection patch update : apps : daemonsets deployments \
             deployments/rollback deployments/scale replicasets replicasets/scale statefulsets \
             statefulsets/scale",
            "create delete deletecollection patch update : autoscaling : horizontalpodautoscalers",
            "create delete deletecollection patch update : batch : cronjobs jobs",
            "create delete deletecollection patch update : extensions : daemonsets deployments \
             deployments/rollback deployments/scale ingresses networkpolicies replicasets \
             replicasets/scale replicationcontrollers/scale",
            "create delete deletecollection patch update : policy : poddisruptionbudgets",
            "create delete deletecollection patch update : networking.k8s.io : ingresses networkpolicies",
            "create delete deletecollection get list patch update watch : coordination.k8s.io : leases",
            "create delete deletecollection patch update : resource.k8s.io : resourceclaims \
             resourceclaimtemplates",
        ],
    },
    Role {
        name: "system:aggregate-to-view",
        aggregate_to: "view",
        rules: &[
            "get list watch : core : configmaps endpoints persistentvolumeclaims \
             persistentvolumeclaims/status pods replicationcontrollers replicationcontrollers/scale \
             serviceaccounts services services/status",
            "get list watch : core : bindings limitranges namespaces/status pods/log pods/status \
             replicationcontrollers/status resourcequotas resourcequotas/status",
            "get list watch : core : namespaces",
            "get list watch : core events.k8s.io : events",
            "get list watch : discovery.k8s.io : endpointslices",
            "get list watch : apps : controllerrevisions daemonsets daemonsets/status deployments \
             deployments/scale deployments/status replicasets replicasets/scale replicasets/status \
             statefulsets statefulsets/scale statefulsets/status",
            "get list watch : autoscaling : horizontalpodautoscalers horizontalpodautoscalers/status",
            "get list watch : batch : cronjobs cronjobs/status jobs jobs/status",
            "get list watch : extensions : daemonsets daemonsets/status deployments deployments/scale \
             deployments/status ingresses ingresses/status networkpolicies replicasets replicasets/scale \
             replicasets/status replicationcontrollers/scale",
            "get list watch : policy : poddisruptionbudgets poddisruptionbudgets/status",
            "get list watch : networking.k8s.io : ingresses ingresses/status networkpolicies",
            "get list watch : resource.k8s.io : resourceclaims resourceclaims/status resourceclaimtemplates",
        ],
    },
    Role {
        name: "system:auth-delegator",
        aggregate_to: "",
        rules: &[
            "create : authentication.k8s.io : tokenreviews",
            "create : authorization.k8s.io : subjectaccessreviews",
        ],
    },
    Role {
        name: "system:basic-user",
        aggregate_to: "",
        rules: &[
            "create : authorization.k8s.io : selfsubjectaccessreviews selfsubjectrulesreviews",
            "create : authentication.k8s.io : selfsubjectreviews",
        ],
    },
    Role {
        name: "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        aggregate_to: "",
        rules: &["create : certificates.k8s.io : certificatesigningrequests/nodeclient"],
    },
    Role {
        name: "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        aggregate_to: "",
        rules: &["create : certificates.k8s.io : certificatesigningrequests/selfnodeclient"],
    },
    Role {
        name: "system:certificates.k8s.io:kube-apiserver-client-approver",
        aggregate_to: "",
        rules: &["approve : certificates.k8s.io : signers : kubernetes.io/kube-apiserver-client"],
    },
    Role {
        name: "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        aggregate_to: "",
        rules: &["approve : certificates.k8s.io : signers : kubernetes.io/kube-apiserver-client-kubelet"],
    },
    Role {
        name: "system:certificates.k8s.io:kubelet-serving-approver",
        aggregate_to: "",
        rules: &["approve : certificates.k8s.io : signers : kubernetes.io/kubelet-serving"],
    },
    Role {
        name: "system:certificates.k8s.io:legacy-unknown-approver",
        aggregate_to: "",
        rules: &["approve : certificates.k8s.io : signers : kubernetes.io/legacy-unknown"],
    },
    Role {
        name: "system:cluster-trust-bundle-discovery",
        aggregate_to: "",
        rules: &["get list watch : certificates.k8s.io : clustertrustbundles"],
    },
    Role {
        name: "system:discovery",
        aggregate_to: "",
        rules: &["get @ /api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/"],
    },
    Role {
        name: "system:heapster",
        aggregate_to: "",
        rules: &[
            "get list watch : core : events namespaces nodes pods",
            "get list watch : extensions : deployments",
        ],
    },
    Role {
        name: "system:kube-aggregator",
        aggregate_to: "",
        rules: &["get list watch : core : endpoints services"],
    },
    Role {
        name: "system:kube-controller-manager",
        aggregate_to: "",
        rules: &[
            "create patch update : core events.k8s.io : events",
            "create : coordination.k8s.io : leases",
            "get update : coordination.k8s.io : leases : kube-controller-manager",
            "create : core : secrets serviceaccounts",
            "delete : core : secrets",
            "get : core : configmaps namespaces secrets serviceaccounts",
            "update : core : secrets serviceaccounts",
            "create : authentication.k8s.io : tokenreviews",
            "create : authorization.k8s.io : subjectaccessreviews",
            "list watch : * : *",
            "create : core : serviceaccounts/token",
        ],
    },
    Role {
        name: "system:kube-dns",
        aggregate_to: "",
        rules: &["list watch : core : endpoints services"],
    },
    Role {
        name: "system:kube-scheduler",
        aggregate_to: "",
        rules: &[
            "create patch update : core events.k8s.io : events",
            "create : coordination.k8s.io : leases",
            "get list update watch : coordination.k8s.io : leases : kube-scheduler",
            "create delete deletecollection get list patch update watch : coordination.k8s.io : leasecandidates",
            "get list watch : core : nodes",
            "delete get list watch : core : pods",
            "create : core : bindings pods/binding",
            "patch update : core : pods/status",
            "get list watch : core : replicationcontrollers services",
            "get list watch : apps extensions : replicasets",
            "get list watch : apps : statefulsets",
            "get list watch : policy : poddisruptionbudgets",
            "get list watch : core : persistentvolumeclaims persistentvolumes",
            "create : authentication.k8s.io : tokenreviews",
            "create : authorization.k8s.io : subjectaccessreviews",
            "get list watch : storage.k8s.io : csinodes",
            "get list watch : storage.k8s.io : volumeattachments",
            "get list watch : core : namespaces",
            "get list watch : storage.k8s.io : csidrivers",
            "get list watch : storage.k8s.io : csistoragecapacities",
            "get list watch : resource.k8s.io : deviceclasses",
            "get list patch update watch : resource.k8s.io : resourceclaims",
            "get list patch update watch : resource.k8s.io : resourceclaims/status",
            "update : core : pods/finalizers",
            "get list watch : resource.k8s.io : resourceslices",
            "create delete : resource.k8s.io : resourceclaims",
            "get list watch : resource.k8s.io : devicetaintrules",
            "patch update : resource.k8s.io : resourceclaims/binding",
        ],
    },
    Role {
        name: "system:kubelet-api-admin",
        aggregate_to: "",
        rules: &[
            "get list watch : core : nodes",
            "proxy : core : nodes",
            "* : core : nodes/log nodes/metrics nodes/proxy nodes/stats",
            "* : core : nodes/configz nodes/healthz nodes/pods",
        ],
    },
    Role {
        name: "system:monitoring",
        aggregate_to: "",
        rules: &[
            "get @ /flagz /healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/* /statusz",
            "get : core : nodes/metrics",
        ],
    },
    Role {
        name: "system:node",
        aggregate_to: "",
        rules: &[
            "create : authentication.k8s.io : tokenreviews",
            "create : authorization.k8s.io : localsubjectaccessreviews subjectaccessreviews",
            "get list watch : core : services",
            "create get list watch : core : nodes",
            "patch update : core : nodes/status",
            "patch update : core : nodes",
            "create patch update : core events.k8s.io : events",
            "get list watch : core : pods",
            "create delete : core : pods",
            "patch update : core : pods/status",
            "create : core : pods/eviction",
            "get list watch : core : configmaps secrets",
            "get : core : persistentvolumeclaims persistentvolumes",
            "get : core : endpoints",
            "create get list watch : certificates.k8s.io : certificatesigningrequests",
            "create delete get patch update : coordination.k8s.io : leases",
            "get : storage.k8s.io : volumeattachments",
            "create : core : serviceaccounts/token",
            "get patch update : core : persistentvolumeclaims/status",
            "get list watch : storage.k8s.io : csidrivers",
            "create delete get patch update : storage.k8s.io : csinodes",
            "get list watch : node.k8s.io : runtimeclasses",
            "get : resource.k8s.io : resourceclaims",
            "deletecollection : resource.k8s.io : resourceslices",
            "get list watch : certificates.k8s.io : clustertrustbundles",
            "get : core : serviceaccounts",
            "create get list watch : certificates.k8s.io : podcertificaterequests",
        ],
    },
    Role {
        name: "system:node-bootstrapper",
        aggregate_to: "",
        rules: &["create get list watch : certificates.k8s.io : certificatesigningrequests"],
    },
    Role {
        name: "system:node-problem-detector",
        aggregate_to: "",
        rules: &[
            "get : core : nodes",
            "patch : core : nodes/status",
            "create patch update : core events.k8s.io : events",
        ],
    },
    Role {
        name: "system:node-proxier",
        aggregate_to: "",
        rules: &[
            "list watch : core : endpoints services",
            "get list watch : core : nodes",
            "create patch update : core events.k8s.io : events",
            "list watch : networking.k8s.io : servicecidrs",
            "list watch : discovery.k8s.io : endpointslices",
        ],
    },
    Role {
        name: "system:persistent-volume-provisioner",
        aggregate_to: "",
        rules: &[
            "create delete get list watch : core : persistentvolumes",
            "get list update watch : core : persistentvolumeclaims",
            "get list watch : storage.k8s.io : storageclasses",
            "watch : core : events",
            "create patch update : core events.k8s.io : events",
        ],
    },
    Role {
        name: "system:public-info-viewer",
        aggregate_to: "",
        rules: &["get @ /healthz /livez /readyz /version /version/"],
    },
    Role {
        name: "system:service-account-issuer-discovery",
        aggregate_to: "",
        rules: &[
            "get @ /.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks \
             /openid/v1/jwks/",
        ],
    },
    Role {
        name: "system:volume-scheduler",
        aggregate_to: "",
        rules: &[
            "get list patch update watch : core : persistentvolumes",
            "get list watch : storage.k8s.io : storageclasses",
            "get list patch update watch : core : persistentvolumeclaims",
        ],
    },
];
