use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn config(ips: &[[u8; 4]]) -> PkiConfig {
    let ips: Vec<IpAddr> = ips.iter().map(|ip| IpAddr::from(*ip)).collect();
    PkiConfig {
        apiserver: apiserver_alt_names("cluster.local", IpAddr::from([10, 96, 0, 1]), &["host".into()], &ips),
        node_name: "n1".into(),
        node_ips: ips,
    }
}

#[test]
fn second_open_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let first = Pki::open(dir.path(), &config(&[[192, 0, 2, 1]])).unwrap();
    let second = Pki::open(dir.path(), &config(&[[192, 0, 2, 1]])).unwrap();
    assert_eq!(first.ca_pem, second.ca_pem);
    assert_eq!(first.apiserver.cert_pem, second.apiserver.cert_pem);
    assert_eq!(first.admin.cert_pem, second.admin.cert_pem);
    assert_eq!(first.service_account_key_pem, second.service_account_key_pem);
}

#[test]
fn a_new_address_renews_only_the_serving_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let first = Pki::open(dir.path(), &config(&[[192, 0, 2, 1]])).unwrap();
    let second = Pki::open(dir.path(), &config(&[[192, 0, 2, 1], [192, 0, 2, 2]])).unwrap();
    assert_ne!(first.apiserver.cert_pem, second.apiserver.cert_pem);
    assert_ne!(first.kubelet_server.cert_pem, second.kubelet_server.cert_pem);
    assert_eq!(first.admin.cert_pem, second.admin.cert_pem);
    assert_eq!(first.ca_pem, second.ca_pem);
}

#[test]
fn a_leaf_of_another_authority_is_signed_anew() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = Pki::open(a.path(), &config(&[])).unwrap();
    Pki::open(b.path(), &config(&[])).unwrap();
    for file in ["ca.crt", "ca.key"] {
        fs::copy(b.path().join(file), a.path().join(file)).unwrap();
    }
    let second = Pki::open(a.path(), &config(&[])).unwrap();
    assert_ne!(first.admin.cert_pem, second.admin.cert_pem);
    server_config(&second.apiserver, &second.ca_pem).unwrap();
    client_config(&second.ca_pem, Some(&second.admin)).unwrap();
}

#[test]
fn keys_are_private_and_rubbish_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    Pki::open(dir.path(), &config(&[])).unwrap();
    for key in ["ca.key", "sa.key", "admin.key"] {
        assert_eq!(
            fs::metadata(dir.path().join(key)).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    fs::write(dir.path().join("ca.key"), "rubbish").unwrap();
    let error = Pki::open(dir.path(), &config(&[])).unwrap_err();
    assert!(matches!(error, PkiError::Unusable { .. }), "{error}");
    assert_eq!(fs::read_to_string(dir.path().join("ca.key")).unwrap(), "rubbish");
}
